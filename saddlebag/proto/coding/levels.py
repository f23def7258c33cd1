"""Small whole numbers (a quantiser's levels) as bytes, close to their entropy; their count D is known where they are read.

    0  fixed      signed varint `low`, one byte `width` (0 to 16), then level - low in `width` bits each (`bits.py`)
    1  counted    signed varint `low`, one byte `letters`, then level - low as counted symbols (`counted.py`)
    2, 3          the same for the letters -1 to 1 and -2 to 2, which go without saying
    4  grouped    signed varint `low`, one byte `letters` - 1, one byte `group`, then squeezed (`squeeze.py`): the digits
                  level - low, `group` of them a byte as a number to the base `letters`, first digit least significant
    5  sparse     varint K, index set (`index_coding.py`) of the levels other than 0, one byte for the coding of these K levels
                  (0 to 4), positive ones less 1, and their body

Levels lie in [-2^15, 2^15) and are read as int8 where all of them fit, else as int16. Several digits a byte bring Huffman's
code, which zstd ends in, within about 1 % of the entropy, and make it as much faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from saddlebag.errors import LocalProtocolError, RemoteProtocolError
from saddlebag.proto.coding.bits import pack, packed_bytes, unpack
from saddlebag.proto.coding.counted import MOST_LETTERS, MOST_SYMBOLS, decode_counted, encode_counted
from saddlebag.proto.coding.indices import decode_index, encode_index
from saddlebag.proto.coding.squeeze import squeeze, unsqueeze
from saddlebag.proto.reader import signed_varint, varint

if TYPE_CHECKING:
    from saddlebag.proto.reader import Reader

__all__ = ["LevelVector", "decode_levels", "encode_levels"]

LevelVector: TypeAlias = npt.NDArray[np.signedinteger[Any]]

FIXED, COUNTED, COUNTED_3, COUNTED_5, GROUPED, SPARSE = range(6)
_TACIT = {COUNTED_3: (-1, 3), COUNTED_5: (-2, 5)}  # lowest level and number of letters
_LEAST, _MOST = -(2**15), 2**15 - 1
_INT8 = np.iinfo(np.int8)
_RUNS, _RUN = 8, 8192  # of a sample that tells whether a large vector is worth grouping
_LEAST_SQUEEZED = 64  # levels below which a frame's own bytes outweigh what it could save
_WORTH = 0.97  # of the plain size: less is not worth the time
_SPARSE, _HALF = 5, 2  # one level in so many is not 0: positions cost less than zeros, or may do so
_SMALL_TABLE, _SHARE_OF_TABLE = 64, 200  # bytes' values that a Huffman table may list: so many, or one for so many levels


def encode_levels(level_D: LevelVector) -> tuple[int, bytes]:
    """The number of the shortest coding, by a sample where D is large, and the body.

    Raises:
        LocalProtocolError: the levels are neither int8 nor int16.
    """
    if level_D.dtype not in (np.int8, np.int16):
        raise LocalProtocolError(f"levels must be int8 or int16, got {level_D.dtype}")
    count = len(level_D)
    if count <= MOST_SYMBOLS:
        return _encode_filled(level_D)
    kept = np.count_nonzero(level_D)
    if kept * _SPARSE <= count:
        return SPARSE, _encode_sparse(level_D)
    coded = _encode_filled(level_D)
    if kept * _HALF <= count <= _RUNS * _RUN:
        coded = min(coded, (SPARSE, _encode_sparse(level_D)), key=lambda coding_body: len(coding_body[1]))
    return coded


def _encode_filled(level_D: LevelVector) -> tuple[int, bytes]:
    """The shortest coding but `SPARSE`."""
    count = len(level_D)
    low, high = (int(level_D.min()), int(level_D.max())) if count else (0, 0)
    letters = high - low + 1
    best = _plain_bytes(count, low, letters)
    codings: list[tuple[int, bytes]] = []
    if 1 < letters <= MOST_LETTERS and count <= MOST_SYMBOLS:
        codings.append(_encode_counted(level_D, low, letters))
    elif 1 < letters <= 256 and count >= _LEAST_SQUEEZED and _worth_grouping(level_D, low, letters):
        codings.append((GROUPED, _encode_grouped(level_D, low, letters)))
    for coding, body in codings:
        if len(body) < best:
            return coding, body
    return FIXED, _encode_fixed(level_D, low, letters)


def _fits_int8(low: int, letters: int) -> bool:
    return bool(_INT8.min <= low and low + letters - 1 <= _INT8.max)


def _digits(level_D: LevelVector, low: int, letters: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The levels less `low` as the narrowest unsigned type: unsigned subtraction wraps to the right result."""
    if letters <= 256:
        return level_D.astype(np.uint8) - np.uint8(low & 0xFF)
    return level_D.astype(np.uint16) - np.uint16(low & 0xFFFF)


