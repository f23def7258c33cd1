"""Small whole numbers (a quantiser's levels) as bytes; their count D is known where they are read.

    0  fixed     signed varint `low`, one byte `width` (0 to 16), then level - low, packed in `width` bits each (`bits.py`)

Levels lie in [-2^15, 2^15) and are read as int8 where all of them fit, else as int16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from saddlebag.errors import LocalProtocolError, RemoteProtocolError
from saddlebag.proto.bits import pack, packed_bytes, unpack
from saddlebag.proto.reader import signed_varint

if TYPE_CHECKING:
    from saddlebag.proto.reader import Reader

__all__ = ["LevelVector", "decode_levels", "encode_levels"]

LevelVector: TypeAlias = npt.NDArray[np.signedinteger[Any]]

FIXED = 0
_LEAST, _MOST = -(2**15), 2**15 - 1
_INT8 = np.iinfo(np.int8)


def _fits_int8(low: int, high: int) -> bool:
    return bool(_INT8.min <= low and high <= _INT8.max)


def encode_levels(level_D: LevelVector) -> tuple[int, bytes]:
    """The coding's number and the body.

    Raises:
        LocalProtocolError: the levels are neither int8 nor int16.
    """
    if level_D.dtype not in (np.int8, np.int16):
        raise LocalProtocolError(f"levels must be int8 or int16, got {level_D.dtype}")
    low, high = (int(level_D.min()), int(level_D.max())) if len(level_D) else (0, 0)
    return FIXED, _encode_fixed(level_D, low, high)


def _encode_fixed(level_D: LevelVector, low: int, high: int) -> bytes:
    width = (high - low).bit_length()
    most = _INT8.max if _fits_int8(low, high) else _MOST
    low = min(low, most - (1 << width) + 1)  # so that every number of `width` bits is a level, and of that type
    offset_D = (level_D.astype(np.int32) - low).astype(np.uint16 if width > 8 else np.uint8)
    return signed_varint(low) + bytes((width,)) + pack(offset_D, width)


def decode_levels(reader: Reader, coding: int, dimension: int) -> LevelVector:
    """The levels here, int8 or int16, shape (D,).

    Raises:
        RemoteProtocolError: the bytes are no such levels.
    """
    if coding != FIXED:
        raise RemoteProtocolError(f"unknown level coding {coding}")
    return _decode_fixed(reader, dimension)


def _decode_fixed(reader: Reader, dimension: int) -> LevelVector:
    low, width = reader.signed(_LEAST, _MOST, "the lowest level"), reader.byte()
    most = low + (1 << width) - 1 if width <= 16 else _MOST + 1
    if most > _MOST:
        raise RemoteProtocolError(f"levels of {width} bits from {low} exceed {_MOST}")
    offset_D = unpack(reader.take(packed_bytes(dimension, width)), dimension, width)
    level_D: LevelVector = offset_D.astype(np.int32) + low
    if not _fits_int8(low, most):
        low, most = int(level_D.min(initial=0)), int(level_D.max(initial=0))
    return level_D.astype(np.int8 if _fits_int8(low, most) else np.int16)
