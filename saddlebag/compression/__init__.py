"""Compression: payload layouts, compressors, error feedback, and the draws that machines share. Pure: numpy only."""

from saddlebag.compression.base import (
    Absolute,
    Adaptive,
    Compressor,
    Contractive,
    HasMeanNoise,
    HasReference,
    Joint,
    Separable,
    SharesDraws,
    Sparsifier,
    Unbiased,
    errors_average,
    jointly,
    kind_of,
    mean_noise,
)
from saddlebag.compression.catalogue import CATALOGUE
from saddlebag.compression.check import check_compressor
from saddlebag.compression.combinators.budget import budget
from saddlebag.compression.combinators.compose import compose
from saddlebag.compression.combinators.induced import induced
from saddlebag.compression.combinators.per_tensor import Rule, Tensor, per_tensor
from saddlebag.compression.combinators.scaled import scaled
from saddlebag.compression.combinators.schedule import decay, schedule, scheduled
from saddlebag.compression.compressors.identity import Identity
from saddlebag.compression.compressors.low_rank import RankR
from saddlebag.compression.compressors.power_sgd import PowerSGD, PowerState, in_lockstep
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
from saddlebag.compression.draws import EVERYONE, SERVER, Draws, stratified_subset, uniform_subset
from saddlebag.compression.error_feedback import feed_back, feed_back_in_place, track
from saddlebag.compression.mean import Mean, Sum
from saddlebag.compression.payload import (
    Codebook,
    Concat,
    Dense,
    Flat,
    Half,
    Index,
    Levels,
    LowRank,
    Payload,
    PowersOfTwo,
    Scheme,
    Scope,
    Seeded,
    Spacing,
    Sparse,
    Support,
    Total,
    Vector,
    require_finite,
)
from saddlebag.compression.registry import COMPRESSORS, make_compressor
from saddlebag.compression.slices import Slices, runs_of
from saddlebag.compression.stream import Purpose, Stream

__all__ = [
    "COMPRESSORS",
    "EVERYONE",
    "SERVER",
    "Absolute",
    "Adaptive",
    "Bernoulli",
    "BlockInt4",
    "BlockInt8",
    "BlockTopK",
    "Cast",
    "ChunkTopK",
    "Codebook",
    "Compressor",
    "Concat",
    "Contractive",
    "Dense",
    "Dithering",
    "Draws",
    "Flat",
    "GreedyBlocks",
    "Grid",
    "Half",
    "HardThreshold",
    "HasMeanNoise",
    "HasReference",
    "Identity",
    "Index",
    "Joint",
    "Levels",
    "LowRank",
    "Mean",
    "Natural",
    "NaturalDithering",
    "NearestInt4",
    "NearestInt8",
    "Payload",
    "PermK",
    "PowerSGD",
    "PowerState",
    "PowersOfTwo",
    "Purpose",
    "RandK",
    "RankR",
    "Rule",
    "SampledTopK",
    "ScaledSign",
    "Scheme",
    "Scope",
    "Seeded",
    "Separable",
    "SharesDraws",
    "Slices",
    "Spacing",
    "Sparse",
    "Sparsifier",
    "StochasticBfloat16",
    "Stream",
    "Sum",
    "Support",
    "Tensor",
    "Ternary",
    "TopK",
    "Total",
    "Unbiased",
    "UnscaledRandK",
    "Vector",
    "budget",
    "check_compressor",
    "compose",
    "decay",
    "errors_average",
    "feed_back",
    "feed_back_in_place",
    "in_lockstep",
    "induced",
    "jointly",
    "kind_of",
    "make_compressor",
    "mean_noise",
    "per_tensor",
    "require_finite",
    "runs_of",
    "scaled",
    "schedule",
    "scheduled",
    "stratified_subset",
    "track",
    "uniform_subset",
]

COMPRESSORS.update(CATALOGUE)
