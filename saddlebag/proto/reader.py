"""Received bytes: a position in them, and whole numbers of any length."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from saddlebag.errors import RemoteProtocolError

__all__ = ["Buffer", "Reader", "read_varint", "signed_varint", "varint"]

Buffer: TypeAlias = bytes | memoryview


def varint(value: int) -> bytes:
    """Base-128, least significant group first (the encoding of Protocol Buffers)."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed_varint(value: int) -> bytes:
    """0, -1, 1, -2, ... as 0, 1, 2, 3, ...: small magnitudes take few bytes."""
    return varint(2 * value if value >= 0 else -2 * value - 1)


def read_varint(data: Buffer, at: int) -> tuple[int, int]:
    """The value at `at` and the position after it; at most 64 bits."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise RemoteProtocolError("a number is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 2**64:
                break
            return value, at
    raise RemoteProtocolError("a number exceeds 64 bits")


class Reader:
    """A position in received bytes; every read is checked against what is there."""

    def __init__(self, data: Buffer) -> None:
        self.data, self.at = memoryview(data), 0

    @property
    def left(self) -> int:
        """Bytes after the position."""
        return len(self.data) - self.at

    def take(self, count: int) -> memoryview:
        """The next `count` bytes."""
        if count > self.left:
            raise RemoteProtocolError(f"a message is cut short: {count} bytes expected, {self.left} left")
        self.at += count
        return self.data[self.at - count : self.at]

    def array(self, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """The next `count` numbers, a view of the bytes."""
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def byte(self) -> int:
        return self.take(1)[0]

    def size(self, least: int, most: int, what: str) -> int:
        """The varint here, within [least, most]."""
        value, self.at = read_varint(self.data, self.at)
        if not least <= value <= most:
            raise RemoteProtocolError(f"{what} must lie in [{least}, {most}], got {value}")
        return value

    def signed(self, least: int, most: int, what: str) -> int:
        """The signed varint here, within [least, most]."""
        raw, self.at = read_varint(self.data, self.at)
        value = raw >> 1 if raw & 1 == 0 else -(raw + 1 >> 1)
        if not least <= value <= most:
            raise RemoteProtocolError(f"{what} must lie in [{least}, {most}], got {value}")
        return value
