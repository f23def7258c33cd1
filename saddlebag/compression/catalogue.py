"""The compressors of this package under their names: a new one is its file and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saddlebag.compression.combinators.budget import budget
from saddlebag.compression.combinators.compose import compose
from saddlebag.compression.combinators.induced import induced
from saddlebag.compression.combinators.per_tensor import per_tensor
from saddlebag.compression.combinators.scaled import scaled
from saddlebag.compression.combinators.schedule import decay, schedule
from saddlebag.compression.compressors.identity import Identity
from saddlebag.compression.compressors.low_rank import RankR
from saddlebag.compression.compressors.quantisers.blocks import BlockInt4, BlockInt8, NearestInt4, NearestInt8
from saddlebag.compression.compressors.quantisers.dithering import Dithering
from saddlebag.compression.compressors.quantisers.grid import Grid
from saddlebag.compression.compressors.quantisers.half import Cast, StochasticBfloat16
from saddlebag.compression.compressors.quantisers.natural import Natural
from saddlebag.compression.compressors.quantisers.natural_dithering import NaturalDithering
from saddlebag.compression.compressors.quantisers.sign import ScaledSign
from saddlebag.compression.compressors.quantisers.ternary import Ternary
from saddlebag.compression.compressors.sparsifiers.bernoulli import Bernoulli
from saddlebag.compression.compressors.sparsifiers.block_top_k import BlockTopK
from saddlebag.compression.compressors.sparsifiers.chunk_top_k import ChunkTopK
from saddlebag.compression.compressors.sparsifiers.greedy_blocks import GreedyBlocks
from saddlebag.compression.compressors.sparsifiers.perm_k import PermK
from saddlebag.compression.compressors.sparsifiers.rand_k import RandK, UnscaledRandK
from saddlebag.compression.compressors.sparsifiers.threshold import HardThreshold, SampledTopK
from saddlebag.compression.compressors.sparsifiers.top_k import TopK

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.compression.base import Compressor

__all__ = ["CATALOGUE"]

CATALOGUE: dict[str, Callable[..., Compressor]] = {
    "bernoulli": Bernoulli,
    "block_int4": BlockInt4,
    "block_int8": BlockInt8,
    "block_top_k": BlockTopK,
    "budget": budget,
    "cast": Cast,
    "chunk_top_k": ChunkTopK,
    "compose": compose,
    "decay": decay,
    "dithering": Dithering,
    "greedy_blocks": GreedyBlocks,
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
