"""Saddlebag: min-max games and variational inequalities, trained with compressed communication over gRPC.

The names below load on first use, so that `import saddlebag` costs nothing and imports neither torch nor grpc.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from saddlebag.version import __version__

if TYPE_CHECKING:
    from saddlebag.launch.api import make_compressor, make_method, make_problem, simulate

__all__ = ["__version__", "make_compressor", "make_method", "make_problem", "simulate"]

_LAZY = frozenset({"make_compressor", "make_method", "make_problem", "simulate"})


def __getattr__(name: str) -> Any:
    """Load a public name from `saddlebag.launch.api` when it is first asked for (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("saddlebag.launch.api"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
