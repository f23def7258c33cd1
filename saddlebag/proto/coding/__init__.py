"""Codes of integers, levels and index sets, close to their entropy."""
