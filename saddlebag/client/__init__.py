"""The worker: `core.py` computes and replays, `shell.py` moves bytes."""
