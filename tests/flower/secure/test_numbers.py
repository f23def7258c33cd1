"""The whole numbers of a client: exact sums of what lies in the tail, whatever the grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.errors import ConfigError
from saddlebag.flower.secure.numbers import Layout


@pytest.mark.parametrize("largest", [7, 127])
@given(rows=st.lists(st.lists(st.integers(-(2**48) + 1, 2**48 - 1), min_size=2, max_size=2), min_size=1, max_size=6))
def test_numbers_of_clients_add_up_exactly_and_stay_on_the_grid(largest: int, rows: list[list[int]]) -> None:
    layout = Layout(3, largest, 2)
    each = [layout.joined(np.full(3, largest), np.array([1, 0]), row) for row in rows]
    assert {row.shape for row in each} == {(layout.size,)}
    assert max(int(np.abs(row).max()) for row in each) <= largest
    level_D, fits, exact = layout.split(sum(row.astype(np.int64) for row in each))
    assert exact == [sum(column) for column in zip(*rows, strict=True)]
    assert level_D.tolist() == [largest * len(rows)] * 3
    assert fits.tolist() == [len(rows), 0]


def test_a_number_beyond_the_tail_is_refused() -> None:
    with pytest.raises(ConfigError, match="must stay below"):
        Layout(0, 7, 1).joined(np.zeros(0), np.zeros(2), [2**48])
