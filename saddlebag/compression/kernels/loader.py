"""Chooses between the plain and the compiled kernels."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, Protocol

from saddlebag.compression.kernels import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from saddlebag.compression.draws import Stream
    from saddlebag.compression.kernels.magnitude import Bits, Index

__all__ = ["LARGE", "Kernels", "compiled", "kernels_for"]

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


@functools.cache
def compiled() -> Kernels | None:
    """The compiled kernels, or None where numba is not installed."""
    try:
        return importlib.import_module("saddlebag.compression.kernels.compiled")
    except ImportError:
        return None
