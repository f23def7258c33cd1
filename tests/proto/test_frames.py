"""Frames against the generated class: the same bytes out, the same fields in."""

from __future__ import annotations

import itertools
import zlib
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from saddlebag.errors import BrokenStream, LocalProtocolError, RemoteProtocolError
from saddlebag.proto.endpoint import MESSAGE_OPTIONS
from saddlebag.proto.frames import FRAME_BYTES, MAX_FRAME_BYTES, Frame, frames_of, parse_frame, read_frame
from saddlebag.proto.reader import varint
from saddlebag.proto.seal import sealed
from saddlebag.proto.v1 import parameter_server_pb2 as pb

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
FIELDS = st.fixed_dictionaries(
    {
        "epoch": U32,
        "round": U64,
        "sender": U32,
        "sequence": U32,
        "total": U64,
        "digest": st.none() | U64,
        "final": st.booleans(),
        "attempt": U32,
        "samples": U64,
        "steps": U64,
        "counted": st.binary(max_size=30),
        "data": st.binary(max_size=300),
    }
)
NAMES = [field.name for field in pb.Frame.DESCRIPTOR.fields if field.name != "checksum"]
PLAIN = {"epoch": 2, "round_": 5, "sender": 1}


def fields_of(frame: Frame) -> dict[str, Any]:
    return {**{name: getattr(frame, name) for name in NAMES}, "data": bytes(frame.data)}


def generated_fields(message: Any) -> dict[str, Any]:
    return {name: None if name == "digest" and not message.HasField(name) else getattr(message, name) for name in NAMES}


@given(FIELDS)
@example(
    {
        **dict.fromkeys(("epoch", "round", "sender", "sequence", "total", "digest", "attempt", "samples", "steps"), 0),
        "final": False,
        "counted": b"",
        "data": b"",
    }
)
def test_reads_what_the_generated_class_writes(fields: dict[str, Any]) -> None:
    plain = pb.Frame(**fields).SerializeToString()
    raw = pb.Frame(**fields, checksum=zlib.crc32(plain)).SerializeToString()
    if zlib.crc32(plain):  # the class does not write zeros
        assert raw == sealed(plain)
    assert fields_of(read_frame(sealed(plain))) == fields_of(parse_frame(raw)) == fields
    assert len(raw) <= len(fields["data"]) + MAX_FRAME_BYTES - FRAME_BYTES


@given(FIELDS, st.lists(st.integers(0, 300), max_size=4), st.integers(8, 100))
def test_writes_what_the_generated_class_writes(fields: dict[str, Any], cuts: list[int], frame_bytes: int) -> None:
    data = fields["data"]
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    buffers = [memoryview(data)[start:end] for start, end in itertools.pairwise(edges)]
    header = {"epoch": fields["epoch"], "sender": fields["sender"], "final": fields["final"], "attempt": fields["attempt"]}
    once = {name: fields[name] for name in ("digest", "samples", "steps", "counted")}
    frames = list(frames_of(buffers, round_=fields["round"], frame_bytes=frame_bytes, **header, **once))
    received = b""
    for sequence, raw in enumerate(frames):
        first = {"total": len(data), **once} if sequence == 0 else {}
        frame = read_frame(raw)
        piece = bytes(frame.data)
        plain = pb.Frame(round=fields["round"], sequence=sequence, data=piece, **header, **first)
        assert raw == sealed(plain.SerializeToString())
        assert len(piece) <= frame_bytes
        received += piece
    assert received == data


@pytest.mark.parametrize("frame_bytes", [8, 9, 15, 16, 64, 1 << 20])
def test_values_are_not_cut_apart(frame_bytes: int) -> None:
    value_D = np.arange(100.0)
    frames = list(frames_of([b"\x02", memoryview(value_D).cast("B")], **PLAIN, frame_bytes=frame_bytes))
    pieces = [bytes(read_frame(raw).data) for raw in frames]
    assert b"".join(pieces) == b"\x02" + value_D.tobytes()
    at = 0
    for piece in pieces[:-1]:
        at += len(piece)
        assert at <= 1 or (at - 1) % 8 == 0


def test_a_message_larger_than_a_frame() -> None:
    data = bytes(range(256)) * (2 * FRAME_BYTES // 256) + b"end"
    frames = list(frames_of([data], **PLAIN, digest=2**64 - 1, attempt=2**32 - 1, final=True))
    assert len(frames) == 3
    assert max(map(len, frames)) <= MAX_FRAME_BYTES
    assert b"".join(read_frame(raw).data for raw in frames) == data
    assert [read_frame(raw).total for raw in frames] == [len(data), 0, 0]


def test_the_longest_header_fits() -> None:
    raw = pb.Frame(
        epoch=2**32 - 1, round=2**64 - 1, sender=2**32 - 1, sequence=2**32 - 1, total=2**64 - 1, digest=1, final=True,
        attempt=2**32 - 1, samples=2**64 - 1, steps=2**64 - 1, counted=bytes(1 << 20), data=bytes(FRAME_BYTES),
    ).SerializeToString()  # fmt: skip
    raw = sealed(raw)
    assert len(raw) <= MAX_FRAME_BYTES
    assert read_frame(raw).total == 2**64 - 1
    limits = dict(MESSAGE_OPTIONS)
    assert limits["grpc.max_receive_message_length"] >= MAX_FRAME_BYTES
    assert limits["grpc.max_receive_message_length"] < 4 << 20  # gRPC's own default is not raised


def test_a_message_of_no_bytes_is_one_frame() -> None:
    for buffers in ([], [b""]):
        (raw,) = frames_of(buffers, **PLAIN)
        assert raw == sealed(pb.Frame(epoch=2, round=5, sender=1).SerializeToString())


def test_a_frame_too_small_for_a_value_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError, match="at least 8 bytes, got frame_bytes=7"):
        next(frames_of([b"12345678"], **PLAIN, frame_bytes=7))