def _levels(digit_D: npt.NDArray[np.unsignedinteger[Any]], low: int, letters: int) -> LevelVector:
    """The digits plus `low`, int8 where all of them fit."""
    if _fits_int8(low, letters):
        return (digit_D.astype(np.uint8, copy=False) + np.uint8(low & 0xFF)).view(np.int8)
    level_D = (
        digit_D.astype(np.int16) + np.int16(low) if letters <= 2**15 else (digit_D.astype(np.int32) + low).astype(np.int16)
    )
    if not len(level_D) or (level_D.min() >= _INT8.min and level_D.max() <= _INT8.max):
        return level_D.astype(np.int8)
    return level_D


# fixed


def _plain_bytes(count: int, low: int, letters: int) -> int:
    return len(signed_varint(low)) + 1 + packed_bytes(count, (letters - 1).bit_length())


def _encode_fixed(level_D: LevelVector, low: int, letters: int) -> bytes:
    width = (letters - 1).bit_length()
    low = min(low, _MOST - (1 << width) + 1)  # so that every number of `width` bits is a level
    return signed_varint(low) + bytes((width,)) + pack(_digits(level_D, low, 1 << width), width)


def _decode_fixed(reader: Reader, count: int) -> LevelVector:
    low, width = reader.signed(_LEAST, _MOST, "the lowest level"), reader.byte()
    if width > 16 or low + (1 << width) - 1 > _MOST:
        raise RemoteProtocolError(f"levels of {width} bits from {low} exceed {_MOST}")
    return _levels(unpack(reader.take(packed_bytes(count, width)), count, width), low, 1 << width)


# counted


def _encode_counted(level_D: LevelVector, low: int, letters: int) -> tuple[int, bytes]:
    for coding, (tacit_low, tacit_letters) in _TACIT.items():
        if tacit_low <= low and low + letters <= tacit_low + tacit_letters:
            return coding, encode_counted(_digits(level_D, tacit_low, tacit_letters), tacit_letters)
    return COUNTED, signed_varint(low) + bytes((letters,)) + encode_counted(_digits(level_D, low, letters), letters)


def _decode_counted(reader: Reader, coding: int, count: int) -> LevelVector:
    if coding == COUNTED:
        low, letters = reader.signed(_LEAST, _MOST, "the lowest level"), reader.byte()
        if not 1 <= letters <= MOST_LETTERS or low + letters - 1 > _MOST:
            raise RemoteProtocolError(f"{letters} levels from {low}: 1 to {MOST_LETTERS} up to {_MOST} are counted")
    else:
        low, letters = _TACIT[coding]
    if count > MOST_SYMBOLS:
        raise RemoteProtocolError(f"at most {MOST_SYMBOLS} levels are counted, got {count}")
    return _levels(decode_counted(reader, count, letters), low, letters)


# grouped


