"""Frames: pieces of a message, each a valid `saddlebag.proto.v1.Frame`, written and read without copying its payload.

A frame ends with the checksum of all its other bytes (`seal.py`). It is compared before anything of the frame is believed.

Protocol Buffers would copy the data field twice on each side. The header is a few varints, so these lines write them
around the raw bytes; a test proves that the generated class reads and writes the same bytes.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from saddlebag.errors import LocalProtocolError, RemoteProtocolError
from saddlebag.proto.reader import Buffer, read_varint, varint
from saddlebag.proto.seal import checksum, opened, seal, sealed

if TYPE_CHECKING:
    from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["FRAME_BYTES", "MAX_FRAME_BYTES", "Frame", "frames_of", "parse_frame", "read_frame"]

FRAME_BYTES = 1 << 20
"""Most message bytes in a frame: large enough to hide the cost of a frame, well below gRPC's default limit of 4 MiB."""
THANKS = sealed(b"")
"""What a worker sends when it has the downlink that ends the run, on its disk, too."""
_COUNTED_BYTES = 1 << 20  # of all workers that a round has counted: 65,536 ranks take less
MAX_FRAME_BYTES = FRAME_BYTES + _COUNTED_BYTES + 128
"""Longest frame: data, who was counted, header and checksum."""

_VARINTS = {
    0x08: "epoch",
    0x10: "round",
    0x18: "sender",
    0x20: "sequence",
    0x28: "total",
    0x38: "final",
    0x40: "attempt",
    0x48: "samples",
    0x50: "steps",
}
_DIGEST, _COUNTED, _DATA = 0x31, 0x5A, 0x7A
_ALIGN = 8  # frames end at multiples of a value's size within a buffer, so that slices need no carry


class Frame(NamedTuple):
    """A frame as received; `data` is a view of the received bytes."""

    epoch: int
    round: int
    sender: int
    sequence: int
    total: int
    final: bool
    attempt: int
    digest: int | None
    data: memoryview
    samples: int = 0
    steps: int = 0
    counted: bytes = b""


def _header(
    *,
    epoch: int,
    round_: int,
    sender: int,
    sequence: int,
    total: int,
    final: bool,
    attempt: int,
    digest: int | None,
    samples: int = 0,
    steps: int = 0,
    counted: bytes = b"",
) -> bytes:
    out = bytearray()
    for tag, value in ((0x08, epoch), (0x10, round_), (0x18, sender), (0x20, sequence), (0x28, total)):
        if value:
            out.append(tag)
            out += varint(value)
    if digest is not None:
        out.append(_DIGEST)
        out += digest.to_bytes(8, "little")
    if final:
        out += b"\x38\x01"
    for tag, value in ((0x40, attempt), (0x48, samples), (0x50, steps)):
        if value:
            out.append(tag)
            out += varint(value)
    if counted:
        out.append(_COUNTED)
        out += varint(len(counted)) + counted
    return bytes(out)


def frames_of(
    buffers: list[Buffer],
    *,
    epoch: int,
    round_: int,
    sender: int,
    final: bool = False,
    attempt: int = 0,
    digest: int | None = None,
    samples: int = 0,
    steps: int = 0,
    counted: bytes = b"",
    frame_bytes: int = FRAME_BYTES,
) -> Iterator[bytes]:
    """Cut a message into frames, lazily: each frame is one copy of its share of the buffers.

    The length, the digest, samples and steps behind the message, and who was `counted`, are told by the first one.

    Raises:
        LocalProtocolError: `frame_bytes` is too small to hold a value.
    """
    if frame_bytes < _ALIGN:
        raise LocalProtocolError(f"a frame needs at least {_ALIGN} bytes, got frame_bytes={frame_bytes}")
    total = sum(len(buffer) for buffer in buffers)
    for sequence, pieces in enumerate([buffers] if total <= frame_bytes else _cut(buffers, frame_bytes)):
        header = _header(
            epoch=epoch,
            round_=round_,
            sender=sender,
            sequence=sequence,
            total=total if sequence == 0 else 0,
            final=final,
            attempt=attempt,
            digest=digest if sequence == 0 else None,
            samples=samples if sequence == 0 else 0,
            steps=steps if sequence == 0 else 0,
            counted=counted if sequence == 0 else b"",
        )
        length = sum(len(piece) for piece in pieces)
        whole = [header, b"\x7a" + varint(length), *pieces] if length else [header]
        yield b"".join((*whole, seal(functools.reduce(lambda crc, piece: checksum(piece, crc), whole, 0))))


def _cut(buffers: list[Buffer], frame_bytes: int) -> Iterator[list[Buffer]]:
    pieces: list[Buffer] = []
    room = frame_bytes
    for buffer in buffers:
        rest = memoryview(buffer)
        while len(rest) > room:
            cut = room // _ALIGN * _ALIGN
            yield [*pieces, rest[:cut]]
            pieces, rest, room = [], rest[cut:], frame_bytes
        pieces.append(rest)
        room -= len(rest)
    yield pieces


def read_frame(raw: bytes) -> Frame:
    """Check and parse a frame that came over a wire.

    Raises:
        BrokenStream: the bytes are not those that were sent.
        RemoteProtocolError: they are, and are no frame.
    """
    if len(raw) > MAX_FRAME_BYTES:
        raise RemoteProtocolError(f"a frame of {len(raw)} bytes exceeds {MAX_FRAME_BYTES}")
    return parse_frame(opened(raw, "a frame"))


def parse_frame(raw: Buffer) -> Frame:
    """The fields of a frame, of which a checksum at its end is none.

    Raises:
        RemoteProtocolError: the bytes are no frame.
    """
    fields = dict.fromkeys(_VARINTS.values(), 0)
    digest: int | None = None
    data, counted = memoryview(b""), b""
    at, end = 0, len(raw)
    while at < end:
        tag = raw[at]
        name = _VARINTS.get(tag)
        if name is not None:
            fields[name], at = read_varint(raw, at + 1)
        elif tag == _DATA:
            length, at = read_varint(raw, at + 1)
            data = memoryview(raw)[at : at + length]
            at += length
        elif tag == _COUNTED:
            length, at = read_varint(raw, at + 1)
            counted = bytes(raw[at : at + length])
            at += length
        elif tag == _DIGEST:
            digest = int.from_bytes(raw[at + 1 : at + 9], "little")
            at += 9
        else:
            at = _skip(raw, at)
    if at != end:
        raise RemoteProtocolError("a frame is cut short")
    return Frame(
        fields["epoch"],
        fields["round"],
        fields["sender"],
        fields["sequence"],
        fields["total"],
        bool(fields["final"]),
        fields["attempt"],
        digest,
        data,
        fields["samples"],
        fields["steps"],
        counted,
    )


def _skip(raw: Buffer, at: int) -> int:
    """The position after an unknown field; unknown fields belong to later versions and are ignored."""
    start = at
    key, at = read_varint(raw, at)
    if key < 8 or at - start > len(varint(key)):  # field number 0, or a known tag in disguise
        raise RemoteProtocolError(f"a frame has a malformed tag {bytes(raw[start:at]).hex()}")
    match key & 7:
        case 0:
            return read_varint(raw, at)[1]
        case 1:
            return at + 8
        case 2:
            length, at = read_varint(raw, at)
            return at + length
        case 5:
            return at + 4
        case wire_type:
            raise RemoteProtocolError(f"a frame has a field of wire type {wire_type}")
