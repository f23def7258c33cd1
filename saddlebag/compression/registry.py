"""Compressors by name: ours, which `catalogue.py` lists, and those of plug-ins. It knows none of them, so all may use it."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from saddlebag.compression.base import Compressor

__all__ = ["COMPRESSORS", "make_compressor"]

COMPRESSORS: dict[str, Callable[..., Compressor]] = {}
"""Name -> factory; filled when `saddlebag.compression` is imported."""


def unknown_compressor(name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not among the known ones, with the nearest of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(f"unknown compressor {name!r}; {hint}known: {', '.join(names)}")


def make_compressor(name: str, **params: Any) -> Compressor:
    """Build a compressor by its registered name.

    Raises:
        ConfigError: the name is unknown, or the parameters do not fit it.

    Example:
        >>> make_compressor("top_k", k=3)
        TopK(k=3, fraction=None)
    """
    if name not in COMPRESSORS:
        raise unknown_compressor(name, COMPRESSORS)
    try:
        return COMPRESSORS[name](**params)
    except TypeError as error:
        raise ConfigError(f"compressor {name!r} does not take these parameters: {error}") from error
