"""Calibration: the identity of each cell, the proven bound, late labels, sums, and a base that is wrong for a group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import Calibration, calibrate_recorded, calibration_cells
from saddlebag.errors import ConfigError

ROUNDS, GROUPS = 1500, 4
RULE = Calibration(bins=5, step=0.02)


def rounds(seed: int = 0) -> tuple[Any, Any, Any]:
    """A base that is too low by 0.2 in group 0 and too high by 0.2 elsewhere."""
    rng = np.random.default_rng(seed)
    awake_NG = (rng.random((ROUNDS, GROUPS)) < 0.4).astype(float)
    awake_NG[:, -1] = 1.0
    base_N = 0.2 + 0.6 * rng.random(ROUNDS)
    truth_N = base_N + np.where(awake_NG[:, 0] > 0, 0.2, -0.2)
    return base_N, (rng.random(ROUNDS) < truth_N).astype(float), awake_NG


def test_the_error_of_a_cell_is_its_excess_even_when_labels_come_late() -> None:
    base_N, y_N, awake_NG = rounds()
    rng, state, waiting = np.random.default_rng(1), RULE.init(GROUPS), []
    p_N = np.empty(ROUNDS)
    for t in range(ROUNDS):
        p_N[t] = RULE.play(state, base_N[t], awake_NG[t])
        waiting.append(t)
        while waiting and (t == ROUNDS - 1 or rng.random() < 0.5):
            at = waiting.pop(int(rng.integers(len(waiting))))
            state = RULE.learn(state, base_N[at], p_N[at], y_N[at], awake_NG[at])
    level_N = np.array([RULE.level(base) for base in base_N])
    for g in range(GROUPS):
        for b in range(RULE.bins):
            in_N = (awake_NG[:, g] > 0) & (level_N == b)
            if in_N.any():
                assert RULE.error(state)[g, b] == pytest.approx((y_N - p_N)[in_N].mean(), abs=1e-12)


@pytest.mark.parametrize("labels", ["random", "against", "ones", "alternate"])
@pytest.mark.parametrize("step", [0.001, 0.1, 2.0])
def test_the_bound_holds_for_any_labels(labels: str, step: float) -> None:
    base_N, y_N, awake_NG = rounds(3)
    rule, state = Calibration(bins=3, step=step), None
    state = rule.init(GROUPS)
    awake_NG[::3] *= 0.5
    base_N[::7] = 0.0
    for t in range(ROUNDS):
        p = rule.play(state, base_N[t], awake_NG[t])
        y = {"random": y_N[t], "against": float(p < 0.5), "ones": 1.0, "alternate": float(t % 2)}[labels]
        state = rule.learn(state, base_N[t], p, y, awake_NG[t])
        assert (state.excess_GB**2).sum() <= float(state.room) * (1 + 1e-12)
    assert (np.abs(rule.error(state)) <= rule.bound(state) + 1e-12).all()


def test_a_base_that_is_wrong_for_groups_is_corrected_and_loses_less() -> None:
    base_N, y_N, awake_NG = rounds(5)
    p_N, state = calibrate_recorded(RULE, base_N, y_N, awake_NG)
    before, after = ((np.abs(np.subtract(*calibration_cells(q_N, y_N, awake_NG, 5)[1:])).sum(axis=1)) for q_N in (base_N, p_N))
    assert (after < 0.7 * before)[[0, 3]].all()
    assert ((p_N - y_N) ** 2).sum() < 0.95 * ((base_N - y_N) ** 2).sum()
    assert (p_N >= 0).all()
    assert (p_N <= 1).all()
    assert float(state.room) > 0


def test_a_calibrated_base_is_hardly_changed() -> None:
    rng = np.random.default_rng(7)
    base_N, awake_NG = rng.random(4000), np.ones((4000, 1))
    y_N = (rng.random(4000) < base_N).astype(float)
    p_N, _ = calibrate_recorded(Calibration(), base_N, y_N, awake_NG)
    assert ((p_N - y_N) ** 2).sum() < 1.005 * ((base_N - y_N) ** 2).sum()


def test_sums_add_up_and_predictions_never_see_their_label() -> None:
    base_N, y_N, awake_NG = rounds(9)
    p_N, state = calibrate_recorded(RULE, base_N, y_N, awake_NG)
    other_N = y_N.copy()
    other_N[700:] = 1.0 - other_N[700:]
    assert np.array_equal(calibrate_recorded(RULE, base_N, other_N, awake_NG)[0][:701], p_N[:701])
    each = [RULE.sums(GROUPS, base_N[t], p_N[t], y_N[t], awake_NG[t]) for t in range(ROUNDS)]
    total = {name: np.sum([sums[name] for sums in each], axis=0) for name in each[0]}
    merged = RULE.merge(RULE.init(GROUPS), total)
    assert np.allclose(merged.excess_GB, state.excess_GB, atol=1e-9)
    assert float(merged.room) == pytest.approx(float(state.room))


def test_what_is_no_rule_is_refused() -> None:
    for wrong in ({"bins": 0}, {"step": 0.0}, {"step": -1.0}):
        with pytest.raises(ConfigError):
            Calibration(**wrong)  # type: ignore[arg-type]
