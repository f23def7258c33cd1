"""The parameter server: `core.py` decides, `shell.py` moves bytes."""
