"""The whole numbers of one client: its update's levels, two about the grid, and the digits of numbers whose sum must be exact.

Shapes: D = entries of the model's floating-point arrays, S = all numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_BITS = 48
"""Of a number in the tail."""
POINT = 16
"""Fractional bits of a metric times its weight."""
_FITS = 2


@dataclasses.dataclass(frozen=True)
class Layout:
    """Levels of the update, what `CommonGrid.fits` says, then for each exact number its digits in base L + 1, lowest first.

    Attributes:
        dimension: D.
        largest_level: L.
        exact: how many numbers the tail holds.

    Example:
        >>> layout = Layout(3, 7, 1)
        >>> numbers_S = layout.joined(np.array([1, -2, 7]), np.array([0, 1]), [-1000])
        >>> layout.split(numbers_S + numbers_S)[2]
        [-2000]
    """

    dimension: int
    largest_level: int
    exact: int

    @functools.cached_property
    def digits(self) -> int:
        """Of one number in the tail."""
        return math.ceil(_BITS / math.log2(self.largest_level + 1))

    @property
    def size(self) -> int:
        """S."""
        return self.dimension + _FITS + self.exact * self.digits

    def joined(self, level_D: npt.NDArray[Any], fits: npt.NDArray[Any], exact: Sequence[int]) -> npt.NDArray[np.int8]:
        """One client's numbers, (S,).

        Raises:
            ConfigError: an exact number is too large.
        """
        base, tail = self.largest_level + 1, []
        for number in exact:
            rest = abs(number)
            if rest >= 1 << _BITS:
                raise ConfigError(f"a weight, or a metric times its weight, must stay below 2^{_BITS - POINT}")
            for _ in range(self.digits):
                rest, digit = divmod(rest, base)
                tail.append(digit if number > 0 else -digit)
        return np.concatenate((level_D, fits, np.array(tail))).astype(np.int8)

    def split(self, sum_S: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], list[int]]:
        """The sums of levels, of `fits`, and of each exact number."""
        base, at = self.largest_level + 1, self.dimension + _FITS
        numbers = []
        for start in range(at, self.size, self.digits):
            numbers.append(sum(int(digit) * base**place for place, digit in enumerate(sum_S[start : start + self.digits])))
        return sum_S[: self.dimension], sum_S[self.dimension : at], numbers
