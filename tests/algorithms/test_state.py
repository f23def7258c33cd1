"""States as named arrays: nothing is lost, and nothing wrong is let in."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.algorithms import digest, pack, unpack
from saddlebag.algorithms.state import hollow
from saddlebag.errors import StateError

if TYPE_CHECKING:
    from saddlebag.compression import Vector  # missing at run time, as ruff wants it: `unpack` manages


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    z_D: Vector
    count: int
    ready: bool
    weight: float


@dataclasses.dataclass(frozen=True, eq=False)
class Empty:
    pass


def state(**changes: Any) -> State:
    return dataclasses.replace(State(np.array([1.0, -0.0, 5e-324]), 7, True, 0.1), **changes)


def arrays(**changes: Any) -> dict[str, Any]:
    return pack(state()) | changes


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(hnp.arrays(np.float64, st.integers(0, 20), elements=finite), st.integers(-(2**63), 2**63 - 1), st.booleans(), finite)
def test_what_is_packed_comes_back_bit_for_bit(z_D: Vector, count: int, ready: bool, weight: float) -> None:
    before = State(z_D, count, ready, weight)
    after = unpack(dataclasses.replace(before, z_D=np.ones(len(z_D)), count=0), pack(before))
    assert after.z_D.tobytes() == z_D.tobytes()
    assert (after.count, after.ready, after.weight) == (count, ready, weight)
    assert (type(after.count), type(after.ready), type(after.weight)) == (int, bool, float)
    assert digest(after) == digest(before)


@dataclasses.dataclass(frozen=True, eq=False)
class Outer:
    inner: State
    memory_D: Vector | None
    block_E: Vector


def test_states_nest_and_their_fields_have_dotted_names() -> None:
    before = Outer(state(), None, np.ones(2))
    packed = pack(before, "replica.")
    assert list(packed) == [
        f"replica.{name}" for name in ("inner.z_D", "inner.count", "inner.ready", "inner.weight", "block_E")
    ]
    after = unpack(Outer(state(count=0), None, np.zeros(2)), packed, "replica.")
    assert (type(after.inner), after.inner.count, after.memory_D) == (State, 7, None)
    assert digest(after) == digest(before) != digest(before.inner)
    with pytest.raises(StateError, match=r"State\.count is missing"):
        unpack(before, {name: array for name, array in packed.items() if name != "replica.inner.count"}, "replica.")


def test_the_digest_is_that_of_the_fields_in_order_however_they_nest() -> None:
    flat = dataclasses.make_dataclass("Flat", [*arrays(), "block_E"])(*dataclasses.astuple(state()), np.ones(2))
    assert digest(Outer(state(), None, np.ones(2))) == digest(flat)


def test_what_the_example_leaves_out_is_refused() -> None:
    with pytest.raises(StateError, match=r"Outer has no memory_D; it has inner\.z_D, "):
        unpack(Outer(state(), None, np.ones(2)), pack(Outer(state(), np.ones(3), np.ones(2))))


@pytest.mark.parametrize("size", [0, 1, 9])
def test_an_example_without_coordinates_stands_for_any_length(size: int) -> None:
    like = Outer(state(), None, np.empty(0))
    assert len(unpack(like, pack(dataclasses.replace(like, block_E=np.ones(size)))).block_E) == size
    with pytest.raises(StateError, match=r"Outer.block_E must be float64 of shape \(2,\), got float64 \(9,\)"):
        unpack(dataclasses.replace(like, block_E=np.ones(2)), pack(dataclasses.replace(like, block_E=np.ones(9))))


def test_a_prefix_separates_states_in_one_file() -> None:
    together = pack(state(), "one.") | pack(state(count=8), "two.")
    assert [unpack(state(), together, prefix).count for prefix in ("one.", "two.")] == [7, 8]
    with pytest.raises(StateError, match="z_D is missing"):
        unpack(state(), together)


def test_packed_form_is_flat_and_typed() -> None:
    packed = pack(state())
    assert {name: (array.shape, array.dtype.name) for name, array in packed.items()} == {
        "z_D": ((3,), "float64"),
        "count": ((), "int64"),
        "ready": ((), "bool"),
        "weight": ((), "float64"),
    }
    assert pack(Empty()) == {}
    assert isinstance(unpack(Empty(), {}), Empty)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z_D": np.zeros(2)}, r"State.z_D must be float64 of shape \(3,\), got float64 \(2,\)"),
        ({"z_D": np.zeros((1, 3))}, r"State.z_D must be float64 of shape \(3,\), got float64 \(1, 3\)"),
        ({"z_D": np.float64(1)}, r"State.z_D must be float64 of shape \(3,\), got float64 \(\)"),
        ({"z_D": np.zeros(3, np.float32)}, r"State.z_D must be float64 .* got float32"),
        ({"z_D": np.zeros(3, np.int64)}, r"State.z_D must be float64 .* got int64"),
        ({"z_D": np.zeros(3, ">f8")}, r"State.z_D must be float64 .* got >f8"),
        ({"z_D": np.array([0.0, np.nan, 0.0])}, "State.z_D holds NaN or infinity"),
        ({"z_D": np.array([0.0, np.inf, 0.0])}, "State.z_D holds NaN or infinity"),
        ({"weight": np.asarray(-np.inf)}, "State.weight holds NaN or infinity"),
        ({"count": np.asarray(7.0)}, r"State.count must be int64 of shape \(\), got float64"),
        ({"count": np.asarray(7, np.int32)}, r"State.count must be int64 of shape \(\), got int32"),
        ({"count": np.array([7])}, r"State.count must be int64 of shape \(\), got int64 \(1,\)"),
        ({"ready": np.asarray(1)}, r"State.ready must be bool of shape \(\), got int64"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StateError, match=message):
        unpack(state(), arrays(**changes))


def test_a_missing_field_is_named() -> None:
    packed = pack(state())
    del packed["count"]
    with pytest.raises(StateError, match=r"State\.count is missing; present: ready, weight, z_D"):
        unpack(state(), packed)
    with pytest.raises(StateError, match=r"State\.z_D is missing; present: nothing"):
        unpack(state(), {})


@pytest.mark.parametrize(
    "changes",
    [
        {"z_D": np.array([np.nextafter(1.0, 2.0), -0.0, 5e-324])},  # one bit
        {"z_D": np.array([1.0, 0.0, 5e-324])},  # the sign of zero
        {"z_D": np.array([1.0, -0.0, 0.0])},  # a subnormal
        {"z_D": np.array([-0.0, 1.0, 5e-324])},  # the order
        {"count": 8},
        {"ready": False},
        {"weight": np.nextafter(0.1, 1.0).item()},
    ],
)
def test_every_bit_changes_the_digest(changes: dict[str, Any]) -> None:
    assert digest(state(**changes)) != digest(state())


def test_the_digest_is_pinned() -> None:  # machines with different versions compare it
    assert digest(state()) == PINNED
    assert digest(state(z_D=np.array([1.0, 9.0, -0.0, 9.0, 5e-324])[::2])) == PINNED  # strides do not matter
    assert 0 <= digest(state()) < 2**64


PINNED = 6938282429188127


def test_an_example_without_memory_serves_as_well() -> None:
    @dataclasses.dataclass(frozen=True, eq=False)
    class Nested:
        inner: Any
        high_D: Any
        rest_D: Any
        nothing: Any = None

    full = Nested(state(), np.ones(1 << 20, np.float32), np.zeros(1 << 20, np.uint16))
    like = hollow(full)
    assert like.high_D.strides == like.rest_D.strides == (0,)
    assert digest(unpack(like, pack(full))) == digest(full)
    for name, wrong in (("high_D", np.ones(3, np.float32)), ("rest_D", np.zeros(1 << 20))):
        with pytest.raises(StateError, match=f"{name} must be"):
            unpack(like, pack(full) | {name: wrong})


@pytest.mark.parametrize("place", [0, (1 << 16) - 1, 1 << 16, 199_999])
def test_what_is_not_finite_is_found_in_every_run(place: int) -> None:
    @dataclasses.dataclass(frozen=True, eq=False)
    class Two:
        high_D: Any
        rest_D: Any

    good = {"high_D": np.ones(200_000, np.float32), "rest_D": np.zeros(200_000, np.uint16)}
    for name, bad in (("high_D", np.inf), ("rest_D", 0x7F81)):
        arrays = {key: value.copy() for key, value in good.items()}
        arrays[name][place] = bad
        with pytest.raises(StateError, match=f"{name} holds NaN or infinity"):
            unpack(Two(**good), arrays)
