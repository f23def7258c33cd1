"""Chooses between the plain and the compiled kernels."""

from __future__ import annotations

import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from saddlebag.compression.kernels import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from saddlebag.compression.kernels.magnitude import Bits, Index
    from saddlebag.compression.stream import Stream

LARGE = 1 << 20
"""Coordinates from which compiled kernels are looked for: numba takes half a second to import, numpy 1 ms for a Top-k here."""


class Kernels(Protocol):
    """What `plain` and `compiled` both hold; see there."""

    def collect(self, bits_D: Bits, low: int, index_N: Index, magnitude_N: Bits) -> int: ...

    def keep(self, index_N: Index, magnitude_N: Bits, threshold: int, tied: int) -> int: ...

    def add_sparse(
        self, out_D: npt.NDArray[np.floating[Any]], pieces: Sequence[plain.Piece], *, fresh: bool, divisor: int
    ) -> None: ...

    def strata(self, stream: Stream, dimension: int, size: int) -> Index: ...


def kernels_for(dimension: int) -> Kernels:
    """The kernels for vectors of this dimension."""
    return (compiled() if dimension >= LARGE else None) or plain


def rounding_for(x_D: npt.NDArray[Any]) -> Any | None:
    """The compiled loops of quantisers, for vectors that they are made for; else None."""
    if len(x_D) < LARGE or x_D.dtype not in (np.float32, np.float64) or not x_D.flags.c_contiguous:
        return None
    return compiled_rounding()


@functools.cache
def compiled_rounding() -> Any | None:
    """The compiled loops of quantisers, or None where numba is not installed."""
    if compiled() is None or sys.byteorder == "big":  # the upper half of a word would come first
        return None
    return importlib.import_module("saddlebag.compression.kernels.compiled_rounding")


@functools.cache
def compiled() -> Kernels | None:
    """The compiled kernels, or None where numba is not installed."""
    try:
        return importlib.import_module("saddlebag.compression.kernels.compiled")
    except ImportError:
        return None
