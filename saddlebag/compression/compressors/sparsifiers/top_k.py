"""Top-k: the k coordinates of largest magnitude."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from saddlebag.compression.kernels.select import largest
from saddlebag.compression.payload import Dense, Index, Sparse, Vector, require_finite
from saddlebag.compression.values import cast, check_kept, kept, sparse_bits
from saddlebag.errors import NotFiniteError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws

__all__ = ["TopK"]


def top_k_index(x_D: Vector, k: int) -> Index:
    """The k coordinates of largest magnitude, sorted; among equal magnitudes the lowest coordinates win.

    Returns:
        int64, shape (k,), strictly increasing.

    Raises:
        NotFiniteError: an entry is NaN or infinite.
    """
    index_K = largest(x_D, k)
    if index_K is None:
        require_finite(x_D, "a compressor's input")
        raise NotFiniteError("a compressor's input overflows float64")
    return index_K


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopK:
    """C(x) = the k entries of largest magnitude; contractive with alpha = k/d (worst case: equal magnitudes).

    Source: Stich, Cordonnier, Jaggi 2018, Lemma A.1. Ties go to the lowest coordinate, so the map is deterministic.

    Attributes:
        k, fraction: how many coordinates are kept; exactly one is given.

    Example:
        >>> import numpy as np
        >>> from saddlebag.compression import TopK, Draws
        >>> compressor = TopK(k=2)
        >>> compressor.encode(np.array([3.0, -1.0, 0.5, 0.0]), Draws(0, 0)).dense().tolist()
        [3.0, -1.0, 0.0, 0.0]
        >>> compressor.alpha(4)
        0.5
    """

    k: int | None = None
    fraction: float | None = None

    reference = "Stich et al. 2018"

    def __post_init__(self) -> None:
        check_kept(self.k, self.fraction, "top_k")

    def encode(self, x_D: Vector, draws: Draws) -> Sparse:
        del draws
        index_K = top_k_index(x_D, kept(self.k, self.fraction, len(x_D), "top_k"))
        return Sparse(len(x_D), index_K, Dense(cast(x_D[index_K])))

    def bits(self, d: int) -> float:
        """32 k + log2 C(d, k): the entropy bound of the support, which the codec's index coding approaches."""
        return sparse_bits(d, kept(self.k, self.fraction, d, "top_k"))

    def num_kept(self, d: int) -> tuple[float, int]:
        """How many coordinates travel: (in the mean, at most)."""
        k = kept(self.k, self.fraction, d, "top_k")
        return float(k), k

    def alpha(self, d: int) -> float:
        return kept(self.k, self.fraction, d, "top_k") / d if d else 1.0
