"""Federations for trying things: a grid in this process, a deployment on this machine."""
