"""Shapley values: closed forms and samples against the enumeration of all coalitions, and who turns out last."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import saddlebag as sb
from saddlebag.algorithms import Stop, simulate
from saddlebag.algorithms.averages.contribution import (
    alignments,
    num_orders,
    of_means,
    of_squares,
    of_sums,
    shapley,
    shapley_sampled,
)
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire


def by_orders(utility, m: int) -> np.ndarray:
    """The definition: what each adds, over all M! orders."""
    total_M = np.zeros(m)
    for order in itertools.permutations(range(m)):
        for place, worker in enumerate(order):
            total_M[worker] += utility(frozenset(order[: place + 1])) - utility(frozenset(order[:place]))
    return total_M / math.factorial(m)


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_enumeration_is_the_mean_over_all_orders(m: int, seed: int) -> None:
    worth = dict(zip(range(1 << m), np.random.default_rng(seed).standard_normal(1 << m), strict=True))

    def utility(crew: frozenset[int]) -> float:
        return float(worth[sum(1 << worker for worker in crew)])

    values_M = shapley(utility, m)
    np.testing.assert_allclose(values_M, by_orders(utility, m), rtol=1e-10, atol=1e-12)
    assert math.isclose(values_M.sum(), worth[(1 << m) - 1] - worth[0], rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize("m", [1, 2, 3, 8, 12])
def test_closed_forms_equal_the_enumeration(m: int) -> None:
    rng = np.random.default_rng(m)
    value_M, value_MD = rng.standard_normal(m), rng.standard_normal((m, 3))
    cases = {
        "sums": (of_sums(value_M), lambda crew: sum(value_M[w] for w in crew)),
        "means": (of_means(value_M), lambda crew: sum(value_M[w] for w in crew) / max(1, len(crew))),
        "squares": (of_squares(value_MD), lambda crew: float((sum(value_MD[w] for w in crew) ** 2).sum()) if crew else 0.0),
    }
    for name, (closed_M, utility) in cases.items():
        np.testing.assert_allclose(closed_M, shapley(utility, m), rtol=1e-9, atol=1e-10, err_msg=name)
    mean_D = value_MD.mean(axis=0)
    np.testing.assert_allclose(alignments(value_MD, mean_D) / m, of_squares(value_MD / m), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_samples_keep_their_promise(seed: int) -> None:
    m, weight_M = 6, np.random.default_rng(9).uniform(0.0, 1.0, 6)

    def utility(crew: frozenset[int]) -> float:  # concave: the first ones count most
        return math.sqrt(sum(weight_M[w] for w in crew))

    sampled_M = shapley_sampled(utility, m, reach=1.0, eps=0.1, delta=1e-6, seed=seed)
    assert np.abs(sampled_M - shapley(utility, m)).max() <= 0.1
    assert math.isclose(sampled_M.sum(), math.sqrt(weight_M.sum()), rel_tol=1e-9)


def test_the_number_of_orders_is_hoeffding_s() -> None:
    count = num_orders(5, reach=2.0, eps=0.3, delta=0.05)
    # steps lie in an interval of 2 reach: P(error > eps) <= 2 exp(-2 n eps^2 / (2 reach)^2), for each of five
    assert 5 * 2 * math.exp(-2 * count * 0.3**2 / 4.0**2) <= 0.05 < 5 * 2 * math.exp(-2 * (count - 1) * 0.3**2 / 4.0**2)


def test_what_cannot_be_kept_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"num_workers must lie in \[1, 20\] to enumerate coalitions, got 21"):
        shapley(lambda crew: 0.0, 21)
    with pytest.raises(ConfigError, match=r"worker \d changes the utility by 1, more than reach = 0.5"):
        shapley_sampled(lambda crew: float(len(crew)), 3, reach=0.5, eps=0.1, delta=0.1)
    for name, bad in (("reach", 0.0), ("eps", -1.0), ("delta", 1.0)):
        with pytest.raises(ConfigError, match=f"^{name} must"):
            num_orders(3, **{"reach": 1.0, "eps": 0.1, "delta": 0.1, name: bad})
    with pytest.raises(ConfigError, match="num_workers must be at least 1, got 0"):
        num_orders(0, reach=1.0, eps=0.1, delta=0.1)


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    row_NF = rng.standard_normal((480, 5))
    return row_NF, np.sign(row_NF @ np.array([1.0, -2.0, 0.5, 0.0, 1.0]) + 0.3 * rng.standard_normal(480))


def test_a_worker_whose_labels_are_flipped_is_last_in_twenty_of_twenty(rows) -> None:
    row_NF, label_N = rows
    last = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        bad, order_N = int(rng.integers(8)), rng.permutation(len(label_N))
        shards = []
        for worker in range(8):
            mine_S = order_N[worker::8]
            label_S = label_N[mine_S].copy()
            if worker == bad:
                label_S[rng.permutation(len(label_S))[: round(0.3 * len(label_S))]] *= -1
            shards.append((row_NF[mine_S], label_S))
        problem = sb.make_problem("logistic_regression", data=shards)
        method = sb.make_method("compressed_sgd", problem, step_size=0.5, up="nearest_int8", down="nearest_int8")
        run = simulate(problem, method, seed=seed, stop=Stop(max_rounds=20, every=20), wire=LoopbackWire(), scored=True)
        last += int(np.argmin(run.contributions)) == bad
    assert last == 20


def test_contributions_are_the_shapley_values_of_what_was_received() -> None:
    problem = sb.make_problem("bilinear", n=3, workers=4, regularisation=0.5)
    method = sb.make_method("qsgda", problem, step_size=0.1)
    once = simulate(problem, method, seed=0, stop=Stop(max_rounds=1), wire=LoopbackWire(), scored=True)
    sent_MD = np.array([problem.operator(m)(problem.start(), Draws(0, 0, m)).astype(np.float32) for m in range(4)], np.float64)
    expected_M = shapley(lambda crew: float((sum(sent_MD[w] / 4 for w in crew) ** 2).sum()) if crew else 0.0, 4)
    np.testing.assert_allclose(once.contributions, expected_M, rtol=1e-6)
    assert simulate(problem, method, seed=0, stop=Stop(max_rounds=1), wire=LoopbackWire()).contributions == ()
