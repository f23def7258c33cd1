from __future__ import annotations

import numpy as np

from saddlebag.algorithms import Message
from saddlebag.compression import SERVER, Dense, Draws, Sparse
from saddlebag.proto.codec import encode
from saddlebag.proto.streaming import Assembly, StreamDecoder


def test_slices_are_copied_where_they_belong_when_they_come() -> None:
    """A frame may be freed or overwritten as soon as its slices have been added."""
    rng, sizes, draws = np.random.default_rng(0), (1000, 700, 500), Draws(0, 0, SERVER)
    wide = Dense(rng.standard_normal(1000))
    single, sparse = (
        Dense(rng.standard_normal(700).astype(np.float32)),
        Sparse(500, np.array([3, 77]), Dense(np.float32([1, 2]))),
    )
    data = b"".join(encode(Message((wide, single, sparse))))
    for width in (1, 13, 500, len(data)):
        decoder, assembly = StreamDecoder(sizes, draws, len(data)), Assembly(sizes)
        frame = bytearray(width)
        for start in range(0, len(data), width):
            count = min(width, len(data) - start)
            frame[:count] = data[start : start + count]
            assembly.add(decoder.feed(memoryview(frame)[:count] if width < len(data) else data))
            frame[:] = b"\xff" * width
        parts = assembly.message().parts
        assert decoder.complete
        for part, expected in zip(parts, (wide, single, sparse), strict=True):
            assert type(part) is type(expected)
            assert np.array_equal(part.dense(), expected.dense())
        assert parts[0].value_D.dtype == np.float64
