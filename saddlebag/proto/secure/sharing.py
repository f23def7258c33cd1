"""Secrets that any t of n members can put together, and t - 1 know nothing of: Shamir 1979, over a prime field."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from saddlebag.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["SECRET_BYTES", "SHARE_BYTES", "join", "split"]

PRIME = 2**128 + 51
"""The smallest one above all secrets of 16 bytes."""
SECRET_BYTES = 16
SHARE_BYTES = 17
"""Of a number below the prime."""


def split(secret: bytes, points: Sequence[int], threshold: int, entropy: Callable[[int], bytes]) -> dict[int, bytes]:
    """A share of a secret of 16 bytes for each point, a member's rank: a polynomial of degree t - 1 at rank + 1.

    Example:
        >>> import os
        >>> shares = split(bytes(range(16)), [0, 1, 2, 3], 3, os.urandom)
        >>> join({point: shares[point] for point in (0, 2, 3)}) == bytes(range(16))
        True
    """
    wide = SECRET_BYTES + 16  # the remainder of 16 more bytes is uniform to 2^-128
    rest = [int.from_bytes(entropy(wide), "little") % PRIME for _ in range(threshold - 1)]
    coefficients = [*reversed(rest), int.from_bytes(secret, "little")]
    shares: dict[int, bytes] = {}
    for point in points:
        value = 0
        for coefficient in coefficients:
            value = (value * (point + 1) + coefficient) % PRIME
        shares[point] = value.to_bytes(SHARE_BYTES, "little")
    return shares


@functools.lru_cache(maxsize=64)  # the same members answer for all secrets of a round
def _weights(points: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's at 0."""
    weights = []
    for point in points:
        above = below = 1
        for other in points:
            if other != point:
                above = above * (other + 1) % PRIME
                below = below * (other - point) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)


def join(shares: Mapping[int, bytes]) -> bytes:
    """The secret, from the shares of exactly t members; something else, or nothing, where one of them is wrong.

    Raises:
        RemoteProtocolError: they are no shares of any secret.
    """
    points = tuple(sorted(shares))
    values = [int.from_bytes(shares[point], "little") for point in points]
    if any(len(shares[point]) != SHARE_BYTES or value >= PRIME for point, value in zip(points, values, strict=True)):
        raise RemoteProtocolError("a share must be a number below the prime")
    secret = sum(weight * value for weight, value in zip(_weights(points), values, strict=True)) % PRIME
    if secret >> (8 * SECRET_BYTES):
        raise RemoteProtocolError("these shares belong to no secret of 16 bytes")
    return secret.to_bytes(SECRET_BYTES, "little")
