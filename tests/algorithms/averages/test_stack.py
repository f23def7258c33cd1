"""Uplinks that come slice by slice, block by block, make what the rule makes of whole ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlebag.algorithms import Message, form_means
from saddlebag.algorithms.averages import stack
from saddlebag.algorithms.averages.robust import CoordinateMedian, GeometricMedian
from saddlebag.algorithms.averages.stack import Stack
from saddlebag.compression import Dense

D, M = 23, 3


@pytest.mark.parametrize("rule", [CoordinateMedian(), GeometricMedian()], ids=repr)
@settings(deadline=None)
@given(st.integers(1, 30), st.randoms(use_true_random=False))
def test_slices_in_any_order_that_keeps_workers_in_turn(rule, block: int, rng) -> None:
    value_MD = np.random.default_rng(5).standard_normal((M, D))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack, "BLOCK", block)
        rows = Stack(D, M, rule)
        reached = [0] * M
        while reached[-1] < D:
            worker = rng.choice([m for m in range(M) if reached[m] < (D if m == 0 else reached[m - 1])])
            most = D if worker == 0 else reached[worker - 1]
            end = rng.randint(reached[worker] + 1, most)
            rows.add(Dense(value_MD[worker, reached[worker] : end]), reached[worker])
            reached[worker] = end
            if rule.by_coordinate:
                assert len(rows._open) <= -(-(max(reached) - min(reached)) // block) + 1
        np.testing.assert_array_equal(rows.mean(M).dense(), rule.combine(value_MD))


def test_each_part_has_rows_of_its_own_and_may_be_empty() -> None:
    messages = [Message((Dense(np.array([x, -x])), Dense(np.zeros(0)), Dense(np.array([10.0 * x])))) for x in (1.0, 2.0, 99.0)]
    means = form_means((2, 0, 1), iter(messages), 3, rule=CoordinateMedian())
    assert [mean.dense().tolist() for mean in means] == [[2.0, -2.0], [], [20.0]]
