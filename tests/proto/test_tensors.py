"""Files of tensors are read once, into the arrays; what lies otherwise than it should is refused before memory is taken."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from saddlebag.proto.checkpoint import arrays_to_bytes, bytes_to_arrays
from saddlebag.proto.digests import DIGEST, PLACE, with_digest
from saddlebag.proto.tensors import read_facts, read_tensors, view_tensors

ARRAYS = {"z_D": np.arange(5.0), "rest_D": np.arange(5, dtype=np.uint16), "count": np.array(7), "empty": np.zeros((0, 3))}
META = {"round": 3}


def read(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    return read_tensors(io.BytesIO(data), len(data))


def test_both_ways_give_what_was_written() -> None:
    data = arrays_to_bytes(ARRAYS, META)
    for arrays, facts in (read(data), view_tensors(bytearray(data))):
        assert arrays.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
            assert arrays[name].tobytes() == array.tobytes()
            assert arrays[name].flags.writeable, "narrow states are changed in place"
        assert facts.pop(DIGEST) != PLACE
        assert facts == META
    assert read_facts(io.BytesIO(data), len(data))["round"] == 3


def file_with(header: dict[str, Any], body: bytes) -> bytes:
    """A file that holds its own digest, whatever else it says."""
    facts = json.dumps({**META, DIGEST: PLACE}, sort_keys=True)
    head = json.dumps({"__metadata__": {"saddlebag": facts}, **header}, separators=(",", ":")).encode()
    return b"".join(with_digest([len(head).to_bytes(8, "little") + head, body]))


def entry(dtype: str, shape: list[Any], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_a_file_that_is_sound() -> None:
    arrays, _ = read(file_with({"x": entry("F32", [2], 0, 8), "y": entry("U8", [1], 8, 9)}, bytes(9)))
    assert arrays["x"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "header",
    [
        {"x": entry("F32", [2], 0, 9)},  # more bytes than its shape takes
        {"x": entry("F32", [1 << 40], 0, 8)},  # memory that is not there
        {"x": entry("F32", [2], 1, 9)},  # a gap
        {"x": entry("F32", [2], 0, 8), "y": entry("F32", [2], 0, 8)},  # twice the same
        {"x": entry("F32", [2], 0, 8)},  # a byte is left
        {"x": entry("F32", [-2, -1, 1], 0, 8), "y": entry("U8", [1], 8, 9)},
        {"x": entry("F32", [2.0], 0, 8), "y": entry("U8", [1], 8, 9)},
        {"x": entry("F8", [2], 0, 8), "y": entry("U8", [1], 8, 9)},
        {"x": {"dtype": "F32", "shape": [2]}, "y": entry("U8", [1], 8, 9)},
        {"x": [1, 2]},
    ],
)
def test_arrays_that_do_not_lie_where_they_should_are_refused(header: dict[str, Any]) -> None:
    data = file_with(header, bytes(9))
    for one in (read, lambda given: view_tensors(bytearray(given))):
        tracemalloc.start()
        with pytest.raises((KeyError, TypeError, ValueError)):
            one(data)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 1 << 20


@pytest.mark.parametrize("cut", [0, 4, 8, 20, -1])
def test_a_file_that_is_cut_short(cut: int) -> None:
    data = arrays_to_bytes(ARRAYS, META)[:cut]
    for one in (read, lambda given: view_tensors(bytearray(given))):
        with pytest.raises(ValueError, match=r"\w"):
            one(data)


def test_every_byte_counts() -> None:
    data = bytearray(arrays_to_bytes(ARRAYS, META))
    data[-1] ^= 1
    for one in (read, lambda given: view_tensors(bytearray(given))):
        with pytest.raises(ValueError, match="its digest differs"):
            one(bytes(data))


def test_reading_takes_no_second_copy() -> None:
    array = np.random.default_rng(0).standard_normal(1 << 19)
    data = bytearray(arrays_to_bytes({"x": array}, META))
    tracemalloc.start()
    arrays = bytes_to_arrays(data, "it")
    viewed = tracemalloc.get_traced_memory()[1]
    assert np.array_equal(arrays["x"], array)
    tracemalloc.reset_peak()
    copied, _ = read_tensors(io.BytesIO(bytes(data)), len(data))
    read_once = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert copied["x"].nbytes == array.nbytes
    assert viewed < 1 << 20
    assert read_once < 2.3 * array.nbytes  # the bytes of this test, and the array
