"""General-purpose compression of bytes whose repetitions no model of ours knows: zstd, level 1.

On the wire: a varint length and one zstd frame (RFC 8878) without its magic number, which states its content's size.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import zstandard

from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.reader import varint

if TYPE_CHECKING:
    from saddlebag.proto.reader import Buffer, Reader

__all__ = ["squeeze", "unsqueeze"]

_FORMAT = zstandard.FORMAT_ZSTD1_MAGICLESS
_LEVEL = 1


class _Contexts(threading.local):
    """A compressor and a decompressor for each thread: new ones would cost more than a short message."""

    def __init__(self) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            _LEVEL, format=_FORMAT, write_content_size=1, write_checksum=0, write_dict_id=0
        )
        self.compressor = zstandard.ZstdCompressor(compression_params=parameters)
        self.decompressor = zstandard.ZstdDecompressor(format=_FORMAT)


_contexts = _Contexts()


def squeeze(data: Buffer) -> bytes:
    """The bytes, compressed."""
    frame = _contexts.compressor.compress(data)
    return varint(len(frame)) + frame


def unsqueeze(reader: Reader, least: int, most: int) -> bytes:
    """The `least` to `most` bytes that were squeezed here.

    The size that the frame states is checked before memory is taken, and what it holds must have that size.

    Raises:
        RemoteProtocolError: the bytes are no such frame.
    """
    frame = reader.take(reader.size(0, reader.left, "the length of a compressed frame"))
    try:
        stated = zstandard.get_frame_parameters(frame, _FORMAT).content_size
        if not least <= stated <= most:
            raise RemoteProtocolError(f"a compressed frame must hold {least} to {most} bytes, got {stated}")
        content: bytes = _contexts.decompressor.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise RemoteProtocolError(f"a compressed frame is damaged: {error}") from error
    if len(content) != stated:
        raise RemoteProtocolError(f"a compressed frame of {stated} bytes holds {len(content)}")
    return content
