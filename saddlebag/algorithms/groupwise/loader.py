"""Finds the compiled loops, where numba is installed (the extra `fast`)."""

from __future__ import annotations

import functools
import importlib
from typing import Any

__all__ = ["compiled"]


@functools.cache
def compiled() -> Any:
    """The module `compiled`, or None without numba."""
    try:
        return importlib.import_module("saddlebag.algorithms.groupwise.compiled")
    except ImportError:
        return None
