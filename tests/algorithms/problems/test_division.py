"""Parts of an operator: their mean is the operator, and the order of their sum is that of a node's ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.algorithms import Problem, Stop, digest, masha1, simulate
from saddlebag.algorithms.problems import BilinearGame, FiniteBilinearGame
from saddlebag.algorithms.problems.division import divided, part_of, tree_mean, tree_partners
from saddlebag.compression import Draws, Natural, RandK
from saddlebag.errors import ConfigError
from saddlebag.launch.api import make_problem
from saddlebag.proto.codec import LoopbackWire

PROBLEMS: list[Problem] = [
    FiniteBilinearGame(n=4, num_workers=2, num_samples=7),
    make_problem("robust_logistic", workers=3, data="breast_cancer"),
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_the_mean_of_the_parts_is_the_operator(problem: Problem, ranks: int) -> None:
    z_D = problem.start() + 0.1 * np.cos(np.arange(problem.dimension))
    draws = Draws(3, 4, 1)
    parts = [part_of(problem, 1, rank, ranks)(z_D, draws) for rank in range(ranks)]
    whole_D = problem.operator(1)(z_D, draws)
    np.testing.assert_allclose(tree_mean(parts), whole_D, rtol=1e-12, atol=1e-12 * np.abs(whole_D).max())
    np.testing.assert_array_equal(divided(problem, ranks).operator(1)(z_D, draws), tree_mean(parts))
    if ranks > 1:
        assert np.abs(parts[0] - parts[1]).max() > 1e-6, "parts that are equal show nothing"


@given(st.integers(1, 40))
def test_the_tree_takes_every_rank_once(ranks: int) -> None:
    given_to: dict[int, int] = {}
    for rank in range(ranks):
        sources, target = tree_partners(rank, ranks)
        assert sources == sorted(sources)
        assert all(source > rank for source in sources)
        assert (target is None) == (rank == 0)
        for source in sources:
            assert tree_partners(source, ranks)[1] == rank
            given_to[source] = rank
    assert sorted(given_to) == list(range(1, ranks))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_the_tree_adds_in_the_order_of_messages(values: list[float]) -> None:
    """Every rank by itself, as processes do it: it adds what comes in the order in which it takes it."""

    def sum_of(rank: int) -> Any:
        total = np.array([values[rank]])
        for source in tree_partners(rank, len(values))[0]:
            total = total + sum_of(source)
        return total

    mean = tree_mean([np.array([value]) for value in values])
    np.testing.assert_array_equal(mean, sum_of(0) / len(values))
    assert mean[0] == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)


def test_a_divided_problem_is_the_same_problem_up_to_rounding() -> None:
    problem = PROBLEMS[0]
    method = masha1(problem, up=RandK(fraction=0.5), down=Natural(), step_size=0.1)
    runs = [
        simulate(each, method, seed=1, stop=Stop(max_rounds=40), wire=LoopbackWire())
        for each in (problem, divided(problem, 3), divided(problem, 3))
    ]
    assert digest(runs[1].replica) == digest(runs[2].replica)
    assert digest(runs[1].replica) != digest(runs[0].replica), "parts that round alike show nothing"
    np.testing.assert_allclose(runs[1].replica.z_D, runs[0].replica.z_D, atol=40 * 2.0**-24)  # values travel as float32
    assert divided(problem, 3).name == problem.name
    assert divided(problem, 1) is problem


@pytest.mark.parametrize(
    ("problem", "ranks", "message"),
    [
        (BilinearGame(n=2), 2, "bilinear is neither a mean over samples"),
        (FiniteBilinearGame(n=2, num_samples=3), 4, "3 samples cannot be dealt to 4 ranks"),
        (BilinearGame(n=2), 0, "ranks must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_divided(problem: Problem, ranks: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        divided(problem, ranks)


def test_a_rank_lies_in_its_node() -> None:
    with pytest.raises(ConfigError, match=r"rank must lie in \[0, 2\), got 2"):
        part_of(PROBLEMS[0], 0, 2, 2)
