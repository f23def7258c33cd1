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
    after = unpack(State, pack(before), len(z_D))
    assert after.z_D.tobytes() == z_D.tobytes()
    assert (after.count, after.ready, after.weight) == (count, ready, weight)
    assert (type(after.count), type(after.ready), type(after.weight)) == (int, bool, float)
    assert digest(after) == digest(before)


@pytest.mark.parametrize(
    "annotations", [(np.ndarray, int, bool, float), ("Vector", "int", "bool", "float")], ids=["types", "strings"]
)
def test_annotations_may_be_types_or_strings(annotations: tuple[Any, ...]) -> None:  # a plug-in need not import annotations
    kind = dataclasses.make_dataclass("Plain", list(zip(arrays(), annotations, strict=True)), frozen=True, eq=False)
    before = kind(np.ones(3), 7, True, 0.1)
    assert digest(unpack(kind, pack(before), 3)) == digest(before) != digest(state())


def test_a_prefix_separates_states_in_one_file() -> None:
    together = pack(state(), "one.") | pack(state(count=8), "two.")
    assert [unpack(State, together, 3, prefix).count for prefix in ("one.", "two.")] == [7, 8]
    with pytest.raises(StateError, match="z_D is missing"):
        unpack(State, together, 3)


def test_packed_form_is_flat_and_typed() -> None:
    packed = pack(state())
    assert {name: (array.shape, array.dtype.name) for name, array in packed.items()} == {
        "z_D": ((3,), "float64"),
        "count": ((), "int64"),
        "ready": ((), "bool"),
        "weight": ((), "float64"),
    }
    assert pack(Empty()) == {}
    assert isinstance(unpack(Empty, {}, 3), Empty)


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
        unpack(State, arrays(**changes), 3)


def test_a_missing_field_is_named() -> None:
    packed = pack(state())
    del packed["count"]
    with pytest.raises(StateError, match=r"State\.count is missing; present: ready, weight, z_D"):
        unpack(State, packed, 3)
    with pytest.raises(StateError, match=r"State\.z_D is missing; present: nothing"):
        unpack(State, {}, 3)


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
