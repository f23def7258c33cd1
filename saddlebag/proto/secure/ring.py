"""Whole numbers modulo 2^b: wide enough for the sum of all members, and a linear check that wrong masks cannot pass.

Shapes: D = coordinates.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.proto.coding.bits import pack, packed_bytes, unpack
from saddlebag.proto.secure.primitives import stream

if TYPE_CHECKING:
    from saddlebag.proto.reader import Buffer

__all__ = ["Masked", "Ring"]

CHECK_BYTES = 8
MOST_WIDTH = 32
"""Bits of a coordinate."""


@dataclasses.dataclass(frozen=True, eq=False)
class Masked:
    """A vector of the ring with its check, or a stream of as many random numbers; spare high bits hold anything."""

    value_D: npt.NDArray[Any]
    check: int

    def plus(self, other: Masked, sign: int = 1) -> Masked:
        """The sum, or the difference, in place where the memory is this one's own."""
        (np.add if sign > 0 else np.subtract)(self.value_D, other.value_D, out=self.value_D)
        return Masked(self.value_D, (self.check + sign * other.check) % 2**64)


@dataclasses.dataclass(frozen=True)
class Ring:
    """Vectors of `size` levels of magnitude at most `most`, of at most `members` members.

    Attributes:
        size: D.
        most: the largest magnitude of one member's levels.
        members: who may be added.
        context: of the round, from which the check's coefficients follow.

    Example:
        >>> Ring(100, 127, 10, b"round 1").width  # 8 bits of one member, and room for ten
        12
    """

    size: int
    most: int
    members: int
    context: bytes

    def __post_init__(self) -> None:
        if self.width > MOST_WIDTH:
            raise ConfigError(f"levels up to {self.most} of {self.members} workers exceed {MOST_WIDTH} bits a coordinate")

    @property
    def width(self) -> int:
        """b: the fewest bits that tell all sums from -members most to members most apart."""
        return max(1, (2 * self.members * self.most).bit_length())

    @property
    def num_bytes(self) -> int:
        """Of a masked vector on the wire."""
        return packed_bytes(self.size, self.width) + CHECK_BYTES

    @property
    def _dtype(self) -> npt.DTypeLike:
        return np.dtype("<u2" if self.width <= 16 else "<u4")

    @functools.cached_property
    def _coefficient_D(self) -> npt.NDArray[np.uint64]:
        key = hashlib.sha256(b"saddlebag secure check 1\n" + self.context).digest()
        return np.frombuffer(stream(key, 8 * self.size), "<u8")

    def _check(self, level_D: npt.NDArray[Any]) -> int:
        """The levels' inner product with coefficients that all know, modulo 2^64: those of members add up, too."""
        return int(np.multiply(self._coefficient_D, level_D.astype(np.int64).view(np.uint64)).sum(dtype=np.uint64))

    def zero(self) -> Masked:
        """Nothing, to add to."""
        return Masked(np.zeros(self.size, self._dtype), 0)

    def member(self, level_D: npt.NDArray[Any]) -> Masked:
        """A member's levels, not masked yet.

        Raises:
            ConfigError: there are more or fewer than announced, or larger ones.
        """
        shape_fits = level_D.shape == (self.size,)
        if not shape_fits or (self.size and max(int(level_D.max()), -int(level_D.min())) > self.most):
            raise ConfigError(f"a member's levels must be {self.size} of magnitude at most {self.most}")
        return Masked(level_D.astype(self._dtype), self._check(level_D))

    def mask(self, key: bytes) -> Masked:
        """The stream of a key."""
        item = np.dtype(self._dtype).itemsize
        raw = stream(key, item * self.size + CHECK_BYTES)
        return Masked(np.frombuffer(raw, self._dtype, self.size), int.from_bytes(raw[-CHECK_BYTES:], "little"))

    def encode(self, masked: Masked) -> bytes:
        """As it travels."""
        low = np.dtype(self._dtype).type((1 << self.width) - 1)
        return pack(masked.value_D & low, self.width) + masked.check.to_bytes(CHECK_BYTES, "little")

    def decode(self, data: Buffer) -> Masked:
        """What came.

        Raises:
            RemoteProtocolError: it has another length.
        """
        if len(data) != self.num_bytes:
            raise RemoteProtocolError(f"it must have {self.num_bytes} bytes, got {len(data)}")
        value_D = unpack(memoryview(data)[:-CHECK_BYTES], self.size, self.width).astype(self._dtype)
        return Masked(value_D, int.from_bytes(data[-CHECK_BYTES:], "little"))

    def levels(self, masked: Masked, count: int) -> npt.NDArray[np.int64]:
        """The sum of `count` members' levels, without masks.

        Raises:
            RemoteProtocolError: it is none: masks have not cancelled.
        """
        low = np.dtype(self._dtype).type((1 << self.width) - 1)
        sum_D: npt.NDArray[np.int64] = (masked.value_D & low).astype(np.int64)
        sum_D[sum_D >= 1 << (self.width - 1)] -= 1 << self.width
        if (self.size and int(np.abs(sum_D).max()) > count * self.most) or self._check(sum_D) != masked.check:
            raise RemoteProtocolError("the masks do not cancel")
        return sum_D
