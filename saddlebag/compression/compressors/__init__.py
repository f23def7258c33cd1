"""Compressors: one file each."""
