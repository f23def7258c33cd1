"""Whole numbers of Gaussian shape, from random words: the noise of differential privacy on levels.

    P(k) is proportional to exp(-k^2 / (2 sigma^2)), k a whole number        Canonne, Kamath, Steinke 2020

The sum of several has all but the law of one with the sum of their variances (Kairouz, Liu, Steinke 2021: for sigma of 3 and
more the difference is below 1e-35 a coordinate), so workers may each add a share.

Differs: drawn by inversion from one word of 64 bits each, cut off at `_REACH` sigma. The law is met up to `defect(sigma)` in
total variation a number, which an account of privacy adds to its delta.

Who knows the words knows the noise. They come from the operating system where privacy is meant, and from the keyed stream
(`Purpose.NOISE`), which all machines of a run can compute, only in studies that must repeat to the last bit.
"""

from __future__ import annotations

import decimal
import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

_REACH = 12
"""Sigmas beyond which nothing lies: 4e-33 of the law."""
LEAST_SIGMA = 3.0
"""Of one share, so that sums of shares are as good as one."""
_LARGEST = 1e6  # whose table takes 200 MB
_TAIL = 4e-33
_DIGITS = 40  # of the table's terms


def most(sigma: float) -> int:
    """The largest magnitude of a number."""
    return math.ceil(_REACH * sigma)


def defect(sigma: float) -> float:
    """How far the law of a number is from the discrete Gaussian, in total variation, at most."""
    return (2 * most(sigma) + 1) * 2.0**-64 + _TAIL


@functools.lru_cache(maxsize=4)
def _thresholds(sigma: float) -> npt.NDArray[np.uint64]:
    """By number but the last, ascending: 2^64 times the chance of it or a lower one."""
    with decimal.localcontext() as context:
        context.prec = _DIGITS
        scale = 1 / (2 * decimal.Decimal(sigma) ** 2)
        half = [(-(decimal.Decimal(k) ** 2) * scale).exp() for k in range(most(sigma) + 1)]
        mass = 2 * sum(half) - half[0]
        below, thresholds = decimal.Decimal(0), []
        for k in range(-most(sigma), most(sigma)):
            below += half[abs(k)]
            thresholds.append(min(int(below / mass * 2**64), 2**64 - 1))
    return np.array(thresholds, np.uint64)


def discrete_gaussian(sigma: float, word_D: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """A number for each word.

    Args:
        sigma: of the law, 3 to 1e6.
        word_D: uniform, (D,).

    Returns:
        int64 (D,), of magnitude at most `most(sigma)`.

    Raises:
        ConfigError: sigma lies outside.

    Example:
        >>> discrete_gaussian(3.0, np.array([2**60, 2**63, 2**64 - 2**60], np.uint64)).tolist()
        [-5, 0, 5]
    """
    if not LEAST_SIGMA <= sigma <= _LARGEST:
        raise ConfigError(f"noise on levels needs a sigma from {LEAST_SIGMA:g} to {_LARGEST:g} of each worker, got {sigma:g}")
    return np.searchsorted(_thresholds(sigma), word_D, side="right") - most(sigma)
