"""Compressed bytes, and frames that lie."""

from __future__ import annotations

import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.coding.squeeze import squeeze, unsqueeze
from saddlebag.proto.reader import Reader, varint


@given(st.binary(max_size=300) | st.builds(lambda unit, count: unit * count, st.binary(max_size=5), st.integers(0, 20_000)))
def test_squeezed_bytes_are_read_again(data: bytes) -> None:
    reader = Reader(squeeze(data) + b"next")
    assert unsqueeze(reader, len(data), len(data)) == data
    assert bytes(reader.take(4)) == b"next"


def frame(data: bytes, **parameters: int) -> bytes:
    made = zstandard.ZstdCompressionParameters.from_level(1, format=zstandard.FORMAT_ZSTD1_MAGICLESS, **parameters)
    body = zstandard.ZstdCompressor(compression_params=made).compress(data)
    return varint(len(body)) + body


LIES = {
    "too long a frame": (varint(100) + b"\0" * 9, "the length of a compressed frame must lie in"),
    "no frame": (b"\x00", "damaged"),
    "noise": (b"\x05abcde", "damaged|must hold"),
    "too much inside": (squeeze(bytes(1001)), "must hold 10 to 1000 bytes, got 1001"),
    "too little inside": (squeeze(bytes(9)), "must hold 10 to 1000 bytes, got 9"),
    "gigabytes inside": (squeeze(bytes(10**8)), "must hold 10 to 1000 bytes, got 100000000"),
    "no stated size": (frame(bytes(100), write_content_size=0), "must hold"),
    "something after the frame": (varint(len(frame(bytes(50)))) + frame(bytes(50))[1:] + b"x", "damaged"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_frame_that_lies_is_refused(name: str) -> None:
    data, message = LIES[name]
    with pytest.raises(RemoteProtocolError, match=message):
        unsqueeze(Reader(data), 10, 1000)


def test_the_memory_is_that_of_the_expected_content_whatever_a_frame_says() -> None:
    bomb = squeeze(bytes(10**8))
    liar = bytearray(frame(bytes(600)))  # 600 = 0x158 less 256 in two bytes
    assert liar.count(b"\x58\x01") == 1
    at = liar.index(b"\x58\x01")
    liar[at : at + 2] = b"\xe8\x02"  # says 1000, holds 600
    tracemalloc.start()
    try:
        for data in (bomb, bytes(liar)):
            with pytest.raises(RemoteProtocolError):
                unsqueeze(Reader(data), 0, 1000)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
