"""Compressors made of compressors."""
