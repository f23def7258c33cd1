"""The bound of a game's Jacobian, against Jacobians."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.algorithms.problems.robust.bounds import saddle_bound


@given(st.integers(0, 2**32 - 1), st.floats(0, 5), st.floats(0, 5))
def test_it_bounds_every_jacobian_of_its_kind(seed: int, lam: float, nu: float) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(1, 5, 2)
    half = rng.standard_normal((rows, rows))
    p = lam * np.eye(rows) + half @ half.T
    c = rng.standard_normal((rows, columns)) * rng.exponential()
    jacobian = np.block([[p, c], [-c.T, nu * np.eye(columns)]])
    bound = saddle_bound(float(np.linalg.norm(p, 2)), float(np.linalg.norm(c, 2)), lam, nu)
    assert np.linalg.norm(jacobian, 2) <= bound * (1 + 1e-9) + 1e-12
