"""Casting values to the type they travel in."""

from __future__ import annotations

import math

import numpy as np

from saddlebag.compression.payload import Vector, require_finite
from saddlebag.errors import ConfigError, NotFiniteError


def cast(x_D: Vector, dtype: type[np.float32] | type[np.float64] = np.float32) -> Vector:
    """A copy of `x_D` as `dtype`, every entry finite.

    Raises:
        NotFiniteError: an entry is NaN or infinite, or becomes so in `dtype`.

    Example:
        >>> cast(np.array([0.1])).dtype
        dtype('float32')
        >>> cast(np.array([1e300]))
        Traceback (most recent call last):
        ...
        saddlebag.errors.NotFiniteError: a compressor's input overflows float32: largest magnitude 1e+300
    """
    with np.errstate(over="ignore", invalid="ignore"):
        value_D: Vector = x_D.astype(dtype)
    try:
        require_finite(value_D, "a compressor's input")
    except NotFiniteError:
        require_finite(x_D, "a compressor's input")
        raise NotFiniteError(
            f"a compressor's input overflows {np.dtype(dtype).name}: largest magnitude {np.abs(x_D).max():g}"
        ) from None
    return value_D


def kept(k: int | None, fraction: float | None, d: int, name: str) -> int:
    """How many of `d` coordinates are kept: `k`, or `fraction` of them but at least one; of none, none.

    Raises:
        ConfigError: `k` does not lie in [1, d].

    Example:
        >>> kept(None, 0.01, 250, "top_k"), kept(None, 0.01, 10, "top_k"), kept(3, None, 10, "top_k")
        (2, 1, 3)
    """
    if d == 0:
        return 0
    size = k if k is not None else max(1, round((fraction or 0.0) * d))
    if not 1 <= size <= d:
        raise ConfigError(f"{name} needs 1 <= k <= d, got k={size} for d={d}; lower k or give a fraction")
    return size


def check_kept(k: int | None, fraction: float | None, name: str) -> None:
    """Validate the two ways to say how many coordinates are kept.

    Raises:
        ConfigError: not exactly one of them is given, `k` is no whole number from 1, or `fraction` is not in (0, 1].
    """
    if (k is None) == (fraction is None):
        raise ConfigError(f"{name} needs exactly one of k and fraction, got k={k}, fraction={fraction}")
    if k is not None and (not isinstance(k, int | np.integer) or k < 1):  # a recipe's file may say 2.5
        raise ConfigError(f"{name}.k must be a whole number of at least 1, got {k!r}")
    if fraction is not None and not 0 < fraction <= 1:
        raise ConfigError(f"{name}.fraction must lie in (0, 1], got {fraction}")


def sparse_bits(d: int, k: float, value_bits: float = 32.0) -> float:
    """K values and log2 C(d, k) bits of indices: the entropy of a uniform support, near which the codec comes.

    Example:
        >>> round(sparse_bits(1_000_000, 1_000) / 1_000, 1)  # of a coordinate: 32 of its value, 11.4 of its place
        43.4
    """
    log_binomial = math.lgamma(d + 1) - math.lgamma(k + 1) - math.lgamma(d - k + 1)
    return k * value_bits + log_binomial / math.log(2)
