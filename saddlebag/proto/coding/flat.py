"""Flat payloads as bytes: a layout byte and a body.

    1, 2       Dense, float32 or float64: the values, little-endian
    3          PowersOfTwo: ceil(D / 8) bytes of signs (bit i of byte j is coordinate 8 j + i), D bytes of biased exponents
    7, 8       Half, float16 or bfloat16: 2 D bytes
    9          PowersOfTwo: the signs, one byte for the coding of levels, the exponents less 127 as levels
    16, 17     Half, float16 or bfloat16: two squeezed planes of bytes (`planes.py`)
    18         Codebook: varint block, one byte for the number of values C (1 to 127), the values of each block as float32, one
               byte for the coding of levels, the codes as levels
    32 to 63   Levels: [varint block,] a float32 scale for each block, the levels
    96 to 127  the same with bfloat16 scales

In a layout byte of levels bits 0 to 2 are their coding (`level_coding.py`), bit 3 is the spacing, bit 4 says that a varint
`block` follows and a scale for each block (without it one scale serves all), and bit 6 that the scales have two bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from saddlebag.compression import Codebook, Dense, Flat, Half, Levels, PowersOfTwo, Spacing, require_finite
from saddlebag.errors import LocalProtocolError, NotFiniteError, RemoteProtocolError
from saddlebag.proto.coding.levels import decode_levels, encode_levels
from saddlebag.proto.coding.planes import decode_planes, encode_planes
from saddlebag.proto.reader import varint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saddlebag.compression import Vector
    from saddlebag.proto.reader import Buffer, Reader

__all__ = ["DENSE", "decode_flat", "encode_flat", "finite", "is_flat"]

DENSE32, DENSE64, POWERS = 1, 2, 3
FLOAT16, BFLOAT16, CODED_POWERS = 7, 8, 9
FLOAT16_PLANES, BFLOAT16_PLANES, CODEBOOK = 16, 17, 18
LEVELS = 32
_CODING, _DYADIC, _BLOCKS, _SHORT = 0b111, 0b1000, 0b10000, 0b1000000  # within a layout byte of levels
_HALVES: dict[int, tuple[Literal["float16", "bfloat16"], bool]] = {
    FLOAT16: ("float16", False),
    BFLOAT16: ("bfloat16", False),
    FLOAT16_PLANES: ("float16", True),
    BFLOAT16_PLANES: ("bfloat16", True),
}
_HALF_LAYOUTS = {key: layout for layout, key in _HALVES.items()}
_KNOWN = {
    DENSE32,
    DENSE64,
    POWERS,
    CODED_POWERS,
    CODEBOOK,
    *_HALVES,
    *range(LEVELS, LEVELS + 32),
    *range(LEVELS | _SHORT, (LEVELS | _SHORT) + 32),
}

DENSE: dict[int, np.dtype[np.floating[Any]]] = {DENSE32: np.dtype("<f4"), DENSE64: np.dtype("<f8")}
"""The layouts whose body is the values themselves, and their type."""
_F4, _U2, _U1 = np.dtype("<f4"), np.dtype("<u2"), np.dtype("u1")
_BIAS = 127  # of float32's exponents
_MOST_LETTERS = 127  # values of a codebook: codes are int8


def is_flat(layout: int) -> bool:
    """Whether a layout byte announces a flat payload."""
    return layout in _KNOWN


def encode_flat(value: Flat) -> Iterator[Buffer]:
    """The payload as buffers; arrays of `Dense` are not copied.

    Raises:
        LocalProtocolError: it is no flat payload, or its scales do not fit its blocks.
    """
    match value:
        case Dense(value_D):
            layout = DENSE32 if value_D.dtype.itemsize == 4 else DENSE64
            yield bytes((layout,))
            yield np.ascontiguousarray(value_D, DENSE[layout]).data.cast("B")
        case Half():
            yield _encode_half(value)
        case PowersOfTwo(value_D):
            yield _encode_powers(value_D)
        case Levels():
            yield _encode_levels(value)
        case Codebook():
            yield _encode_codebook(value)
        case _:
            raise LocalProtocolError(f"no layout for a payload of type {type(value).__name__}")


def _encode_half(value: Half) -> bytes:
    if value.kind == "float16":
        bits_D = value.value_D.astype(np.float16).view(np.uint16)
    else:
        bits_D = (np.ascontiguousarray(value.value_D, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    planes = encode_planes(bits_D)
    body = bits_D.astype(_U2).tobytes() if planes is None else planes
    return bytes((_HALF_LAYOUTS[value.kind, planes is not None],)) + body


def _encode_powers(value_D: Vector) -> bytes:
    bits_D = value_D.view(np.uint32)
    signs = np.packbits((bits_D >> 31).astype(np.uint8), bitorder="little").tobytes()
    exponent_D = (bits_D >> 23).astype(np.uint8)  # the sign drops out
    coding, body = encode_levels((exponent_D - np.uint8(_BIAS)).view(np.int8))
    if len(body) + 1 < len(exponent_D):
        return b"".join((bytes((CODED_POWERS,)), signs, bytes((coding,)), body))
    return b"".join((bytes((POWERS,)), signs, exponent_D.tobytes()))


def _encode_levels(value: Levels) -> bytes:
    if len(value.scale_B) != -(-value.dimension // value.block):
        raise LocalProtocolError(
            f"{value.dimension} levels in blocks of {value.block} have {-(-value.dimension // value.block)} scales, "
            f"got {len(value.scale_B)}"
        )
    coding, body = encode_levels(value.level_D)
    layout = LEVELS | coding | (_DYADIC if value.spacing is Spacing.DYADIC else 0)
    bits_B = value.scale_B.astype(_F4).view("<u4")
    short = not (bits_B & 0xFFFF).any()  # a bfloat16, as `grid` makes them
    layout |= _SHORT if short else 0
    header = bytes((layout,)) if value.block >= value.dimension else bytes((layout | _BLOCKS,)) + varint(value.block)
    return header + ((bits_B >> 16).astype(_U2) if short else bits_B).tobytes() + body


def _encode_codebook(value: Codebook) -> bytes:
    blocks, letters = value.value_BC.shape
    if blocks != -(-value.dimension // value.block) or not 1 <= letters <= _MOST_LETTERS:
        raise LocalProtocolError(
            f"{value.dimension} codes in blocks of {value.block} have 1 to {_MOST_LETTERS} values for each block, "
            f"got {value.value_BC.shape}"
        )
    coding, body = encode_levels(value.code_D)
    head = bytes((CODEBOOK,)) + varint(value.block) + bytes((letters,))
    return head + value.value_BC.astype(_F4).tobytes() + bytes((coding,)) + body


def decode_flat(reader: Reader, layout: int, dimension: int) -> Flat:
    """The flat payload here, whose layout byte has been read.

    Raises:
        RemoteProtocolError: the bytes are no such payload, or hold a value that is not finite.
    """
    if layout in DENSE:
        return Dense(finite(reader.array(dimension, DENSE[layout])))
    if layout in (POWERS, CODED_POWERS):
        return _decode_powers(reader, layout, dimension)
    if layout in _HALVES:
        return _decode_half(reader, layout, dimension)
    if layout == CODEBOOK:
        return _decode_codebook(reader, dimension)
    if layout not in _KNOWN:
        raise RemoteProtocolError(f"layout {layout} where values are expected")
    return _decode_levels(reader, layout, dimension)


def _decode_half(reader: Reader, layout: int, dimension: int) -> Half:
    kind, in_planes = _HALVES[layout]
    bits_D = decode_planes(reader, dimension) if in_planes else reader.array(dimension, _U2).astype(np.uint16)
    if kind == "bfloat16":
        return Half(finite((bits_D.astype(np.uint32) << 16).view(np.float32)), kind)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return Half(finite(bits_D.view(np.float16).astype(np.float32)), kind)


def _decode_powers(reader: Reader, layout: int, dimension: int) -> PowersOfTwo:
    sign_D = np.unpackbits(np.frombuffer(reader.take(-(-dimension // 8)), np.uint8), count=dimension, bitorder="little")
    if layout == POWERS:
        exponent_D = reader.array(dimension, _U1)
    else:
        level_D = decode_levels(reader, reader.byte(), dimension)
        if level_D.dtype != np.int8:
            raise RemoteProtocolError(f"an exponent must lie in [-128, 127], got {level_D.min()} to {level_D.max()}")
        exponent_D = level_D.view(np.uint8) + np.uint8(_BIAS)
    bits_D = sign_D.astype(np.uint32) << 31 | exponent_D.astype(np.uint32) << 23
    return PowersOfTwo(finite(bits_D.view(np.float32)))


def _decode_levels(reader: Reader, layout: int, dimension: int) -> Levels:
    block = reader.size(1, dimension, "the block of levels") if layout & _BLOCKS else max(dimension, 1)
    count = -(-dimension // block)
    if layout & _SHORT:
        scale_B = finite((reader.array(count, _U2).astype(np.uint32) << 16).view(np.float32))
    else:
        scale_B = finite(reader.array(count, _F4))
    if (scale_B < 0).any():
        raise RemoteProtocolError(f"a scale must not be negative, got {scale_B.min()}")
    level_D = decode_levels(reader, layout & _CODING, dimension)
    return Levels(level_D, scale_B, block, Spacing.DYADIC if layout & _DYADIC else Spacing.LINEAR)


def _decode_codebook(reader: Reader, dimension: int) -> Codebook:
    block = reader.size(1, max(dimension, 1), "the block of a codebook")
    letters = reader.byte()
    if not 1 <= letters <= _MOST_LETTERS:
        raise RemoteProtocolError(f"a codebook has 1 to {_MOST_LETTERS} values, got {letters}")
    blocks = -(-dimension // block)
    value_BC = finite(reader.array(blocks * letters, _F4)).reshape(blocks, letters)
    code_D = decode_levels(reader, reader.byte(), dimension)
    if len(code_D) and not (code_D.min() >= 0 and code_D.max() < letters):
        raise RemoteProtocolError(f"codes must lie in [0, {letters}), got {code_D.min()} to {code_D.max()}")
    return Codebook(code_D.astype(np.int8), value_BC, block)


def finite(value_D: Vector) -> Vector:
    """The same values.

    Raises:
        RemoteProtocolError: one is not finite.
    """
    try:
        require_finite(value_D, "a received value")
    except NotFiniteError as error:
        raise RemoteProtocolError(str(error)) from error
    return value_D
