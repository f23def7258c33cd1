"""Compressors that keep some of the coordinates."""
