"""Thresholds: the identity of coverage, the proven bound and its constant, blocks, units, and groups that join."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import Thresholds
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.coverage.thresholds import ThresholdState

RULES = [Thresholds(targets=(0.9, 0.5)), Thresholds(targets=(0.9, 0.5), form="fixed", step=0.05)]
ROUNDS, GROUPS = 600, 5


def memberships(rng: np.random.Generator, *, soft: bool = False) -> Any:
    awake_NG = (rng.random((ROUNDS, GROUPS)) < 0.4).astype(float)
    if soft:
        awake_NG *= rng.random((ROUNDS, GROUPS))
    awake_NG[:, -1] = 1.0
    return awake_NG


def run(rule: Thresholds, score_N: Any, awake_NG: Any) -> tuple[Any, ThresholdState]:
    """Misses (N, M), and the state at the end."""
    state, missed = rule.init(GROUPS), []
    for score, awake_G in zip(score_N, awake_NG, strict=True):
        tau_M = rule.at(state, awake_G)
        missed.append(score > tau_M)
        state = rule.learn(state, tau_M, np.full(2, score), awake_G)
    return np.array(missed), state


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("soft", [False, True])
def test_coverage_errors_are_the_corrections_even_when_labels_come_late_and_in_any_order(rule: Thresholds, soft: bool) -> None:
    rng = np.random.default_rng(3)
    score_N, awake_NG = rng.standard_cauchy(ROUNDS) ** 2, memberships(rng, soft=soft)
    state, waiting, missed_NM = rule.init(GROUPS), [], np.empty((ROUNDS, 2))
    for t in range(ROUNDS):
        waiting.append((t, rule.at(state, awake_NG[t])))
        while waiting and rng.random() < (0.5 if t < ROUNDS - 1 else 1.0):
            at, tau_M = waiting.pop(int(rng.integers(len(waiting))))
            missed_NM[at] = score_N[at] > tau_M
            state = rule.learn(state, tau_M, np.full(2, score_N[at]), awake_NG[at])
    assert not waiting
    counted_MG = np.array(
        [[((missed_NM[:, m] - a) * awake_NG[:, g]).sum() for g in range(GROUPS)] for m, a in enumerate((0.1, 0.5))]
    )
    assert np.abs(counted_MG - state.excess_MG).max() < 1e-9
    share_MG = counted_MG / awake_NG.sum(axis=0)
    assert np.abs(share_MG - rule.error(state)).max() < 1e-9
    assert np.abs(rule.corrections(state) / rule.steps(state)[:, None] - counted_MG).max() < 1e-9
    assert np.abs(share_MG).max() > 1e-6  # something is left to speak of


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scores", ["random", "growing", "zero first", "near the threshold", "against"])
def test_the_bound_holds_for_any_scores(rule: Thresholds, scores: str) -> None:
    rng = np.random.default_rng(5)
    awake_NG = memberships(rng)
    state = rule.init(GROUPS)
    for t in range(ROUNDS):
        tau_M = rule.at(state, awake_NG[t])
        score_M = {
            "random": np.full(2, rng.exponential()),
            "growing": np.full(2, float(t**2)),
            "zero first": np.full(2, 0.0 if t < 50 else 1.0),
            "near the threshold": tau_M + (1e-12 if rng.random() < 0.3 else -1e-12),
            "against": np.where(state.excess_MG @ awake_NG[t] >= 0, np.maximum(tau_M + 0.5, 0.5), np.minimum(tau_M, 0.1)),
        }[scores]
        state = rule.learn(state, tau_M, score_M, awake_NG[t])
        square_M = (state.excess_MG**2).sum(axis=1)
        assert (square_M <= state.room_M + 1e-9 * (1.0 + square_M)).all()
    assert (np.abs(rule.error(state)) <= rule.bound(state) + 1e-12).all()


def test_the_bound_is_attained_by_scores_at_the_threshold() -> None:
    rule = Thresholds(targets=(0.8,), form="fixed", step=0.1)
    rng, state = np.random.default_rng(7), rule.init(GROUPS)
    for awake_G in memberships(rng):
        tau_M = rule.at(state, awake_G)
        state = rule.learn(state, tau_M, tau_M + (1e-13 if rng.random() < 0.5 else 0.0), awake_G)
    assert (state.excess_MG**2).sum() == pytest.approx(float(state.room_M[0]), rel=1e-9)


def test_adaptive_thresholds_have_no_unit() -> None:
    rng = np.random.default_rng(11)
    score_N, awake_NG = rng.exponential(size=ROUNDS), memberships(rng)
    missed_NM, state = run(RULES[0], score_N, awake_NG)
    scaled_NM, scaled = run(RULES[0], 4096.0 * score_N, awake_NG)  # a power of two: no rounding
    assert np.array_equal(missed_NM, scaled_NM)
    assert np.array_equal(4096.0 * RULES[0].at(state, awake_NG[0]), RULES[0].at(scaled, awake_NG[0]))


def test_groups_of_different_noise_are_all_covered_and_one_threshold_is_not() -> None:
    rng = np.random.default_rng(13)
    member_N = rng.random(6000) < 0.15
    awake_NG = np.column_stack([member_N, ~member_N, np.zeros(6000), np.zeros(6000), np.ones(6000)]).astype(float)
    score_N = np.abs(rng.normal(size=6000)) * np.where(member_N, 5.0, 1.0)
    missed_NM, _ = run(RULES[0], score_N, awake_NG)
    one_NM, _ = run(RULES[0], score_N, awake_NG * np.array([0, 0, 0, 0, 1.0]))
    assert abs(missed_NM[member_N, 0].mean() - 0.1) < 0.01  # nine misses of 877 rounds
    assert one_NM[member_N, 0].mean() > 0.4


@pytest.mark.parametrize("rule", RULES)
def test_sums_of_two_machines_are_those_of_one_and_a_block_of_one_is_a_round(rule: Thresholds) -> None:
    rng = np.random.default_rng(17)
    _, state = run(rule, rng.exponential(size=ROUNDS), memberships(rng))
    rows = [(rng.exponential(size=2), awake_G) for awake_G in memberships(rng)[:40]]
    sums = [rule.sums(state, rule.at(state, awake_G), score_M, awake_G) for score_M, awake_G in rows]
    total, first, second = (
        {name: np.sum([each[name] for each in part], axis=0) for name in sums[0]} for part in (sums, sums[:13], sums[13:])
    )
    whole, joined = rule.merge(state, total), rule.merge(state, {name: first[name] + second[name] for name in total})
    for field in dataclasses.fields(whole):
        assert np.allclose(getattr(whole, field.name), getattr(joined, field.name), rtol=1e-12)
    missed_MG = sum(((score_M > rule.at(state, awake_G)) - rule.miss_M)[:, None] * awake_G for score_M, awake_G in rows)
    assert np.allclose(whole.excess_MG - state.excess_MG, missed_MG, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_groups_that_sleep_keep_their_bits_and_new_groups_join(rule: Thresholds) -> None:
    rng = np.random.default_rng(19)
    awake_NG = memberships(rng)
    awake_NG[:, 1] = 0.0
    _, state = run(rule, rng.exponential(size=ROUNDS), awake_NG)
    fresh = rule.init(GROUPS)
    for name in ("excess_MG", "base_MG", "average_MG", "square_MG"):
        assert np.array_equal(getattr(state, name)[:, 1], getattr(fresh, name)[:, 1])
    wide = rule.grow(state, 2)
    old_G = np.concatenate((awake_NG[0], [0.0, 0.0]))
    assert np.array_equal(rule.at(wide, old_G), rule.at(state, awake_NG[0]))
    learned = rule.learn(wide, rule.at(wide, np.ones(7)), np.full(2, 9.0), np.ones(7))
    assert (learned.excess_MG[:, -2:] > 0).all()


@pytest.mark.parametrize("changes", [{"targets": ()}, {"targets": (1.0,)}, {"step": 0.0}, {"form": "best"}])
def test_what_is_no_rule_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Thresholds(**changes)
