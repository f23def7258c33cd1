"""Messages on the wire: round trips, golden bytes, pieces, lies."""

from __future__ import annotations

import json
import math
import struct
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.algorithms import Message
from saddlebag.compression import (
    Compressor,
    Concat,
    Dense,
    Draws,
    Flat,
    Half,
    Identity,
    Levels,
    LowRank,
    Natural,
    Payload,
    PowersOfTwo,
    RandK,
    Scheme,
    Scope,
    Seeded,
    Spacing,
    Sparse,
    Sum,
    Support,
    TopK,
    Total,
    UnscaledRandK,
)
from saddlebag.errors import LocalProtocolError, RemoteProtocolError
from saddlebag.proto.codec import MOST_DEPTH, MOST_PARTS, MOST_TERMS, LoopbackWire, decode, encode, max_message_bytes
from saddlebag.proto.coding.indices import GAPS, SQUEEZED
from saddlebag.proto.coding.squeeze import squeeze
from saddlebag.proto.reader import read_varint, signed_varint, varint
from saddlebag.proto.streaming import StreamDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator

VECTORS = sorted((Path(__file__).parents[1] / "vectors").glob("codec_v*.json"))
GOLDEN = [case for path in VECTORS for case in json.loads(path.read_text(encoding="utf-8"))]
DRAWS = Draws(7, 3, 1)
FLOAT32_INF, FLOAT32_NAN = bytes.fromhex("0000807f"), bytes.fromhex("0000c07f")


def packed(message: Message) -> bytes:
    return b"".join(encode(message))


def facts(payload: Payload | Flat) -> tuple[Any, ...]:
    """All there is to a payload, values bit for bit."""
    match payload:
        case Dense(value_D) | PowersOfTwo(value_D):
            return type(payload), value_D.dtype.newbyteorder("<"), value_D.tobytes()
        case Half(value_D, kind):
            return type(payload), kind, value_D.dtype, value_D.tobytes()
        case Levels(level_D, scale_B, block, spacing):
            block = min(block, max(len(level_D), 1))  # longer blocks are all the same
            return type(payload), level_D.dtype, level_D.tolist(), scale_B.tobytes(), block, spacing
        case Sparse(dimension, index_K, value):
            return type(payload), dimension, index_K.dtype, index_K.tolist(), facts(value)
        case Seeded(support, index_K, value):
            return type(payload), support, index_K.tolist(), facts(value)
        case LowRank(dimension, p_RK, q_CK):
            return type(payload), dimension, p_RK.shape, p_RK.tobytes(), q_CK.shape, q_CK.tobytes()
        case Concat(parts) | Total(parts):
            return type(payload), *(facts(part) for part in parts)
    raise AssertionError(payload)


def all_facts(message: Message) -> list[tuple[Any, ...]]:
    return [facts(part) for part in message.parts]


POWERS = st.builds(lambda sign, power: sign * 2.0**power, st.sampled_from([-1, 0, 1, -0.0]), st.integers(-126, 127))


def floats(draw: st.DrawFn, dtype: str, shape: int | tuple[int, ...], least: float | None = None) -> Any:
    width = np.dtype(dtype).itemsize * 8
    return draw(hnp.arrays(dtype, shape, elements=st.floats(least, allow_nan=False, allow_infinity=False, width=width)))


