from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.compression import Dense, Draws, Identity, Sparse
from saddlebag.errors import ConfigError, NotFiniteError

DRAWS = Draws(0, 0)


@given(
    hnp.arrays(np.float64, st.integers(0, 60), elements=st.sampled_from([0.0, -0.0, 1 / 3, -7.0, 1e-320]), fill=st.just(0.0))
)
def test_nothing_but_the_type_changes(x_D: np.ndarray) -> None:
    assert np.array_equal(Identity(dtype="float64").encode(x_D, DRAWS).dense(), x_D)
    assert np.array_equal(Identity().encode(x_D, DRAWS).dense(), x_D.astype(np.float32))


def test_the_constants_are_those_of_the_identity() -> None:
    assert Identity().omega(9) == 0.0
    assert Identity().alpha(9) == 1.0
    assert Identity().bits(9) == 288.0
    assert Identity(dtype="float64").bits(9) == 576.0


def test_the_payload_does_not_share_memory_with_the_vector() -> None:
    x_D = np.ones(4, np.float32)
    payload = Identity().encode(x_D, DRAWS)
    assert isinstance(payload, Dense)
    assert not np.shares_memory(payload.value_D, x_D)


@pytest.mark.parametrize(("count", "layout"), [(0, Dense), (1, Sparse), (50, Sparse), (99, Dense), (100, Dense)])
def test_few_nonzeros_travel_alone(count: int, layout: type) -> None:
    x_D = np.zeros(100)
    x_D[:count] = -2.5
    payload = Identity().encode(x_D, DRAWS)
    assert type(payload) is layout
    assert np.array_equal(payload.dense(), x_D)
    if isinstance(payload, Sparse):
        assert payload.index_K.tolist() == list(range(count))


def test_an_overflow_is_refused() -> None:
    with pytest.raises(NotFiniteError, match="overflows float32"):
        Identity().encode(np.array([1e300]), DRAWS)


def test_other_types_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"identity\.dtype must be 'float32' or 'float64', got 'float16'"):
        Identity(dtype="float16")
