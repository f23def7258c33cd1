"""Full vectors as increments: both ends agree, and float32 puts no floor under the accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms.methods.full import (
    advanced,
    advancing,
    blocks,
    check_wire_type,
    difference,
    increment,
    moved_difference,
)
from saddlebag.compression import Dense, Sparse
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from saddlebag.compression import Vector

RNG = np.random.default_rng(0)
LIMIT_D, ROUGH_D = RNG.standard_normal(50), RNG.standard_normal(50)


def approaching(step: int) -> np.ndarray:
    """A sequence that halves its distance to a limit which float32 cannot hold."""
    return np.asarray(LIMIT_D + 0.5**step * ROUGH_D)


def test_increments_accumulate_without_a_float32_floor() -> None:  # masha.md, trap 7
    sender_D: Vector = np.zeros(50)
    receiver_D: Vector = np.zeros(50)
    for step in range(60):
        payload, sender_D = increment(approaching(step), sender_D, "float32")
        assert payload.value_D.dtype == np.float32
        receiver_D = receiver_D + payload.dense()
        assert receiver_D.tobytes() == sender_D.tobytes()  # both ends keep the same accumulator
    assert np.abs(receiver_D - LIMIT_D).max() <= 1e-13 * np.abs(LIMIT_D).max()


def test_raw_float32_has_one() -> None:
    raw_D = np.float64(np.float32(approaching(60)))
    assert np.abs(raw_D - LIMIT_D).max() > 1e-9 * np.abs(LIMIT_D).max()


@pytest.mark.parametrize(("wire_type", "rounding"), [("float32", 2.0**-24), ("float64", 2.0**-52)])
def test_one_increment_errs_by_its_own_rounding(wire_type: Any, rounding: float) -> None:
    known_D = LIMIT_D + 1e-3 * ROUGH_D
    payload, after_D = increment(LIMIT_D, known_D, wire_type)
    assert payload.value_D.dtype == wire_type
    bound_D = rounding * np.abs(LIMIT_D - known_D) + 2.0**-52 * np.abs(LIMIT_D)
    assert (np.abs(after_D - LIMIT_D) <= bound_D).all()


def test_arguments_are_not_changed() -> None:
    x_D, known_D = LIMIT_D.copy(), ROUGH_D.copy()
    _, after_D = increment(x_D, known_D, "float32")
    assert np.array_equal(x_D, LIMIT_D)
    assert np.array_equal(known_D, ROUGH_D)
    assert not np.shares_memory(after_D, known_D)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_what_does_not_fit_float32_is_refused(bad: float) -> None:
    with pytest.raises(NotFiniteError):
        increment(np.array([0.0, bad]), np.zeros(2), "float32")


SIZES = (0, 1, 5, 2**16 - 1, 2**16, 2**16 + 1, 150_000)  # around the length of a block, and several of them


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("wire_type", ["float32", "float64"])
def test_block_by_block_the_bits_are_those_of_whole_vectors(size: int, wire_type: Any) -> None:
    x_D, change_D, known_D = np.random.default_rng(size).standard_normal((3, size))
    payload, after_D = increment(x_D, known_D, wire_type)
    whole = difference(x_D, known_D, wire_type)
    assert payload.value_D.tobytes() == whole.value_D.tobytes()
    assert after_D.tobytes() == advanced(known_D, whole).tobytes()
    payload, sum_D = moved_difference(x_D, change_D, known_D, wire_type)
    assert sum_D.tobytes() == (x_D + change_D).tobytes()
    assert payload.value_D.tobytes() == difference(x_D + change_D, known_D, wire_type).value_D.tobytes()


@pytest.mark.parametrize("size", SIZES)
def test_an_accumulator_advances_by_any_payload_and_each_block_is_there_when_it_is_named(size: int) -> None:
    known_D = np.random.default_rng(size).standard_normal(size)
    index_K = np.arange(0, size, 3)
    for payload in (Dense(known_D.astype(np.float32)), Sparse(size, index_K, Dense(known_D[index_K]))):
        expected_D, next_D, seen = advanced(known_D, payload), np.full(size, np.nan), 0
        for here in advancing(next_D, known_D, payload):
            assert here.start == seen
            assert next_D[here].tobytes() == expected_D[here].tobytes()
            seen = here.stop
        assert seen == size
    assert [here.stop for here in blocks(size)][-1:] == ([size] if size else [])


def test_large_values_whose_square_overflows_are_sent() -> None:
    payload, after_D = increment(np.full(3, 1e30), np.zeros(3), "float32")
    assert np.array_equal(payload.value_D, np.full(3, 1e30, np.float32))
    assert np.array_equal(moved_difference(after_D, after_D, np.zeros(3), "float32")[0].value_D, 2 * payload.value_D)
    with pytest.raises(NotFiniteError):
        moved_difference(np.full(3, 3e38), np.full(3, 3e38), np.zeros(3), "float32")


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_known_types_pass(name: str) -> None:
    check_wire_type(name)


def test_unknown_types_are_refused() -> None:
    with pytest.raises(ConfigError, match="wire must be 'float32' or 'float64', got 'float16'"):
        check_wire_type("float16")
