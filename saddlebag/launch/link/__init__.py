"""Linking programs with training loops of their own: the terms they agree on, the server's side, and `join`."""
