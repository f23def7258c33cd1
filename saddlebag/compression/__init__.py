"""Compression: payload layouts, compressors, error feedback, and the draws that machines share. Pure: numpy only."""

from saddlebag.compression.base import Compressor, Contractive, Unbiased, errors_average, kind_of
from saddlebag.compression.check import check_compressor
from saddlebag.compression.draws import EVERYONE, SERVER, Draws, Purpose, Stream, uniform_subset
from saddlebag.compression.error_feedback import feed_back
from saddlebag.compression.identity import Identity
from saddlebag.compression.mean import Mean, Sum
from saddlebag.compression.natural import Natural
from saddlebag.compression.payload import (
    Dense,
    Flat,
    Payload,
    PowersOfTwo,
    Scope,
    Seeded,
    Sparse,
    Support,
    Vector,
    require_finite,
)
from saddlebag.compression.rand_k import RandK, UnscaledRandK
from saddlebag.compression.registry import COMPRESSORS, make_compressor
from saddlebag.compression.top_k import TopK

__all__ = [
    "COMPRESSORS",
    "EVERYONE",
    "SERVER",
    "Compressor",
    "Contractive",
    "Dense",
    "Draws",
    "Flat",
    "Identity",
    "Mean",
    "Natural",
    "Payload",
    "PowersOfTwo",
    "Purpose",
    "RandK",
    "Scope",
    "Seeded",
    "Sparse",
    "Stream",
    "Sum",
    "Support",
    "TopK",
    "Unbiased",
    "UnscaledRandK",
    "Vector",
    "check_compressor",
    "errors_average",
    "feed_back",
    "kind_of",
    "make_compressor",
    "require_finite",
    "uniform_subset",
]
