"""The compressors by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saddlebag.compression.grid import Grid
from saddlebag.compression.identity import Identity
from saddlebag.compression.low_rank import RankR
from saddlebag.compression.natural import Natural
from saddlebag.compression.rand_k import RandK, UnscaledRandK
from saddlebag.compression.top_k import TopK
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.compression.base import Compressor

__all__ = ["COMPRESSORS", "make_compressor"]

COMPRESSORS: dict[str, Callable[..., Compressor]] = {
    "grid": Grid,
    "identity": Identity,
    "low_rank": RankR,
    "natural": Natural,
    "rand_k": RandK,
    "top_k": TopK,
    "unscaled_rand_k": UnscaledRandK,
}


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