@st.composite
def levels(draw: st.DrawFn, size: int) -> Levels:
    most = draw(st.sampled_from([0, 1, 2, 7, 100, 127, 128, 255, 2**15 - 1]))
    least = draw(st.sampled_from([-most - 1, -most, 0, most]))
    level_D = draw(hnp.arrays(np.int16, size, elements=st.integers(max(least, -(2**15)), most)))
    if not size or (level_D.min() >= -128 and level_D.max() <= 127):
        level_D = level_D.astype(np.int8)  # the narrowest type, which is what is read
    block = draw(st.integers(1, size + 3))
    return Levels(level_D, floats(draw, "<f4", -(-size // block), 0.0), block, draw(st.sampled_from(Spacing)))


@st.composite
def flats(draw: st.DrawFn, size: int) -> Flat:
    match draw(st.sampled_from(["powers", "levels", "float16", "bfloat16", "<f4", "<f8"])):
        case "powers":
            return PowersOfTwo(draw(hnp.arrays(np.float32, size, elements=POWERS)))
        case "levels":
            return draw(levels(size))
        case "float16":
            return Half(floats(draw, "<f2", size).astype(np.float32), "float16")
        case "bfloat16":
            exponents_below_inf = st.integers(0, 0x7F7F) | st.integers(0x8000, 0xFF7F)
            bits_D = draw(hnp.arrays(np.uint32, size, elements=exponents_below_inf))
            return Half((bits_D << np.uint32(16)).view(np.float32), "bfloat16")
        case dtype:
            return Dense(floats(draw, dtype, size))


SUPPORTS = [(scheme, scope) for scheme in (Scheme.SUBSET, Scheme.STRATA) for scope in Scope]


@st.composite
def low_ranks(draw: st.DrawFn, dimension: int) -> LowRank:
    columns = draw(st.integers(1, dimension))
    rows = math.ceil(dimension / columns)
    rank = draw(st.integers(1, min(rows, columns, 3)))
    return LowRank(dimension, floats(draw, "<f4", (rows, rank)), floats(draw, "<f4", (columns, rank)))


@st.composite
def leaves(draw: st.DrawFn, d: int) -> Payload:
    match draw(st.sampled_from(["flat", "sparse", "seeded", "share", "low rank"])):
        case "sparse":
            k = draw(st.integers(0, min(d, 24)))
            return Sparse(
                d, np.array(sorted(draw(st.sets(st.integers(0, d - 1), min_size=k, max_size=k))), np.int64), draw(flats(k))
            )
        case "seeded":
            scheme, scope = draw(st.sampled_from(SUPPORTS))
            support = Support(d, draw(st.integers(1, min(d, 24))), scope, scheme)
            return Seeded(support, support.index_K(DRAWS), draw(flats(support.size)))
        case "share":
            workers = draw(st.integers(max(DRAWS.worker + 1, d // 24), 2 * d + 3))
            support = Support.share(d, workers, DRAWS)
            return Seeded(support, support.index_K(DRAWS), draw(flats(support.size)))
        case "low rank" if d < 300:
            return draw(low_ranks(d))
    return draw(flats(d))


@st.composite
def payloads(draw: st.DrawFn, d: int, depth: int = 2) -> Payload:
    kind = draw(st.sampled_from(["leaf", "leaf", "concat", "total"])) if depth and d < 300 else "leaf"
    if kind == "concat":
        cuts = sorted(draw(st.lists(st.integers(1, d - 1), max_size=3, unique=True))) if d > 1 else []
        sizes = np.diff([0, *cuts, d]).tolist()
        return Concat(tuple(draw(payloads(size, depth - 1)) for size in sizes))
    if kind == "total":
        return Total(tuple(draw(payloads(d, depth - 1)) for _ in range(draw(st.integers(1, 2)))))
    return draw(leaves(d))


dimensions = st.integers(1, 24) | st.sampled_from([255, 256, 257, 70_000])
messages = st.lists(dimensions.flatmap(payloads), max_size=4).map(lambda parts: Message(tuple(parts)))


def sizes_of(message: Message) -> tuple[int, ...]:
    return tuple(part.dimension for part in message.parts)


@given(messages)
def test_decoding_inverts_encoding(message: Message) -> None:
    data = packed(message)
    received = decode(data, sizes_of(message), DRAWS)
    assert all_facts(received) == all_facts(message)
    assert packed(received) == data
    assert len(data) <= max_message_bytes(sizes_of(message))
    carried, num_bytes = LoopbackWire().carry(message, sizes_of(message), DRAWS)
    assert all_facts(carried) == all_facts(message)
    assert num_bytes == len(data)


def test_values_are_not_copied() -> None:
    value_D = np.arange(5, dtype=np.float32)
    sent = np.frombuffer(encode(Message((Dense(value_D),)))[1], np.float32)
    assert np.shares_memory(sent, value_D)
    data = packed(Message((Dense(value_D),)))
    assert np.shares_memory(decode(data, (5,), DRAWS).parts[0].value_D, np.frombuffer(data, np.uint8))


def test_values_that_do_not_lie_together_are_encoded() -> None:
    value_D = np.arange(10, dtype=np.float64)[::2]
    assert decode(packed(Message((Dense(value_D),))), (5,), DRAWS).parts[0].dense().tolist() == value_D.tolist()
    powers_D = np.array([1, 0, -2, 0, 4, 0], np.float32)[::2]
    assert decode(packed(Message((PowersOfTwo(powers_D),))), (3,), DRAWS).parts[0].dense().tolist() == [1, -2, 4]


def test_an_unknown_payload_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError, match="no layout for a payload of type str"):
        encode(Message(("not a payload",)))  # type: ignore[arg-type]


# golden vectors


def numbers(x: Any) -> Any:
    """Floats that JSON keeps bit for bit."""
    return [float(entry).hex() for entry in np.ravel(x)]


def described(part: Payload | Flat) -> dict[str, Any]:
    """What the golden file says of a payload."""
    match part:
        case Dense(value_D) | PowersOfTwo(value_D):
            return {"layout": type(part).__name__, "dtype": value_D.dtype.name, "values": numbers(value_D)}
        case Half(value_D, kind):
            return {"layout": "Half", "dtype": kind, "values": numbers(value_D)}
        case Levels(level_D, scale_B, block, spacing):
            names = {"layout": "Levels", "dtype": level_D.dtype.name, "spacing": spacing.name, "block": block}
            return {**names, "levels": level_D.tolist(), "scales": numbers(scale_B)}
        case Sparse(_, index_K, value):
            return {"layout": "Sparse", "index": index_K.tolist(), "value": described(value)}
        case Seeded(support, index_K, value):
            names = {"layout": "Seeded", "scope": support.scope.name}
            if support.scheme is not Scheme.SUBSET:
                names |= {"scheme": support.scheme.name, "workers": support.workers}
            return {**names, "index": index_K.tolist(), "value": described(value)}
        case LowRank(_, p_RK, q_CK):
            return {"layout": "LowRank", "shape": [*p_RK.shape, len(q_CK)], "p": numbers(p_RK), "q": numbers(q_CK)}
        case Concat(parts) | Total(parts):
            return {"layout": type(part).__name__, "parts": [described(inner) for inner in parts]}
    raise AssertionError(part)


golden = pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])


def golden_parts(case: dict[str, Any]) -> tuple[bytes, tuple[int, ...], Draws]:
    return bytes.fromhex(case["hex"]), tuple(case["sizes"]), Draws(case["seed"], case["round"], case["worker"])


@golden
def test_golden_bytes_parse_for_ever(case: dict[str, Any]) -> None:
    data, sizes, draws = golden_parts(case)
    message = decode(data, sizes, draws)
    assert [described(part) for part in message.parts] == case["parts"]
    again = packed(message)
    assert [described(part) for part in decode(again, sizes, draws).parts] == case["parts"]
    if case.get("squeezed"):  # another version of zstd may write other bytes
        assert len(again) <= len(data) + 8
    else:  # or a later coding is shorter
        assert again == data or len(again) < len(data)


def every_layout(parts: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for part in parts:
        yield part["layout"], part.get("scheme"), part.get("scope"), part.get("spacing"), part.get("dtype")
        yield from every_layout([part["value"]] if "value" in part else part.get("parts", []))


def test_golden_bytes_cover_every_layout() -> None:
    assert {layout for case in GOLDEN for layout in every_layout(case["parts"])} == {
        *(("Dense", None, None, None, dtype) for dtype in ("float32", "float64")),
        *(("Half", None, None, None, kind) for kind in ("float16", "bfloat16")),
        ("PowersOfTwo", None, None, None, "float32"),
        *(("Levels", None, None, spacing.name, dtype) for spacing in Spacing for dtype in ("int8", "int16")),
        ("Sparse", None, None, None, None),
        *(("Seeded", scheme, scope.name, None, None) for scheme in (None, "STRATA") for scope in Scope),
        ("Seeded", "PERMUTATION", "OWN", None, None),
        *((name, None, None, None, None) for name in ("LowRank", "Concat", "Total")),
    }


@golden
def test_every_truncation_and_every_extension_is_refused(case: dict[str, Any]) -> None:
    data, sizes, draws = golden_parts(case)
    for end in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            decode(data[:end], sizes, draws)
        with pytest.raises(RemoteProtocolError):
            streamed(data[:end], sizes, draws, [end // 2])
    for extra in range(256):
        with pytest.raises(RemoteProtocolError, match="1 bytes too many"):
            decode(data + bytes((extra,)), sizes, draws)
        with pytest.raises(RemoteProtocolError):
            streamed(data + bytes((extra,)), sizes, draws, [len(data), 1])
    with pytest.raises(RemoteProtocolError, match="bytes too many"):
        decode(data + data, sizes, draws)


# pieces


def streamed(data: bytes, sizes: tuple[int, ...], draws: Draws, lengths: list[int]) -> Message:
    """The message put together from what a `StreamDecoder` gives out, fed pieces of these lengths and then the rest."""
    decoder = StreamDecoder(sizes, draws, len(data))
    pieces: dict[int, list[Payload]] = {}
    at = 0
    for length in [*lengths, len(data)]:
        for part, start, payload in decoder.feed(data[at : at + length]):
            earlier = pieces.setdefault(part, [])
            assert start == sum(piece.dimension for piece in earlier)
            earlier.append(payload)
        at += length
        if at >= len(data):
            break
    assert decoder.complete
    parts: list[Payload] = []
    for part in sorted(pieces):
        first, *more = pieces[part]
        if more:
            first = Dense(np.concatenate([piece.value_D for piece in (first, *more) if isinstance(piece, Dense)]))
        parts.append(first)
    return Message(tuple(parts))


@given(messages.filter(lambda message: message.parts), st.lists(st.integers(0, 40), max_size=30))
def test_pieces_give_the_same_as_the_whole(message: Message, lengths: list[int]) -> None:
    data, sizes = packed(message), sizes_of(message)
    assert all_facts(streamed(data, sizes, DRAWS, lengths)) == all_facts(message)
    if len(data) < 5000:
        assert all_facts(streamed(data, sizes, DRAWS, [1] * len(data))) == all_facts(message)


def test_dense_slices_come_out_as_they_arrive() -> None:
    message = Message(
        (Dense(np.arange(4.0)), Dense(np.arange(3, dtype=np.float32)), Sparse(9, np.array([4]), Dense(np.ones(1))))
    )
    data = packed(message)
    decoder = StreamDecoder((4, 3, 9), DRAWS, len(data))

    def coordinates(piece: bytes) -> list[tuple[int, int, list[float]]]:
        return [(part, start, payload.dense().tolist()) for part, start, payload in decoder.feed(piece)]

    assert coordinates(data[:20]) == [(0, 0, [0.0, 1.0])]
    assert coordinates(data[20:40]) == [(0, 2, [2.0, 3.0]), (1, 0, [0.0])]
    assert coordinates(data[40:47]) == [(1, 1, [1.0, 2.0])]
    assert coordinates(data[47:-1]) == []
    assert not decoder.complete
    assert coordinates(data[-1:]) == [(2, 0, [0, 0, 0, 0, 1, 0, 0, 0, 0])]
    assert decoder.complete


def test_more_bytes_than_announced_are_refused() -> None:
    data = packed(Message((Dense(np.ones(3)),)))
    decoder = StreamDecoder((3,), DRAWS, len(data))
    list(decoder.feed(data[:10]))
    with pytest.raises(RemoteProtocolError, match="1 bytes longer than announced"):
        list(decoder.feed(data[10:] + b"\0"))


def test_an_announced_length_beyond_the_schema_is_refused_at_once() -> None:
    StreamDecoder((10, 20), DRAWS, max_message_bytes((10, 20)))
    for total in (max_message_bytes((10, 20)) + 1, 2**62, 2**64 - 1):
        with pytest.raises(RemoteProtocolError, match=f"a message of {total} bytes exceeds"):
            StreamDecoder((10, 20), DRAWS, total)


def test_a_message_of_no_bytes_is_refused_where_parts_are_due() -> None:
    with pytest.raises(RemoteProtocolError, match="cut short"):
        list(StreamDecoder((3,), DRAWS, 0).feed(b""))
    assert list(StreamDecoder((), DRAWS, 0).feed(b"")) == []


# lengths


def index_bytes(d: int, k: int) -> int:
    width = next(width for width in (1, 2, 4, 8) if d <= 256**width)
    return 1 + min(width * k, math.ceil(d / 8))


@pytest.mark.parametrize("d", [1, 8, 9, 100, 256, 257, 3000])
def test_lengths_are_the_compressors_bits_and_the_documented_headers(d: int) -> None:
    x_D = np.random.default_rng(0).standard_normal(d)
    k = max(1, d // 5)
    values_in_values = 1 + len(varint(k)) + 1  # layout, K, layout of the values
    cases: list[tuple[Compressor, int]] = [
        (Identity(), 1),
        (Identity(dtype="float64"), 1),
        (RandK(k=k), values_in_values),
        (RandK(k=k, support="common"), values_in_values),
        (UnscaledRandK(k=k), values_in_values),
    ]
    for compressor, header in cases:
        assert len(packed(Message((compressor.encode(x_D, DRAWS),)))) == math.ceil(compressor.bits(d) / 8) + header
    assert len(packed(Message((Natural().encode(x_D, DRAWS),)))) <= math.ceil(Natural().bits(d) / 8) + 1
    top_k = TopK(k=k)
    num_bytes = len(packed(Message((top_k.encode(x_D, DRAWS),)))) - values_in_values
    assert num_bytes <= index_bytes(d, k) + 4 * k  # the plain codings
    assert 0 <= num_bytes - top_k.bits(d) / 8 <= 3 + 0.03 * k  # bits() is the entropy bound


def test_identity_chooses_the_shorter_layout() -> None:
    for d in (1, 7, 100, 300):
        for count in range(d + 1):
            x_D = np.zeros(d)
            x_D[:count] = 1.5
            for identity in (Identity(), Identity(dtype="float64")):
                assert len(packed(Message((identity.encode(x_D, DRAWS),)))) <= math.ceil(identity.bits(d) / 8) + 1


# lies

LIES = {
    "no layout 0": (b"\x00", (1,), "unknown layout 0"),
    "no layout 19": (b"\x13", (1,), "unknown layout 19"),
    "no part": (b"", (1,), "cut short"),
    "no K": (b"\x04", (4,), "a number is cut short"),
    "K is 0": (b"\x05\x00", (4,), r"the number of kept coordinates must lie in \[1, 4\], got 0"),
    "K exceeds D": (b"\x05\x05\x01", (4,), r"must lie in \[1, 4\], got 5"),
    "K is huge": (b"\x06" + varint(2**64 - 1), (4,), r"must lie in \[1, 4\], got 18446744073709551615"),
    "K exceeds 64 bits": (b"\x06" + b"\xff" * 9 + b"\x02", (4,), "a number exceeds 64 bits"),
    "K does not end": (b"\x06" + b"\x80" * 20, (4,), "a number exceeds 64 bits"),
    "sparse in sparse": (b"\x04\x01\x00\x00\x04", (4,), "layout 4 where values are expected"),
    "seeded in seeded": (b"\x05\x01\x05", (4,), "layout 5 where values are expected"),
    "indices descend": (b"\x04\x02\x00\x02\x01\x01" + bytes(8), (4,), r"indices must ascend strictly within \[0, 4\)"),
    "indices repeat": (b"\x04\x02\x00\x02\x02\x01" + bytes(8), (4,), "indices must ascend"),
    "an index is too large": (b"\x04\x01\x00\x04\x01" + bytes(4), (4,), "indices must ascend"),
    "an index of 8 bytes is negative": (b"\x04\x01\x00" + b"\xff" * 8 + b"\x01" + bytes(4), (2**33,), "indices must ascend"),
    "indices of 8 bytes wrap around": (
        b"\x04\x04\x00" + struct.pack("<4Q", 5, 2**63 + 1, 0, 7) + b"\x01" + bytes(16),
        (2**33,),
        "indices must ascend",
    ),
    "unknown coding": (b"\x04\x01\x04\x00\x01" + bytes(4), (4,), "unknown index coding 4"),
    "the bitmap holds fewer": (b"\x04\x02\x01\x01\x01" + bytes(8), (4,), "a bitmap of 2 of 4 coordinates holds 1"),
    "the bitmap is empty": (b"\x04\x01\x01\x00\x01" + bytes(4), (4,), "a bitmap of 1 of 4 coordinates holds 0"),
    "the bitmap exceeds D": (b"\x04\x01\x01\x10\x01" + bytes(4), (4,), "a bitmap of 1 of 4 coordinates"),
    "inf": (b"\x01" + FLOAT32_INF, (1,), "a received value must be finite, got inf"),
    "nan": (b"\x01" + bytes(8) + FLOAT32_NAN, (3,), "got nan at coordinate 2 of 3"),
    "-inf in float64": (b"\x02" + struct.pack("<2d", 1.0, -math.inf), (2,), "got -inf at coordinate 1 of 2"),
    "inf as a power of two": (b"\x03\x00\xff", (1,), "got inf"),
    "-inf as a power of two": (b"\x03\x02\x7f\xff", (2,), "got -inf at coordinate 1 of 2"),
    "nan in sparse": (b"\x04\x01\x00\x00\x01" + FLOAT32_NAN, (4,), "got nan"),
    "nan in seeded": (b"\x05\x01\x01" + FLOAT32_NAN, (4,), "got nan"),
    "inf in common": (b"\x06\x01\x03\x00\xff", (4,), "got inf"),
    "inf in float16": (b"\x07\x00\x7c", (1,), "got inf"),
    "a signalling nan in float16": (b"\x07\x01\x7c", (1,), "got nan"),
    "-inf in bfloat16": (b"\x08\x80\xff", (1,), "got -inf"),
    "inf in planes of float16": (b"\x10" + squeeze(b"\xf8") + squeeze(b"\x00"), (1,), "got inf"),
    "-inf in planes of bfloat16": (b"\x11" + squeeze(b"\xff") + squeeze(b"\x01"), (1,), "got -inf"),
    "planes of two lengths": (b"\x11" + squeeze(bytes(3)) + squeeze(bytes(4)), (3,), "must hold 3 to 3 bytes, got 4"),
    "an unknown coding of levels": (b"\x27" + bytes(4) + b"\x00\x00", (3,), "unknown level coding 7"),
    "a scale is infinite": (b"\x20" + FLOAT32_INF + b"\x00\x00", (3,), "got inf"),
    "a scale is negative": (b"\x20" + struct.pack("<f", -1.0) + b"\x00\x00", (3,), "must not be negative, got -1.0"),
    "a block of no levels": (b"\x30\x00", (3,), r"the block of levels must lie in \[1, 3\], got 0"),
    "a block of too many levels": (b"\x30\x04", (3,), r"must lie in \[1, 3\], got 4"),
    "levels are cut short": (b"\x20" + bytes(4) + b"\x00\x03\x00", (3,), "2 bytes expected, 1 left"),
    "levels are too wide": (b"\x20" + bytes(4) + b"\x00\x11" + bytes(9), (3,), "levels of 17 bits from 0 exceed 32767"),
    "levels exceed 16 bits": (b"\x20" + bytes(4) + b"\x02\x0f" + bytes(9), (3,), "levels of 15 bits from 1 exceed 32767"),
    "the lowest level is too low": (b"\x20" + bytes(4) + signed_varint(-32769) + b"\x00", (3,), "must lie in .*, got -32769"),
    "an exponent beyond 8 bits": (b"\x09\x00\x00" + signed_varint(200) + b"\x00", (1,), "exponent must lie in .*, got 200"),
    "an infinite exponent": (b"\x09\x00\x00" + signed_varint(-128) + b"\x00", (1,), "got inf"),
    "a permutation for nobody": (b"\x0f\x00", (3,), "the workers of a permutation must lie in"),
    "a permutation without the sender": (b"\x0f\x01\x01" + bytes(12), (3,), "sender 1 has no share of 3 .* dealt to 1"),
    "more columns than entries": (b"\x0a\x05\x01", (4,), r"the columns of a matrix must lie in \[1, 4\], got 5"),
    "a rank beyond the matrix": (b"\x0a\x03\x03", (6,), r"the rank of a matrix must lie in \[1, 2\], got 3"),
    "nan in a factor": (b"\x0a\x02\x01" + bytes(12) + FLOAT32_NAN, (4,), "got nan"),
    "no parts": (b"\x0b\x00", (4,), r"the number of parts must lie in \[1, 16384\], got 0"),
    "too many parts": (b"\x0b" + varint(MOST_PARTS + 1), (4,), "the number of parts must lie in"),
    "too many parts in all": (b"\x0b\x02\x02\x0b" + varint(MOST_PARTS - 1), (4,), "more than 16384 parts"),
    "parts exceed D": (b"\x0b\x02\x05", (4,), r"the dimension of a part must lie in \[0, 4\], got 5"),
    "parts fall short of D": (b"\x0b\x02\x02\x01" + bytes(8) + b"\x01" + bytes(4), (4,), "8 bytes expected, 4 left"),
    "parts nest too deep": (b"\x0b\x01" * 5, (4,), f"nest deeper than {MOST_DEPTH}"),
    "no terms": (b"\x0c\x00", (4,), r"the number of terms must lie in \[1, 8\], got 0"),
    "too many terms": (b"\x0c\x09", (4,), r"the number of terms must lie in \[1, 8\], got 9"),
    "too many terms of terms": (b"\x0c\x03\x0c\x03", (4,), f"adds more than {MOST_TERMS} payloads at a coordinate"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_named(name: str) -> None:
    data, sizes, message = LIES[name]
    with pytest.raises(RemoteProtocolError, match=message):
        decode(data, sizes, DRAWS)
    for lengths in ([], [1] * len(data)):
        with pytest.raises(RemoteProtocolError):
            streamed(data, sizes, DRAWS, lengths)


def test_a_claim_costs_no_memory_before_its_bytes_arrive() -> None:
    d = 10**9
    tracemalloc.start()
    try:
        for layout in [*range(1, 18), *range(48, 64)]:
            for claim in (1, d // 2, d, 2**63):
                data = bytes((layout,)) + varint(claim) + bytes((1, 1, 1))
                with pytest.raises(RemoteProtocolError):
                    decode(data, (d,), DRAWS)
                with pytest.raises(RemoteProtocolError):
                    streamed(data, (d,), DRAWS, [3])
        decoder = StreamDecoder((d,), DRAWS, max_message_bytes((d,)))
        list(decoder.feed(b"\x04\x01\x00"))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def amplifiers(d: int) -> Iterator[bytes]:
    """Few bytes that stand for much: everything constant, or empty, or zstd's best case; eight times in a sum."""
    zeros, full = squeeze(bytes(d)), squeeze(b"\xff" * (d // 8))
    nothing, constant = b"\x20\x00\x00", b"\x20" + bytes(4) + b"\x00\x00"
    grouped = b"\x24" + bytes(4) + b"\x00\xff\x01" + zeros
    everything = varint(d) + bytes((SQUEEZED,)) + full
    terms = {
        "constant levels": constant,
        "grouped levels": grouped,
        "sparse levels": b"\x25" + bytes(4) + everything + bytes((4,)) + grouped[5:],
        "exponents": b"\x09" + bytes(d // 8) + bytes((4, 0, 0xFF, 1)) + zeros,
        "all coordinates": b"\x04" + everything + constant,
        "all gaps": b"\x04" + varint(d) + bytes((GAPS,)) + zeros + constant,
        "no coordinates": b"\x04\x00" + nothing,
        "a support": b"\x05" + varint(d // 2) + constant,
        "a common support": b"\x06" + varint(d // 2) + constant,
        "strata": b"\x0d" + varint(d) + constant,
        "a share": b"\x0f\x02" + constant,
        "a matrix": b"\x0a\x01\x01" + bytes(4 * d + 4),
    }
    for term in terms.values():
        yield term
        yield bytes((12, MOST_TERMS)) + term * MOST_TERMS
    yield b"\x0b" + varint(MOST_PARTS) + (b"\x00" + nothing) * (MOST_PARTS - 1) + constant


def test_memory_is_bounded_by_the_announced_dimension() -> None:
    d = 80_000
    decode(b"".join(encode(Message((Dense(np.ones(1)),)))), (1,), DRAWS)  # what the first call imports
    worst = 0.0
    for data in amplifiers(d):
        tracemalloc.start()
        try:
            decode(data, (d,), DRAWS)
            worst = max(worst, tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert 8 * 8 * d < worst < 100 * d + 1000 * MOST_PARTS  # eight sets of indices, at least; objects of parts


def fuzzed(num_cases: int) -> Iterator[tuple[bytes, tuple[int, ...], Draws]]:
    """Random bytes with likely layout bytes, and golden messages with a few bytes changed, removed or inserted."""
    rng = np.random.default_rng(2024)
    for number in range(num_cases):
        data, sizes, draws = golden_parts(GOLDEN[number % len(GOLDEN)])
        if rng.random() < 0.3:
            data = rng.integers(0, 256, rng.integers(0, 40), np.uint8).tobytes()
            yield (
                rng.integers(1, 64, 1, np.uint8).tobytes() + data,
                tuple(rng.integers(1, 20, rng.integers(1, 3)).tolist()),
                draws,
            )
            continue
        mutated = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(0, min(len(mutated), 12) if rng.random() < 0.5 else len(mutated)))  # headers come first
            kind = rng.integers(0, 4)
            if kind == 0 and len(mutated) > 1:
                del mutated[at]
            elif kind == 1:
                mutated.insert(at, int(rng.integers(0, 256)))
            else:
                mutated[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(0, 256)]))
        yield bytes(mutated), sizes, draws


def arrays(part: Payload | Flat) -> Iterator[Any]:
    """The numbers that travelled."""
    match part:
        case Concat(parts) | Total(parts):
            for inner in parts:
                yield from arrays(inner)
        case LowRank():
            yield from (part.p_RK, part.q_CK)
        case Sparse() | Seeded():
            yield part.value.value_D
        case _:
            yield part.value_D  # type: ignore[attr-defined]


def test_any_bytes_decode_or_are_refused() -> None:
    decoded = 0
    rng = np.random.default_rng(1)
    for data, sizes, draws in fuzzed(24_000):
        try:
            message = decode(data, sizes, draws)
        except RemoteProtocolError:
            message = None
        try:
            pieces = streamed(data, sizes, draws, rng.integers(0, 12, 4).tolist())
        except RemoteProtocolError:
            pieces = None
        assert (message is None) == (pieces is None), data.hex()
        if message is not None and pieces is not None:
            decoded += 1
            assert all_facts(message) == all_facts(pieces)
            assert sizes_of(message) == sizes
            assert all(np.isfinite(array).all() for part in message.parts for array in arrays(part))
            assert all_facts(decode(packed(message), sizes, draws)) == all_facts(message)
    assert decoded > 2000  # values may change without breaking a message: both branches were taken


# varints


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_varints_are_read_where_they_stand(value: int, before: bytes, after: bytes) -> None:
    data = before + varint(value) + after
    assert read_varint(data, len(before)) == (value, len(data) - len(after))
    assert read_varint(memoryview(data), len(before)) == (value, len(data) - len(after))


@pytest.mark.parametrize(
    ("value", "encoded"), [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**64 - 1, "ff" * 9 + "01")]
)
def test_varints_are_those_of_protocol_buffers(value: int, encoded: str) -> None:
    assert varint(value).hex() == encoded


@pytest.mark.parametrize(("scale", "num_bytes"), [(1.0, 2), (2.0**-100, 2), (1.00390625, 4), (0.1, 4)])
def test_scales_of_bfloat16_take_two_bytes(scale: float, num_bytes: int) -> None:
    value = Levels(np.array([1, 0, -1], np.int8), np.array([scale], np.float32), 3)
    data, level_bytes = (
        packed(Message((value,))),
        len(packed(Message((Levels(value.level_D, np.zeros(1, np.float32), 3),)))) - 2,
    )
    assert len(data) == level_bytes + num_bytes
    (received,) = decode(data, (3,), Draws(0, 0)).parts
    assert facts(received) == facts(value)


def test_short_scales_are_checked() -> None:
    data = bytearray(packed(Message((Levels(np.array([1], np.int8), np.ones(1, np.float32), 1),))))
    data[1:3] = struct.pack("<H", 0x7FC0)  # NaN
    with pytest.raises(RemoteProtocolError, match="finite"):
        decode(bytes(data), (1,), Draws(0, 0))
    data[1:3] = struct.pack("<H", 0xBF80)  # -1
    with pytest.raises(RemoteProtocolError, match="a scale must not be negative"):
        decode(bytes(data), (1,), Draws(0, 0))


@pytest.mark.parametrize("dimension", [2**31 - 1, 2**31 + 5, 2**32 + 5, 10**10])
def test_coordinates_beyond_32_bits_come_back(dimension: int) -> None:
    edges = [0, 1, 2**31 - 2, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 1, dimension - 1]
    near = np.array([each for each in edges if each < dimension], np.int64)
    index_K = np.unique(np.concatenate([near, np.random.default_rng(0).integers(0, dimension, 3000)]))
    sent = Sparse(dimension, index_K, Dense(np.arange(len(index_K), dtype=np.float32)))
    (part,) = decode(b"".join(encode(Message((sent,)))), (dimension,), Draws(0, 0, 0)).parts
    assert isinstance(part, Sparse)
    assert part.dimension == dimension
    assert np.array_equal(part.index_K, index_K)
    total = Sum(dimension, np.broadcast_to(np.float32(0), (dimension,)), np.float32)
    total.add(part)
    (piece,) = total._waiting
    assert np.array_equal(piece.index_K, index_K)
