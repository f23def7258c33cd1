"""Loops over rounds that are compiled where numba is there."""
