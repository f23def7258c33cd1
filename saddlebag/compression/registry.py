"""Compressors by name: ours, which `catalogue.py` lists, and those of plug-ins. It knows none of them, so all may use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.compression.base import Compressor

__all__ = ["COMPRESSORS", "make_compressor"]

COMPRESSORS: dict[str, Callable[..., Compressor]] = {}
"""Name -> factory; filled when `saddlebag.compression` is imported."""


def make_compressor(name: str, **params: Any) -> Compressor:
    """Build a compressor by its registered name.

    Raises:
        ConfigError: the name is unknown, or the parameters do not fit it.
    """
    if name not in COMPRESSORS:
        raise ConfigError(f"unknown compressor {name!r}; known: {', '.join(sorted(COMPRESSORS))}")
    try:
        return COMPRESSORS[name](**params)
    except TypeError as error:
        raise ConfigError(f"compressor {name!r} does not take these parameters: {error}") from error
