"""Whole numbers of members, several to a word modulo 2^b wide enough for their sums, and a linear check against wrong masks.

A sum of n members' levels of magnitude up to L takes one of B = 2 n L + 1 values, no power of 2: with a word of its own each
would lose up to a bit. So k of them share a word, as the digits of a number in base B: levels shifted by L are no less
than 0, digits of sums stay below B, and nothing is carried from one to the next. Words are masked and added modulo 2^b, b the
bits of B^k.

Shapes: D = coordinates, W = words, of which coordinate i lies in word i mod W.
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
from saddlebag.proto.secure.primitives import stream_into

if TYPE_CHECKING:
    from saddlebag.proto.reader import Buffer

__all__ = ["Masked", "Ring"]

CHECK_BYTES = 8
MOST_BITS = 32
"""Of one coordinate's sum."""
_WORD_BITS = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Masked:
    """A vector of the ring with its check, or as many random numbers; spare high bits hold anything."""

    word_W: npt.NDArray[Any]
    check: int

    def plus(self, other: Masked, sign: int = 1) -> Masked:
        """The sum, or the difference, in place where the memory is this one's own."""
        (np.add if sign > 0 else np.subtract)(self.word_W, other.word_W, out=self.word_W)
        return Masked(self.word_W, (self.check + sign * other.check) % 2**64)


@dataclasses.dataclass(frozen=True)
class Ring:
    """Vectors of `size` levels of magnitude at most `most`, of at most `members` members.

    Attributes:
        size: D.
        most: the largest magnitude of one member's levels.
        members: who may be added.
        context: of the round, from which the check's coefficients follow.

    Raises:
        ConfigError: sums of such levels exceed 32 bits.

    Example:
        >>> ring = Ring(99_999, 127, 10, b"round 1")  # 8 bits of one member, and room for ten: three of 11.33 bits in 34
        >>> ring.shared, ring.width, ring.num_words
        (3, 34, 33333)
    """

    size: int
    most: int
    members: int
    context: bytes

    def __post_init__(self) -> None:
        if (self._base - 1).bit_length() > MOST_BITS:
            raise ConfigError(f"levels up to {self.most} of {self.members} workers exceed {MOST_BITS} bits a coordinate")

    @property
    def _base(self) -> int:
        """B: the values of a sum, at least 2."""
        return max(2, 2 * self.members * self.most + 1)

    @functools.cached_property
    def shared(self) -> int:
        """k: how many coordinates share a word; the number that wastes least."""
        counts = range(1, min(max(self.size, 1), _WORD_BITS) + 1)
        return min(
            counts, key=lambda count: (self._bits(count) / count if self._bits(count) <= _WORD_BITS else _WORD_BITS, count)
        )

    def _bits(self, count: int) -> int:
        return int(self._base**count - 1).bit_length()

    @functools.cached_property
    def width(self) -> int:
        """b: bits of a word."""
        return self._bits(self.shared)

    @functools.cached_property
    def num_words(self) -> int:
        """W."""
        return -(-self.size // self.shared)

    @property
    def num_bytes(self) -> int:
        """Of a masked vector on the wire."""
        return packed_bytes(self.num_words, self.width) + CHECK_BYTES

    @functools.cached_property
    def _dtype(self) -> Any:
        return np.dtype("<u2" if self.width <= 16 else "<u4" if self.width <= 32 else "<u8")

    @property
    def _low(self) -> Any:
        return self._dtype.type((1 << self.width) - 1)

    @functools.cached_property
    def _coefficient_W(self) -> npt.NDArray[np.uint64]:
        key = hashlib.sha256(b"saddlebag secure check 2\n" + self.context).digest()
        raw = bytearray(8 * self.num_words)
        stream_into(key, raw)
        return np.frombuffer(raw, "<u8")

    def _check(self, word_W: npt.NDArray[Any]) -> int:
        """The words' inner product with coefficients that all know, modulo 2^64: those of members add up, too."""
        return int(np.multiply(self._coefficient_W, word_W, dtype=np.uint64).sum(dtype=np.uint64))

    def zero(self) -> Masked:
        """Nothing, to add to."""
        return Masked(np.zeros(self.num_words, self._dtype), 0)

    def _places(self) -> list[slice]:
        """Which coordinates are the digits of one place, the lowest first."""
        return [slice(start, start + self.num_words) for start in range(0, self.size, max(self.num_words, 1))]

    def member(self, level_D: npt.NDArray[Any]) -> Masked:
        """A member's levels, not masked yet.

        Raises:
            ConfigError: there are more or fewer than announced, or larger ones.
        """
        shape_fits = level_D.shape == (self.size,)
        if not shape_fits or (self.size and max(int(level_D.max()), -int(level_D.min())) > self.most):
            raise ConfigError(f"a member's levels must be {self.size} of magnitude at most {self.most}")
        word_W, base = np.zeros(self.num_words, self._dtype), self._dtype.type(self._base)
        for place in reversed(self._places()):
            word_W *= base
            digits = level_D[place].astype(np.int64)
            digits += self.most
            word_W[: len(digits)] += digits.astype(self._dtype)
        return Masked(word_W, self._check(word_W))

    @functools.cached_property
    def _drawn(self) -> bytearray:
        """Where streams are put, one after the other: fresh memory of this size costs as much as what fills it."""
        return bytearray(self._dtype.itemsize * self.num_words + CHECK_BYTES)

    def with_mask(self, masked: Masked, key: bytes, sign: int = 1) -> Masked:
        """The sum with the stream of a key, or the difference, in place where the memory is the vector's own."""
        raw = self._drawn
        stream_into(key, raw)
        mask = Masked(np.frombuffer(raw, self._dtype, self.num_words), int.from_bytes(raw[-CHECK_BYTES:], "little"))
        return masked.plus(mask, sign)

    def encode(self, masked: Masked) -> bytes:
        """As it travels."""
        return pack(masked.word_W & self._low, self.width) + masked.check.to_bytes(CHECK_BYTES, "little")

    def decode(self, data: Buffer) -> Masked:
        """What came.

        Raises:
            RemoteProtocolError: it has another length.
        """
        if len(data) != self.num_bytes:
            raise RemoteProtocolError(f"it must have {self.num_bytes} bytes, got {len(data)}")
        word_W = unpack(memoryview(data)[:-CHECK_BYTES], self.num_words, self.width).astype(self._dtype, copy=False)
        return Masked(word_W, int.from_bytes(data[-CHECK_BYTES:], "little"))

    def levels(self, masked: Masked, count: int) -> npt.NDArray[np.int64]:
        """The sum of `count` members' levels, without masks.

        Raises:
            RemoteProtocolError: it is none: masks have not cancelled.
        """
        word_W, base = masked.word_W & self._low, self._dtype.type(self._base)
        fits = self._check(word_W) == masked.check
        sum_D = np.empty(self.size, np.int64)
        for place in self._places():
            rest_W = word_W // base
            sum_D[place] = (word_W - rest_W * base)[: place.stop - place.start][: self.size - place.start]
            word_W = rest_W
        if not fits or (self.size and int(sum_D.max()) > 2 * count * self.most) or word_W.any():
            raise RemoteProtocolError("the masks do not cancel")
        sum_D -= count * self.most
        return sum_D
