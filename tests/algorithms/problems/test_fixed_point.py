"""Fixed points: the variational inequality has the constants of the reduction, and its solution is the fixed point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from saddlebag.algorithms import Stop, extragradient, simulate
from saddlebag.algorithms.problems import PROBLEMS, FixedPoint, fixed_point
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.proto.codec import LoopbackWire


def test_the_solution_is_the_fixed_point_of_the_mean_map() -> None:
    problem = fixed_point(None, dimension=7, num_workers=3)
    mean_D = np.mean([z_D - problem.operator(m)(z_D, Draws(0, 0)) for m in range(3) for z_D in [problem.solution]], axis=0)
    assert np.allclose(mean_D, problem.solution, atol=1e-12)


def test_constants_obey_the_reduction() -> None:
    """T contracts by exactly q: 1 - q <= mu and L <= 1 + q, close to equality for a random rotation."""
    found = fixed_point(None, dimension=40, contraction=0.9).constants
    assert 0.1 - 1e-12 <= found.strong_monotonicity < 0.2
    assert 1.8 < found.lipschitz <= 1.9 + 1e-12
    assert found.similarity == pytest.approx(0.5)


def test_a_map_of_ones_own(wire: LoopbackWire) -> None:
    """Workers hold 2 cos(z)/3 and 4 cos(z)/3: neither alone has the fixed point of the mean, cos."""
    problem = FixedPoint(
        maps=(lambda z_D: 2 * np.cos(z_D) / 3, lambda z_D: 4 * np.cos(z_D) / 3),
        origin_D=np.array([1.0, 0.5]),
        contraction=float(np.sin(1.0)),  # for iterates that stay in [-1, 1]
        lipschitz_maps=(2 / 3, 4 / 3),
        solution=np.full(2, 0.7390851332151607),
    )
    assert problem.constants.strong_monotonicity == pytest.approx(1 - np.sin(1.0))
    outcome = simulate(problem, extragradient(problem), seed=0, stop=Stop(merit=1e-7, max_rounds=1000), wire=wire)
    assert outcome.reason == "merit"
    assert problem.merits(outcome.replica.z_D)["natural_residual"] < 1e-6


def test_bad_parameters() -> None:
    with pytest.raises(ConfigError, match=r"contraction must lie in \[0, 1\), got 1"):
        PROBLEMS["fixed_point"](None, num_workers=2, contraction=1.0)
    with pytest.raises(ConfigError, match="dimension must be finite and at least 1"):
        PROBLEMS["fixed_point"](None, num_workers=2, dimension=0)
    with pytest.raises(ConfigError, match=r"1 maps need as many lipschitz_maps, got 2"):
        FixedPoint(maps=(np.cos,), origin_D=np.ones(1), contraction=0.5, lipschitz_maps=(1.0, 1.0))
