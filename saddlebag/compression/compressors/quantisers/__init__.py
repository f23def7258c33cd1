"""Compressors that keep every coordinate and say each in fewer bits."""