def test_the_data_is_a_view() -> None:
    raw = sealed(pb.Frame(data=bytes(100)).SerializeToString())
    assert read_frame(raw).data.obj is raw


@given(FIELDS, st.integers(16, 2**29 - 1), st.binary(max_size=20), U64)
def test_fields_of_later_versions_are_ignored(fields: dict[str, Any], number: int, text: bytes, value: int) -> None:
    raw = pb.Frame(**fields).SerializeToString()
    later = [
        varint(number << 3) + varint(value),
        varint(number << 3 | 1) + bytes(8),
        varint(number << 3 | 2) + varint(len(text)) + text,
        varint(number << 3 | 5) + bytes(4),
    ]
    for unknown in (*later, b"".join(later)):
        assert fields_of(read_frame(sealed(raw + unknown))) == fields
        assert fields_of(read_frame(sealed(unknown + raw))) == fields


def test_a_known_field_of_another_type_is_an_unknown_one() -> None:
    raw = b"\x09" + bytes(8) + b"\x38\x01"  # epoch as fixed64
    assert parse_frame(raw).final
    assert generated_fields(pb.Frame.FromString(raw)) == fields_of(read_frame(sealed(raw)))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\x08", "a number is cut short"),
        (b"\x08" + b"\xff" * 10, "a number exceeds 64 bits"),
        (b"\x7a\x05abc", "a frame is cut short"),
        (b"\x7a" + varint(2**64 - 1) + b"abc", "a frame is cut short"),
        (b"\x31\x01\x02", "a frame is cut short"),
        (b"\x83\x01", "a frame has a field of wire type 3"),
        (b"\x87\x01", "a frame has a field of wire type 7"),
        (b"\x82\x01\x7f", "a frame is cut short"),
        (b"\x00\x01", "a frame has a malformed tag 00"),
        (b"\xb1\x00" + bytes(8), "a frame has a malformed tag b100"),
        (b"\x81\x01\x00", "a frame is cut short"),
        (b"\x85\x01\x00", "a frame is cut short"),
        (bytes(MAX_FRAME_BYTES + 1), f"a frame of {MAX_FRAME_BYTES + 1} bytes exceeds {MAX_FRAME_BYTES}"),
    ],
)
def test_what_is_no_frame_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=message):
        read_frame(raw if len(raw) > FRAME_BYTES else sealed(raw))


def test_a_flipped_bit_anywhere_is_noticed() -> None:
    (raw,) = frames_of([bytes(range(40))], **PLAIN, digest=77, attempt=3, final=True)
    for bit in range(8 * len(raw)):
        hurt = bytearray(raw)
        hurt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BrokenStream, match="does not fit its checksum"):
            read_frame(bytes(hurt))
    for end in range(len(raw)):
        with pytest.raises(BrokenStream):
            read_frame(raw[:end])
    for more in (b"\0", raw):
        with pytest.raises(BrokenStream):
            read_frame(raw + more)


def test_any_bytes_are_read_as_the_generated_class_reads_them_or_refused() -> None:
    rng = np.random.default_rng(5)
    agreed = 0
    for number in range(20_000):
        if number % 4 == 0:
            raw = rng.integers(0, 256, rng.integers(0, 30), np.uint8).tobytes()
        else:
            fields = {
                "epoch": 3,
                "round": 300,
                "sender": 2,
                "sequence": number % 200,
                "total": 10**6,
                "digest": number,
                "data": b"abcdef",
            }
            mutated = bytearray(pb.Frame(**fields, final=True, attempt=1).SerializeToString())
            for _ in range(rng.integers(1, 3)):
                mutated[rng.integers(0, len(mutated))] = rng.integers(0, 256)
            raw = bytes(mutated)
        try:
            ours = parse_frame(raw)
        except RemoteProtocolError:
            continue
        try:
            theirs = pb.Frame.FromString(raw)
        except DecodeError:
            continue  # it limits unknown fields: skipping more than we must is harmless
        truncated = {name: getattr(ours, name) % 2**32 for name in ("epoch", "sender", "sequence", "attempt")}  # to 32 bits
        assert generated_fields(theirs) == {**fields_of(ours), **truncated}, raw.hex()
        agreed += 1
    assert agreed > 2000
