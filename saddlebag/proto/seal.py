"""Checksums of what travels: the last six bytes of every message are a field with the CRC-32 of all bytes before it.

The field is number 16 of the schema (`fixed32 checksum`), above every other one, so that it comes last. gRPC checks lengths,
and TCP a sum of 16 bits: a flipped bit in a number, a header or a name can pass both. The CRC-32 is that of zlib and PNG; with
isal, a dependency where it has wheels, it is computed at the speed of memory, else by zlib: the same bits.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from saddlebag.errors import BrokenStream

if TYPE_CHECKING:
    from saddlebag.proto.reader import Buffer

try:
    from isal.isal_zlib import crc32 as _crc32
except ImportError:
    _crc32 = zlib.crc32

__all__ = ["SEAL_BYTES", "TEXT_SEAL", "checksum", "is_sealed", "opened", "seal", "seal_of_text", "sealed"]

_TAG = b"\x85\x01"  # field 16, 32 bits
SEAL_BYTES = len(_TAG) + 4
"""How many bytes a seal takes."""
TEXT_SEAL = "saddlebag-check"
"""Metadata key of the checksum of a refusal: without it a flipped bit could turn any status into one that ends a worker."""


def checksum(data: Buffer, before: int = 0) -> int:
    """The CRC-32 of some bytes; `before` is that of those in front of them.

    Example:
        >>> checksum(b"6789", checksum(b"12345")) == checksum(b"123456789") == 0xCBF43926
        True
    """
    crc: int = _crc32(data, before)
    return crc


def seal(crc: int) -> bytes:
    """The end of a message whose other bytes have this checksum."""
    return _TAG + crc.to_bytes(4, "little")


def sealed(message: bytes) -> bytes:
    """A serialised message with its checksum behind it."""
    return message + seal(checksum(message))


def is_sealed(raw: Buffer) -> bool:
    """Whether the bytes end with their checksum."""
    return bytes(raw[-SEAL_BYTES:]) == seal(checksum(memoryview(raw)[:-SEAL_BYTES])) if len(raw) >= SEAL_BYTES else False


def opened(raw: bytes, what: str) -> memoryview:
    """A view of the bytes before the checksum.

    Args:
        raw: as received.
        what: they are, for the message.

    Raises:
        BrokenStream: they are not what was sent.
    """
    if not is_sealed(raw):
        raise BrokenStream(f"{what} of {len(raw)} bytes does not fit its checksum: bits were flipped on the way")
    return memoryview(raw)[:-SEAL_BYTES]


def seal_of_text(code: str, text: str) -> str:
    """The checksum of a refusal, for its metadata.

    Args:
        code: name of the status.
        text: its details.
    """
    return f"{checksum(f'{code}: {text}'.encode()):08x}"
