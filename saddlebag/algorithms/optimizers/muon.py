"""Muon as an update rule: the momentum of every matrix, orthogonalised; AdamW for all that is no matrix of a layer.

    m <- momentum m + g;   u = g + momentum m (Nesterov);   O = the nearest semi-orthogonal matrix to u, by Newton-Schulz
    z <- (1 - gamma decay) z - gamma 0.2 sqrt(max(R, C)) O

Source: Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein 2024, "Muon", for the five steps of the quintic iteration and its
coefficients; Liu et al. 2025, "Muon is scalable for LLM training", section 2.2, for the factor, with which O moves entries by
as much as AdamW does, so that one step size serves both. The products of matrices are BLAS's: on unlike machines their last
bits may differ. A rule of a worker's own steps therefore, not of replicas.

Shapes: R x C = a tensor as a matrix, its first axis by the others.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from saddlebag.algorithms.optimizers.rules import Adam
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saddlebag.compression import Vector
    from saddlebag.compression.combinators.per_tensor import Tensor

_NOT_MUON = ("*embed*", "*wte*", "*wpe*", "*head*")
"""Names of matrices that AdamW takes, too: embeddings and the last layer."""

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_TINY = 1e-7


def orthogonalised(m_RC: Vector) -> Vector:
    """The nearest semi-orthogonal matrix, roughly: singular values between about 0.7 and 1.2; 0 for 0; float32 inside."""
    x_RC: Any = m_RC.astype(np.float32)
    tall = x_RC.shape[0] > x_RC.shape[1]
    x_RC = x_RC.T if tall else x_RC
    x_RC = x_RC / (np.linalg.norm(x_RC) + _TINY)
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        gram_RR = x_RC @ x_RC.T
        x_RC = a * x_RC + (b * gram_RR + c * gram_RR @ gram_RR) @ x_RC
    found_RC: Vector = (x_RC.T if tall else x_RC).astype(np.float64)
    return found_RC


def matrices_of(tensors: Sequence[Tensor]) -> tuple[tuple[int, int, int], ...]:
    """(start, R, C) of the tensors that are matrices of layers."""
    found, start = [], 0
    for tensor in tensors:
        if len(tensor.shape) > 1 and not any(fnmatch.fnmatchcase(tensor.name.lower(), pattern) for pattern in _NOT_MUON):
            rows = tensor.shape[0]
            found.append((start, rows, tensor.size // rows if rows else 0))
        start += tensor.size
    return tuple(each for each in found if each[1] and each[2])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Muon(Adam):
    """See the module; the first moving mean is the momentum of matrices.

    Attributes:
        momentum: of matrices, in [0, 1).
        matrices: (start, R, C) of what is orthogonalised, in order; everything else is AdamW's.
    """

    blockwise: ClassVar[bool] = False

    momentum: float = 0.95
    matrices: tuple[tuple[int, int, int], ...] = dataclasses.field(default=(), repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must lie in [0, 1), got {self.momentum}")

    def update(self, replica: Any, gradient_D: Vector, step_size: float) -> Any:
        after = super().update(replica, gradient_D, step_size)  # new vectors: they may be written to
        for start, rows, columns in self.matrices:
            here = slice(start, start + rows * columns)
            g_N, m_N = gradient_D[here], after.first_D[here]
            np.multiply(replica.first_D[here], self.momentum, out=m_N)
            m_N += g_N
            after.second_D[here] = 0.0
            o_RC = orthogonalised((g_N + self.momentum * m_N).reshape(rows, columns))
            scale = 0.2 * max(rows, columns) ** 0.5 * step_size
            after.z_D[here] = replica.z_D[here] * (1.0 - step_size * self.weight_decay) - scale * o_RC.reshape(-1)
        return after
