from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import SafetensorError

from saddlebag.proto.pieces import pieces, tensor_file

KINDS = ["?", "u1", "i1", "<i2", "<u2", "<f2", "<i4", "<u4", "<f4", "<f8", "<i8", "<u8", "<c8", ">f8", ">u2"]


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
        st.sampled_from(KINDS).flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, min_side=0, max_side=3))),
        max_size=5,
    ).filter(lambda arrays: "__metadata__" not in arrays),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
def test_the_bytes_are_those_of_the_library(arrays: dict[str, Any], facts: str) -> None:
    """So whatever reads safetensors reads them, and digests of older files hold."""
    native = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    assert b"".join(tensor_file(arrays)) == safetensors.numpy.save(native)
    assert b"".join(tensor_file(arrays, facts)) == safetensors.numpy.save(native, {"saddlebag": facts})


def test_arrays_that_lie_otherwise_are_written_in_order() -> None:
    array = np.arange(24.0).reshape(4, 6).T[::2]
    told = b"".join(tensor_file({"x": array}, json.dumps({})))
    assert np.array_equal(safetensors.numpy.load(told)["x"], array)


def test_large_arrays_are_not_copied() -> None:
    array = np.zeros(1000)
    _, view = tensor_file({"x": array}, "{}")
    array[3] = 1.0
    assert bytes(view) == array.tobytes()


def test_arrays_of_other_types_are_refused_by_name() -> None:
    with pytest.raises(SafetensorError, match=r"array 'words' is of type <U3, which no file of tensors holds"):
        tensor_file({"words": np.array(["abc"])}, "{}")


def test_each_piece_is_bounded_and_followed_by_a_pause() -> None:
    data = np.random.default_rng(0).bytes(1_000_000)
    log: list[int] = []
    digest = hashlib.sha256()
    for piece in pieces([b"", data, b"x"], lambda: log.append(0)):
        log.append(len(piece))
        digest.update(piece)
    assert digest.digest() == hashlib.sha256(data + b"x").digest()
    assert log == [262144, 0, 262144, 0, 262144, 0, 213568, 0, 1, 0]
