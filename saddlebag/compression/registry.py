"""The compressors by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saddlebag.compression.adaptive import budget
from saddlebag.compression.bernoulli import Bernoulli
from saddlebag.compression.block_top_k import BlockTopK
from saddlebag.compression.blocks import BlockInt4, BlockInt8, NearestInt4, NearestInt8
from saddlebag.compression.compose import compose
from saddlebag.compression.dithering import Dithering
from saddlebag.compression.grid import Grid
from saddlebag.compression.half import Cast, StochasticBfloat16
from saddlebag.compression.identity import Identity
from saddlebag.compression.induced import induced
from saddlebag.compression.low_rank import RankR
from saddlebag.compression.natural import Natural
from saddlebag.compression.natural_dithering import NaturalDithering
from saddlebag.compression.per_tensor import per_tensor
from saddlebag.compression.perm_k import PermK
from saddlebag.compression.rand_k import RandK, UnscaledRandK
from saddlebag.compression.scaled import scaled
from saddlebag.compression.schedule import decay, schedule
from saddlebag.compression.sign import ScaledSign
from saddlebag.compression.ternary import Ternary
from saddlebag.compression.threshold import HardThreshold, SampledTopK
from saddlebag.compression.top_k import TopK
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.compression.base import Compressor

__all__ = ["COMPRESSORS", "make_compressor"]

COMPRESSORS: dict[str, Callable[..., Compressor]] = {
    "bernoulli": Bernoulli,
    "block_int4": BlockInt4,
    "block_int8": BlockInt8,
    "block_top_k": BlockTopK,
    "budget": budget,
    "cast": Cast,
    "compose": compose,
    "decay": decay,
    "dithering": Dithering,
    "grid": Grid,
    "hard_threshold": HardThreshold,
    "identity": Identity,
    "induced": induced,
    "low_rank": RankR,
    "natural": Natural,
    "natural_dithering": NaturalDithering,
    "nearest_int4": NearestInt4,
    "nearest_int8": NearestInt8,
    "per_tensor": per_tensor,
    "perm_k": PermK,
    "rand_k": RandK,
    "sampled_top_k": SampledTopK,
    "scaled_sign": ScaledSign,
    "scaled": scaled,
    "schedule": schedule,
    "stochastic_bfloat16": StochasticBfloat16,
    "ternary": Ternary,
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
