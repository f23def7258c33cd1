"""Flat payloads: one value for every coordinate, as it travels.

    Dense          float32 or float64
    Half           float16 or bfloat16
    PowersOfTwo    sign and exponent only (9 bits)
    Levels         small whole numbers times a scale for each block: every quantiser's output
    Codebook       one of a few values of the block each: cluster means

Shapes: D = coordinates, B = blocks, C = values of a codebook.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from saddlebag.errors import NotFiniteError

__all__ = ["Codebook", "Dense", "Flat", "Half", "Index", "Levels", "PowersOfTwo", "Spacing", "Vector", "require_finite"]

Vector: TypeAlias = npt.NDArray[np.floating[Any]]
Index: TypeAlias = npt.NDArray[np.int64]

_PIECE = 1 << 14  # coordinates whose float64 values stay in the cache
_TABLE = 256  # levels of int8


def require_finite(x_D: Vector, what: str) -> None:
    """Raise `NotFiniteError` unless every entry is finite.

    Example:
        >>> require_finite(np.array([1.0, 2.0]), "the point")
    """
    with np.errstate(over="ignore", invalid="ignore"):  # one pass, no temporary; finite entries may overflow, others show
        if np.isfinite(np.dot(x_D, x_D)):
            return
    finite = np.isfinite(x_D)
    if not finite.all():
        where = int(np.argmin(finite))
        raise NotFiniteError(f"{what} must be finite, got {x_D[where]} at coordinate {where} of {len(x_D)}")


@dataclasses.dataclass(frozen=True, eq=False)
class _Values:
    """Values that are held as they are."""

    value_D: Vector

    @property
    def dimension(self) -> int:
        return len(self.value_D)

    def dense(self) -> Vector:
        return self.value_D.astype(np.float64)

    def add_to(self, out_D: Vector) -> None:
        np.add(out_D, self.value_D, out=out_D)


class Dense(_Values):
    """Every coordinate, as float32 or float64.

    Example:
        >>> Dense(np.array([1.0, 2.0])).dense().tolist()
        [1.0, 2.0]
    """


@dataclasses.dataclass(frozen=True, eq=False)
class Half(_Values):
    """Every coordinate in 16 bits; `value_D` is float32 and holds only numbers that `kind` represents.

    Example:
        >>> Half(np.array([1.0, 0.5], np.float32), "bfloat16").dense().tolist()
        [1.0, 0.5]
    """

    kind: Literal["float16", "bfloat16"]


class PowersOfTwo(_Values):
    """Every coordinate is 0 or +-2^e with -126 <= e <= 127; float32, 9 bits each on the wire.

    Example:
        >>> PowersOfTwo(np.array([0.0, -0.25, 4.0], np.float32)).dense().tolist()
        [0.0, -0.25, 4.0]
    """


class Spacing(enum.IntEnum):
    """What a level stands for, as a multiple of its block's scale.

    Example:
        >>> level_D, scale_B = np.array([-2, 0, 3], np.int8), np.array([8.0], np.float32)
        >>> [Levels(level_D, scale_B, 3, spacing).dense().tolist() for spacing in Spacing]
        [[-16.0, 0.0, 24.0], [-4.0, 0.0, 2.0]]
    """

    LINEAR = 0  # level
    DYADIC = 1  # sign(level) 2^(1 - |level|), 0 for level 0


@dataclasses.dataclass(frozen=True, eq=False)
class Levels:
    """Whole numbers times a scale for each block of consecutive coordinates.

    Attributes:
        level_D: int8 or int16, shape (D,).
        scale_B: float32, not negative, shape (ceil(D / block),).
        block: coordinates that share a scale; the last block may be shorter.
        spacing: what a level stands for.

    Example:
        >>> payload = Levels(np.array([-2, 0, 3, 1], np.int8), np.array([0.5, 10.0], np.float32), block=2)
        >>> payload.dense().tolist()
        [-1.0, 0.0, 30.0, 10.0]
    """

    level_D: npt.NDArray[np.signedinteger[Any]]
    scale_B: npt.NDArray[np.float32]
    block: int
    spacing: Spacing = Spacing.LINEAR

    @property
    def dimension(self) -> int:
        return len(self.level_D)

    @functools.cached_property
    def value_D(self) -> Vector:
        """The values, float64, shape (D,): exact products of a float32 and a small whole number or a power of two."""
        return self._values(0, self.dimension)

    def values(self, start: int, stop: int) -> Vector:
        """The values of a run of coordinates, float64."""
        if len(self.scale_B) == 1:
            return self._values(start, stop)
        first = start - start % self.block
        return self._values(first, min(-(-stop // self.block) * self.block, self.dimension))[start - first : stop - first]

    def _values(self, start: int, stop: int) -> Vector:
        """The values of coordinates from the start of a block to the end of another, or of the last."""
        level_R = self.level_D[start:stop]
        unit_R = _dyadic(level_R) if self.spacing is Spacing.DYADIC else level_R.astype(np.float64)
        if len(self.scale_B) == 1:
            np.multiply(unit_R, np.float64(self.scale_B[0]), out=unit_R)
            return unit_R
        first, whole = start // self.block, len(unit_R) // self.block
        body_BK = unit_R[: whole * self.block].reshape(whole, self.block)
        np.multiply(body_BK, self.scale_B[first : first + whole, None], out=body_BK)
        unit_R[whole * self.block :] *= self.scale_B[first + whole : first + whole + 1]
        return unit_R

    def dense(self) -> Vector:
        return self.value_D.copy()

    def add_to(self, out_D: Vector) -> None:
        if "value_D" in self.__dict__:  # asked for before
            np.add(out_D, self.value_D, out=out_D)
            return
        step = _PIECE if len(self.scale_B) == 1 else self.block * max(1, _PIECE // self.block)
        for start in range(0, self.dimension, step):  # never a vector of memory: pieces that stay in the cache
            out_R = out_D[start : start + step]
            np.add(out_R, self._values(start, start + len(out_R)), out=out_R)


def _dyadic(level_R: npt.NDArray[np.signedinteger[Any]]) -> Vector:
    """sign(level) 2^(1 - |level|), 0 for 0, float64."""
    if level_R.dtype == np.int8 and len(level_R) > _TABLE:
        return _dyadic(np.arange(_TABLE, dtype=np.uint8).view(np.int8)).take(level_R.view(np.uint8))
    unit_R: Vector = np.copysign(np.ldexp(1.0, 1 - np.abs(level_R, dtype=np.int32)), level_R)
    unit_R[level_R == 0] = 0.0
    return unit_R


@dataclasses.dataclass(frozen=True, eq=False)
class Codebook:
    """Every coordinate is one of the few values of its block of consecutive coordinates.

    Attributes:
        code_D: int8, shape (D,), numbers of values, from 0 to C - 1.
        value_BC: float32, shape (ceil(D / block), C).
        block: coordinates that share their values; the last block may be shorter.

    Example:
        >>> payload = Codebook(np.array([0, 1, 1, 0], np.int8), np.array([[-1.0, 1.0], [5.0, 9.0]], np.float32), block=2)
        >>> payload.dense().tolist()
        [-1.0, 1.0, 9.0, 5.0]
    """

    code_D: npt.NDArray[np.int8]
    value_BC: npt.NDArray[np.float32]
    block: int

    @property
    def dimension(self) -> int:
        return len(self.code_D)

    @functools.cached_property
    def value_D(self) -> Vector:
        """The values, float64, shape (D,)."""
        return self.values(0, self.dimension)

    def values(self, start: int, stop: int) -> Vector:
        """The values of a run of coordinates, float64."""
        place_R = np.arange(start, stop) // self.block * self.value_BC.shape[1] + self.code_D[start:stop]
        value_R: Vector = self.value_BC.reshape(-1).take(place_R).astype(np.float64)
        return value_R

    def dense(self) -> Vector:
        return self.value_D.copy()

    def add_to(self, out_D: Vector) -> None:
        np.add(out_D, self.value_D, out=out_D)


Flat: TypeAlias = Dense | Half | PowersOfTwo | Levels | Codebook
