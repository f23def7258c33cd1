from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.errors import BrokenStream
from saddlebag.proto import seal
from saddlebag.proto.seal import SEAL_BYTES, checksum, is_sealed, opened, sealed
from saddlebag.proto.v1 import parameter_server_pb2 as pb


@given(st.binary(max_size=200), st.integers(0, 200))
def test_the_checksum_is_zlibs_in_pieces_too(data: bytes, cut: int) -> None:
    assert checksum(data) == zlib.crc32(data) == checksum(memoryview(data)[cut:], checksum(data[:cut]))


@given(st.binary(max_size=60), st.integers(1, 2**32 - 1), st.integers(0, 70))
def test_a_burst_of_flips_within_32_bits_is_noticed(data: bytes, burst: int, at: int) -> None:
    raw = sealed(data)
    hurt = int.from_bytes(raw, "little") ^ burst << 8 * (at % (len(raw) - 3))
    assert is_sealed(raw)
    assert opened(raw, "it") == data
    assert not is_sealed(hurt.to_bytes(len(raw) + 4, "little")[: len(raw)])


def test_what_is_shorter_than_a_checksum_is_refused() -> None:
    for length in range(SEAL_BYTES):
        with pytest.raises(BrokenStream, match=rf"a reply of {length} bytes does not fit its checksum"):
            opened(bytes(length), "a reply")


def test_every_message_of_the_round_protocol_has_room_for_it() -> None:
    """The field is the last one, whatever is set: so the generated class writes it where we do."""
    for name, message in pb.DESCRIPTOR.message_types_by_name.items():
        field = message.fields_by_name["checksum"]
        assert field.number == max(each.number for each in message.fields) == 16, name
        plain = getattr(pb, name)()
        raw = sealed(plain.SerializeToString())
        assert getattr(pb, name).FromString(raw).checksum == checksum(plain.SerializeToString()), name


def test_a_refusal_is_sealed_with_its_status() -> None:
    said = seal.seal_of_text("INVALID_ARGUMENT", "größer")
    assert said == seal.seal_of_text("INVALID_ARGUMENT", "größer")
    assert said != seal.seal_of_text("FAILED_PRECONDITION", "größer")
