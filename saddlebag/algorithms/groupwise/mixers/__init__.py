"""Mixers of sleeping experts; one file each."""