def _groups(count: int, letters: int) -> set[int]:
    """Digits a byte that are worth trying: as many as fit, and fewer for a table of frequencies that is small beside them."""
    table = max(_SMALL_TABLE, count // _SHARE_OF_TABLE)
    fitting = [group for group in range(8, 0, -1) if letters**group <= 256]
    return {fitting[0], next((group for group in fitting if letters**group <= table), 1)}


def _grouped(level_D: LevelVector, low: int, letters: int, group: int) -> npt.NDArray[np.uint8]:
    digit_D = _digits(level_D, low, letters)
    digit_WG = np.zeros((-(-len(digit_D) // group), group), np.uint8)
    digit_WG.reshape(-1)[: len(digit_D)] = digit_D
    number_W = digit_WG[:, -1].copy()
    for place in range(group - 2, -1, -1):
        number_W *= np.uint8(letters & 0xFF)
        number_W += digit_WG[:, place]
    return number_W


def _worth_grouping(level_D: LevelVector, low: int, letters: int) -> bool:
    count = len(level_D)
    if count <= _RUNS * _RUN:
        return True
    starts = np.linspace(0, count - _RUN, _RUNS).astype(np.int64).tolist()
    sample = np.concatenate([level_D[start : start + _RUN] for start in starts])
    return len(_encode_grouped(sample, low, letters)) <= _WORTH * packed_bytes(len(sample), (letters - 1).bit_length())


def _encode_grouped(level_D: LevelVector, low: int, letters: int) -> bytes:
    head = signed_varint(low) + bytes((letters - 1,))
    groups = sorted(_groups(len(level_D), letters))
    return min(
        (head + bytes((group,)) + squeeze(_grouped(level_D, low, letters, group).tobytes()) for group in groups), key=len
    )


def _decode_grouped(reader: Reader, count: int) -> LevelVector:
    low, letters, group = reader.signed(_LEAST, _MOST, "the lowest level"), reader.byte() + 1, reader.byte()
    if low + letters - 1 > _MOST or not group or letters**group > 256:
        raise RemoteProtocolError(f"{group} of {letters} levels from {low} a byte: all their numbers must be below 256")
    words = -(-count // group)
    number_W = np.frombuffer(unsqueeze(reader, words, words), np.uint8)
    if int(number_W.max(initial=0)) >= letters**group:
        raise RemoteProtocolError(f"a byte {number_W.max()} holds no {group} of {letters} levels")
    if group == 1:
        return _levels(number_W, low, letters)
    digit_WG = np.empty((words, group), np.uint8)
    for place in range(group - 1):
        rest_W = number_W // np.uint8(letters)
        np.subtract(number_W, rest_W * np.uint8(letters), out=digit_WG[:, place])
        number_W = rest_W
    digit_WG[:, -1] = number_W
    return _levels(digit_WG.reshape(-1)[:count], low, letters)


# sparse


def _encode_sparse(level_D: LevelVector) -> bytes:
    index_K = np.flatnonzero(level_D)
    level_K = level_D[index_K]
    coding, body = _encode_filled(level_K - (level_K > 0))
    return varint(len(index_K)) + encode_index(len(level_D), index_K) + bytes((coding,)) + body


def _decode_sparse(reader: Reader, count: int) -> LevelVector:
    kept = reader.size(0, count, "the number of levels other than 0")
    index_K = decode_index(reader, count, kept)
    coding = reader.byte()
    if coding == SPARSE:
        raise RemoteProtocolError("sparse levels within sparse levels")
    level_K = decode_levels(reader, coding, kept).astype(np.int16)
    if len(level_K) and level_K.max() == _MOST:
        raise RemoteProtocolError(f"a level exceeds {_MOST}")
    level_K += level_K >= 0
    fits = not len(level_K) or (level_K.min() >= _INT8.min and level_K.max() <= _INT8.max)
    level_D: LevelVector = np.zeros(count, np.int8 if fits else np.int16)
    level_D[index_K] = level_K
    return level_D


def decode_levels(reader: Reader, coding: int, count: int) -> LevelVector:
    """The levels here, int8 or int16, shape (D,).

    Raises:
        RemoteProtocolError: the bytes are no such levels.
    """
    if coding == FIXED:
        return _decode_fixed(reader, count)
    if coding in (COUNTED, *_TACIT):
        return _decode_counted(reader, coding, count)
    if coding == GROUPED:
        return _decode_grouped(reader, count)
    if coding == SPARSE:
        return _decode_sparse(reader, count)
    raise RemoteProtocolError(f"unknown level coding {coding}")
