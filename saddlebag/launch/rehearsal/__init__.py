"""Runs in virtual time: the real cores of a server and its workers under a clock, a network and disks that a seed drives."""
