"""Bets: supermartingales under the hypothesis, exactly; false alarms at most the rate; and power once the mean has moved."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise.watch.bets import Bets
from saddlebag.errors import ConfigError


def test_wealth_is_a_martingale_by_enumeration() -> None:
    """All 2^8 sequences of a mean of 0: the mean wealth is 1, whatever was won before."""
    for two_sided in (False, True):
        bets, total = Bets(low=-0.2, high=0.8, two_sided=two_sided), 0.0
        for outcomes in itertools.product((False, True), repeat=8):
            state, chance = bets.init(1, 1), 1.0
            for hit in outcomes:
                bets.advance(state, np.array([0]), np.array([[0.8 if hit else -0.2]]))
                chance *= 0.2 if hit else 0.8
            total += chance * float(np.exp(bets.evidence(state)[0]))
        assert total == pytest.approx(1.0, rel=1e-12)


def worst_of(bets: Bets, draw: Any, streams: int, rounds: int) -> Any:
    """The largest evidence of each of many streams, at any time."""
    state, all_K = bets.init(streams, 1), np.arange(streams)
    worst = np.zeros(streams)
    for _ in range(rounds):
        bets.advance(state, all_K, draw())
        worst = np.maximum(worst, bets.evidence(state))
    return worst


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_false_alarms_are_at_most_the_declared_rate_over_a_thousand_streams(rate: float) -> None:
    """Looked at after every one of 500 rounds; the tolerance is three deviations of a thousand coins."""
    rng, allowed = np.random.default_rng(0), rate + 3 * np.sqrt(rate * (1 - rate) / 1000)
    coins = Bets(low=-0.12, high=0.88)
    missed = worst_of(coins, lambda: (rng.random((1000, 1)) < 0.12) - 0.12, 1000, 500)
    ranks = worst_of(Bets(low=-0.5, high=0.5, two_sided=True), lambda: rng.random((1000, 1)) - 0.5, 1000, 500)
    for worst in (missed, ranks):
        assert 0.0 < np.mean(worst >= np.log(1 / rate)) <= allowed  # above 0: a test that never alarms proves nothing


def test_a_mean_that_moves_late_is_found() -> None:
    rng, bets = np.random.default_rng(1), Bets(low=-0.12, high=0.88)
    state = bets.init(1, 1)
    rounds = iter(range(6000))
    for t in rounds:
        bets.advance(state, np.array([0]), np.array([[float(rng.random() < (0.1 if t < 3000 else 0.2)) - 0.12]]))
        if bets.evidence(state)[0] > np.log(1000):
            break
    assert 3000 < t < 4500


def test_groups_that_sleep_are_not_touched_and_evidence_is_the_mean_wealth() -> None:
    bets = Bets(low=-1.0, high=1.0)
    state = bets.init(3, 2)
    bets.advance(state, np.array([1]), np.array([[0.5, -0.5]]))
    bets.advance(state, np.array([1]), np.array([[0.5]]), np.array([0]))
    assert state.count_GJ.tolist() == [[0, 0], [2, 1], [0, 0]]
    assert bets.evidence(state)[[0, 2]].tolist() == [0.0, 0.0]
    assert bets.evidence(state)[1] == pytest.approx(np.log(np.exp(state.log_wealth_GJ[1]).mean()))
    np.testing.assert_allclose(state.share_GJL.sum(axis=-1), 1.0)


def test_increments_need_both_signs() -> None:
    with pytest.raises(ConfigError, match="low < 0 < high"):
        Bets(low=0.0, high=1.0)
