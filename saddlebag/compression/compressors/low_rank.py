"""Low-rank approximation: the vector as a matrix, projected on a few directions that a power iteration finds."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from saddlebag.compression.payload import LowRank, Vector, require_finite
from saddlebag.compression.stream import Purpose, Stream
from saddlebag.compression.values import cast
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from typing import Any

    from saddlebag.compression.draws import Draws

__all__ = ["RankR"]

_ALIGNMENT = 64  # bytes: BLAS kernels repeat bit for bit on arrays of equal alignment
_LARGEST_EXPONENT = 250  # of an entry: the scale is shared by two float32 factors


def aligned(rows: int, columns: int) -> npt.NDArray[np.float64]:
    """Zeros, float64 (rows, columns), at an address that is a multiple of 64.

    A product of BLAS may depend on the alignment of its arguments, and machines must draw the same conclusions.
    """
    memory = np.zeros(rows * columns * 8 + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + rows * columns * 8].view(np.float64).reshape(rows, columns)


def start_matrix(stream: Stream, rows: int, rank: int) -> npt.NDArray[np.float64]:
    """Independent numbers in (-1, 1), float64 (rows, rank), without a rounding that could differ between machines.

    Their law does not change when rows are permuted or change signs. So the projector on the columns' span, whose trace
    is `rank`, has the expectation (rank / rows) times the identity.
    """
    odd = (stream.words(rows * rank) >> np.uint64(11)).astype(np.float64) * 2.0 + 1.0
    return (odd * 2.0**-53 - 1.0).reshape(rows, rank)


def orthonormal(y_RK: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An orthonormal basis, (R, K) with K <= R, of the span of the columns of `y_RK`, and more where their rank is below K."""
    return np.linalg.qr(y_RK)[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankR:
    """C(x) = the R x C matrix X of x projected on `rank` directions: P P' X, with P an orthonormal basis of the span of X S.

    S is a random start, drawn anew for each message; `iterations - 1` further steps P <- basis of X X' P turn P towards the
    leading singular vectors. Where C > R the transposed matrix is projected, so S has min(R, C) rows.

    alpha = rank / min(R, C), in expectation over S, for any number of iterations. Proof: with A = X'X and an orthonormal
    basis V of the span of S, the energy that P keeps is the sum of the Ritz values of X X' on its span. By Cauchy and
    Schwarz, y'A^(j+2)y / y'A^(j+1)y >= y'A^(j+1)y / y'A^j y; so, by Courant and Fischer, they are one by one at least the
    Ritz values of A on the span of S, whose sum tr V'AV has the expectation rank / C |X|^2. Equal singular values attain
    it, with exact truncation as well. On decaying spectra the error is far smaller, and after two iterations close to that of
    the truncated singular value decomposition.

    Source: Vogels, Karimireddy, Jaggi 2019, "PowerSGD", Algorithm 1. Differs: both factors are one worker's own, so
    that one exchange is enough; the start is random where PowerSGD's is warm (`power_sgd.py` is the method itself).

    Attributes:
        rank: number of directions, at most min(R, C).
        iterations: products with X before the last one, at least 1.
        columns: C; rows follow, the last one filled up with zeros. About sqrt(d) where it is not given.

    Example:
        >>> from saddlebag.compression import RankR, Draws
        >>> compressor = RankR(rank=1, columns=2)
        >>> compressor.alpha(4)
        0.5
    """

    rank: int
    iterations: int = 1
    columns: int | None = None

    reference: ClassVar[str] = "Vogels et al. 2019"

    def __post_init__(self) -> None:
        for name in ("rank", "iterations", "columns"):
            value = getattr(self, name)
            if not (isinstance(value, int | np.integer) and value >= 1) and not (name == "columns" and value is None):
                raise ConfigError(f"low_rank.{name} must be a whole number of at least 1, got {value!r}")

    def _shape(self, d: int) -> tuple[int, int]:
        """R and C in dimension d; 0 and 0 where it is 0.

        Raises:
            ConfigError: the rank exceeds one of them.
        """
        if d == 0:
            return 0, 0
        columns = min(self.columns or math.isqrt(d - 1) + 1, d)
        rows = -(-d // columns)
        if self.rank > min(rows, columns):
            raise ConfigError(
                f"low_rank needs rank <= min(rows, columns), got rank={self.rank} for d={d} as a {rows} x {columns} matrix"
            )
        return rows, columns

    def encode(self, x_D: Vector, draws: Draws) -> LowRank:
        require_finite(x_D, "a compressor's input")
        rows, columns = self._shape(len(x_D))
        if not rows:
            return LowRank(0, *np.empty((2, 0, 0), np.float32))
        exponent = int(np.frexp(np.abs(x_D).max())[1])
        if exponent > _LARGEST_EXPONENT:
            raise NotFiniteError(f"low_rank needs magnitudes up to 2^{_LARGEST_EXPONENT}, got {np.abs(x_D).max():g}")
        x_RC = aligned(rows, columns)
        scaled_D = x_RC.reshape(-1)[: len(x_D)]
        scaled_D[:] = x_D
        _shift(scaled_D, -exponent)  # squares of the smallest numbers would vanish
        stream = draws.own(Purpose.SUPPORT)
        if columns <= rows:
            p_RK, q_CK = self._project(x_RC, stream)
        else:
            q_CK, p_RK = self._project(x_RC.T, stream)
        half = exponent // 2
        return LowRank(len(x_D), _float32(p_RK, half), _float32(q_CK, exponent - half))

    def _project(self, x_RC: Vector, stream: Stream) -> tuple[Vector, Vector]:
        """P and X'P for a matrix with at least as many rows as columns."""
        s_CK = aligned(x_RC.shape[1], self.rank)
        s_CK[:] = start_matrix(stream, *s_CK.shape)
        p_RK = orthonormal(x_RC @ s_CK)
        for _ in range(self.iterations - 1):
            p_RK = orthonormal(x_RC @ orthonormal(x_RC.T @ p_RK))
        return p_RK, x_RC.T @ p_RK

    def bits(self, d: int) -> float:
        return 32.0 * self.rank * sum(self._shape(d))

    def alpha(self, d: int) -> float:
        return self.rank / min(self._shape(d)) if d else 1.0


def _shift(x: Vector, exponent: int) -> None:
    """Multiply by 2^exponent in place, in two steps since the power itself may leave float64's range."""
    for part in (exponent // 2, exponent - exponent // 2):
        x *= 2.0**part


def _float32(factor: Vector, exponent: int) -> npt.NDArray[np.float32]:
    flat = factor.reshape(-1)  # a copy where the order is not C's
    _shift(flat, exponent)
    value: npt.NDArray[np.float32] = cast(flat).reshape(factor.shape)
    return value
