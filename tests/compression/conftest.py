"""Hypothesis without a deadline: the first call of NumPy's or protobuf's code pays for its import."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("saddlebag", deadline=None)
settings.load_profile("saddlebag")
