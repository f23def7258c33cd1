"""Finds the compiled loops, where numba is installed (the extra `fast`)."""

from __future__ import annotations

import functools
import importlib
from typing import Any


@functools.cache
def compiled(module: str = "compiled") -> Any:
    """A module of compiled loops, `compiled` or `compiled_single`; None without numba."""
    try:
        return importlib.import_module(f"saddlebag.algorithms.groupwise.kernels.{module}")
    except ImportError:
        return None
