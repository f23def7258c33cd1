"""Finite sums: their parts add up, their constants hold, and batches are functions of (seed, round, worker)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import masha1, masha2, vr_diana_sgda
from saddlebag.algorithms.finite_sum import FiniteSum, batch_index, lipschitz_samples
from saddlebag.algorithms.problems import BilinearGame, FiniteBilinearGame
from saddlebag.compression import Draws, Identity, RandK, TopK
from saddlebag.errors import ConfigError

FULL, RAND = Identity(), RandK(k=2)
both = pytest.mark.parametrize("name", ["samples", "robust"])


@both
def test_the_mean_over_all_samples_is_the_operator(name: str, request: pytest.FixtureRequest) -> None:
    problem, rng = request.getfixturevalue(name), np.random.default_rng(0)
    for worker in range(problem.num_workers):
        operator = problem.operator(worker)
        assert isinstance(operator, FiniteSum)
        z_D, every = rng.standard_normal(problem.dimension), np.arange(operator.num_samples)
        whole_D = operator(z_D, Draws(0, 0))
        assert operator.batch(z_D, every) == pytest.approx(whole_D, rel=1e-12, abs=1e-12)
        assert operator.batch(z_D, np.tile(every, 3)) == pytest.approx(whole_D, rel=1e-12, abs=1e-12)
        one_by_one_D = np.mean([operator.batch(z_D, every[i : i + 1]) for i in every], axis=0)
        assert one_by_one_D == pytest.approx(whole_D, rel=1e-12, abs=1e-12)
        twice_D = (2 * operator.batch(z_D, every[:1]) + operator.batch(z_D, every[1:2])) / 3
        assert operator.batch(z_D, np.array([0, 1, 0])) == pytest.approx(twice_D, rel=1e-12, abs=1e-12)


@both
def test_sample_constants_hold(name: str, request: pytest.FixtureRequest) -> None:
    problem, rng = request.getfixturevalue(name), np.random.default_rng(1)
    operator = problem.operator(0)
    for _ in range(50):
        u_D, v_D = (problem.prox(10 ** rng.uniform(-2, 1) * rng.standard_normal(problem.dimension), 1.0) for _ in range(2))
        samples = [np.array([i]) for i in range(operator.num_samples)]
        square = np.mean([np.sum((operator.batch(u_D, i) - operator.batch(v_D, i)) ** 2) for i in samples])
        assert square <= operator.lipschitz**2 * np.sum((u_D - v_D) ** 2) * (1 + 1e-9)


def test_the_game_keeps_its_mean_whatever_its_samples(samples: FiniteBilinearGame) -> None:
    plain = BilinearGame(n=10, num_workers=4, regularisation=0.05)
    assert np.array_equal(samples.solution, plain.solution)
    assert samples.constants == plain.constants
    one = samples.operator(2)
    spread = [np.linalg.norm(a_NN - one.coupling_RNN.mean(axis=0), 2) for a_NN in one.coupling_RNN]
    assert np.mean(spread) == pytest.approx(0.5)


def test_batches_are_drawn_from_the_workers_own_stream(samples: FiniteBilinearGame) -> None:
    operator = samples.operator(0)
    first = batch_index(operator, 200, Draws(1, 5, 0))
    assert np.array_equal(first, batch_index(operator, 200, Draws(1, 5, 0)))
    for other in (Draws(1, 5, 1), Draws(1, 6, 0), Draws(2, 5, 0)):
        assert not np.array_equal(first, batch_index(operator, 200, other))
    assert not np.array_equal(first, batch_index(operator, 200, Draws(1, 5, 0), skip=200))
    assert set(first) == set(range(5))


def test_the_sampling_constant_is_the_mean_over_workers(samples: FiniteBilinearGame) -> None:
    sums: list[Any] = [samples.operator(worker) for worker in range(4)]
    assert lipschitz_samples(sums) ** 2 == pytest.approx(np.mean([part.lipschitz**2 for part in sums]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda game: masha1(game, up=RAND, down=FULL, batch=2), "operators that are finite sums"),
        (lambda game: masha2(game, up=TopK(k=1), down=FULL, batch=2), "operators that are finite sums"),
        (lambda game: vr_diana_sgda(game, up=RAND, down=FULL), "operators that are finite sums"),
        (lambda game: masha1(game, up=RAND, down=FULL, sync_batch=2, step_size=0.1), "sync_batch needs a batch"),
    ],
)
def test_problems_without_samples_are_refused(make: Any, message: str, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=message):
        make(game)


@pytest.mark.parametrize("bad", [{"batch": 0}, {"batch": 1, "sync_batch": 0}])
def test_empty_batches_are_refused(bad: dict[str, int], samples: FiniteBilinearGame) -> None:
    with pytest.raises(ConfigError, match="batch must be at least 1 sample, got 0"):
        masha1(samples, up=RAND, down=FULL, step_size=0.1, **bad)


@pytest.mark.parametrize("bad", [{"num_samples": 0}, {"sample_heterogeneity": -1.0}, {"sample_heterogeneity": np.inf}])
def test_bad_parameters_of_the_game_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"finite_bilinear: {next(iter(bad))} must be"):
        FiniteBilinearGame(**bad)
