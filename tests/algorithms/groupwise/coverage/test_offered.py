"""Intervals given out one by one: those of a recorded stream, and misses of intervals as they were, whatever comes when."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlebag.algorithms.groupwise import Intervals, Scorer, Thresholds, add_sums, cover_recorded
from saddlebag.algorithms.groupwise.coverage.offered import join_notes
from saddlebag.algorithms.groupwise.coverage.scores import Frame, ScoreName, recorded_frames
from saddlebag.errors import ConfigError, NotFiniteError, StateError

NAMES: list[ScoreName] = ["absolute", "scaled", "quantile"]
TARGETS = (0.8, 0.9)


def rounds(seed: int, count: int = 300) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(seed)
    x_ND = np.column_stack([np.ones(count), rng.random(count)])
    awake_NG = (rng.random((count, 3)) < 0.4).astype(float)
    awake_NG[:, 2] = 1.0
    z_N = rng.random(count)
    return x_ND, z_N, np.clip(z_N + 0.3 * x_ND[:, 1] * rng.normal(size=count), 0.0, 1.0), awake_NG


def intervals_of(name: ScoreName, form: Any = "adaptive", binary: bool = False) -> Intervals:
    rule = Thresholds(targets=TARGETS, form=form, step=0.5 if form == "adaptive" else 0.01)
    scorer = Scorer(name=name, dimension=2, targets=TARGETS)
    return Intervals(rule=rule, scorer=scorer, labels=(0.0, 1.0), binary=binary)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["adaptive", "fixed"])
def test_one_by_one_they_are_those_of_the_recorded_stream(name: ScoreName, form: str) -> None:
    x_ND, z_N, y_N, awake_NG = rounds(0)
    intervals = intervals_of(name, form)
    frame = recorded_frames(name, x_ND, z_N, y_N, TARGETS)
    frame_NS = Frame(*(part[:, None] for part in (frame.low_M, frame.high_M, frame.scale_M)))
    recorded = cover_recorded(intervals.rule, frame_NS, y_N[:, None], awake_NG[:, None], (0.0, 1.0))
    state = intervals.init(3)
    for t in range(len(y_N)):
        note_NK = intervals.notes(state, x_ND[t : t + 1], z_N[t : t + 1], awake_NG[t : t + 1])
        low_NM, high_NM = intervals.ends(note_NK)
        np.testing.assert_allclose(low_NM[0], recorded.low_NSM[t, 0], atol=1e-9)
        np.testing.assert_allclose(high_NM[0], recorded.high_NSM[t, 0], atol=1e-9)
        state = intervals.learn(state, x_ND[t], y_N[t], awake_NG[t], note_NK[0])
    np.testing.assert_allclose(state.thresholds.excess_MG, recorded.state.excess_MG[0], atol=1e-9)
    width_NM = recorded.widths(binary=False)[:, 0]
    np.testing.assert_allclose(state.width_MG, np.einsum("nm,ng->mg", width_NM, awake_NG), atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(NAMES))
def test_misses_are_those_of_intervals_as_they_were_given_out_whatever_labels_come_when(seed: int, name: ScoreName) -> None:
    """The identity with late, shuffled and lost labels, against a count of its own."""
    x_ND, z_N, y_N, awake_NG = rounds(seed, 60)
    rng, intervals = np.random.default_rng(seed), intervals_of(name)
    state, waiting, missed_MG, rounds_G = intervals.init(3), [], np.zeros((2, 3)), np.zeros(3)
    for t in range(60):
        note_NK = intervals.notes(state, x_ND[t : t + 1], z_N[t : t + 1], awake_NG[t : t + 1])
        waiting.append((t, note_NK[0]))
        while waiting and rng.random() < 0.5:
            u, note_K = waiting.pop(rng.integers(len(waiting)))
            state = intervals.learn(state, x_ND[u], y_N[u], awake_NG[u], note_K)
            tau_M, low_M, high_M, scale_M = np.split(np.delete(note_K[2:], [2, 3]), 4)
            score_M = np.maximum(low_M - y_N[u], y_N[u] - high_M) / scale_M
            missed_MG += (score_M > tau_M)[:, None] * awake_NG[u]
            rounds_G += awake_NG[u]
    error_MG = missed_MG / np.maximum(rounds_G, 1.0) - intervals.rule.miss_M[:, None]
    np.testing.assert_allclose(intervals.rule.error(state.thresholds)[:, rounds_G > 0], error_MG[:, rounds_G > 0], atol=1e-9)
    step_M = intervals.rule.steps(state.thresholds)
    moved_MG = intervals.rule.corrections(state.thresholds)
    np.testing.assert_allclose(moved_MG, step_M[:, None] * (error_MG * rounds_G), atol=1e-9)


def test_parts_of_shares_add_up_to_the_whole() -> None:
    x_ND, z_N, y_N, awake_NG = rounds(4)
    whole, shares = intervals_of("scaled"), [slice(0, 1), slice(1, 3)]
    state, states = whole.init(3), [whole.init(1), whole.init(2)]
    for t in range(len(y_N)):
        row = slice(t, t + 1)
        note_NK = whole.notes(state, x_ND[row], z_N[row], awake_NG[row])
        parts = [whole.notes(s, x_ND[row], np.zeros(1), awake_NG[row, share]) for s, share in zip(states, shares, strict=True)]
        joined_NK = join_notes(np.stack(parts), z_N[row])
        np.testing.assert_allclose(joined_NK, note_NK, rtol=1e-9, atol=1e-9)
        for s, share in enumerate(shares):
            states[s] = whole.learn(states[s], x_ND[t], y_N[t], awake_NG[t, share], joined_NK[0])
        state = whole.learn(state, x_ND[t], y_N[t], awake_NG[t], note_NK[0])
    together = np.concatenate([s.thresholds.excess_MG for s in states], axis=1)
    np.testing.assert_allclose(together, state.thresholds.excess_MG, atol=1e-9)


def test_widths_of_binary_labels_count_the_labels_held() -> None:
    intervals = intervals_of("absolute", binary=True)
    x_ND, one_NG = np.ones((1, 2)), np.ones((1, 1))
    state = intervals.init(1)
    for y in (0.0, 1.0, 1.0, 0.0):
        note_NK = intervals.notes(state, x_ND, np.array([0.5]), one_NG)
        state = intervals.learn(state, x_ND[0], y, one_NG[0], note_NK[0])
    assert set(np.unique(state.width_MG)) <= set(range(9))
    assert state.width_MG.max() > 0


def test_a_packed_state_is_the_same_and_another_is_refused() -> None:
    x_ND, z_N, y_N, awake_NG = rounds(5, 40)
    intervals = intervals_of("scaled")
    state = intervals.init(3)
    for t in range(40):
        note_NK = intervals.notes(state, x_ND[t : t + 1], z_N[t : t + 1], awake_NG[t : t + 1])
        state = intervals.learn(state, x_ND[t], y_N[t], awake_NG[t], note_NK[0])
    arrays = intervals.pack(state)
    again = intervals.pack(intervals.unpack(intervals.init(3), arrays))
    assert {name: array.tobytes() for name, array in again.items()} == {name: a.tobytes() for name, a in arrays.items()}
    for damaged in ({}, {**arrays, "intervals.width_MG": np.zeros((2, 4))}, {**arrays, "intervals.scorer.size": np.zeros(2)}):
        with pytest.raises(StateError, match="does not fit"):
            intervals.unpack(intervals.init(3), damaged)


def test_what_cannot_be_counted_is_refused() -> None:
    intervals = intervals_of("absolute")
    state, one_NG = intervals.init(1), np.ones((1, 1))
    note_NK = intervals.notes(state, np.ones((1, 2)), np.array([0.5]), one_NG)
    with pytest.raises(NotFiniteError, match="away from its prediction"):
        intervals.learn(state, np.ones(2), 1e80, one_NG[0], note_NK[0])
    with pytest.raises(ConfigError, match="the same targets"):
        Intervals(rule=intervals.rule, scorer=Scorer(name="absolute", dimension=2, targets=(0.5,)))


@pytest.mark.parametrize("name", NAMES)
def test_sums_of_machines_are_those_of_one_and_a_block_of_one_row_is_a_round(name: ScoreName) -> None:
    x_ND, z_N, y_N, awake_NG = rounds(6, 120)
    intervals = intervals_of(name)
    alone = together = one = intervals.init(3)
    missed_MG = np.zeros((2, 3))
    for start in range(0, 120, 12):
        at = np.arange(start, start + 12)
        note_NK = intervals.notes(alone, x_ND[at], z_N[at], awake_NG[at])
        missed_NM = np.array([intervals.missed(note_K, y) for note_K, y in zip(note_NK, y_N[at], strict=True)])
        missed_MG += missed_NM.T.astype(float) @ awake_NG[at]
        alone = intervals.merge(alone, intervals.sums(alone, x_ND[at], y_N[at], z_N[at], awake_NG[at]))
        parts = [intervals.sums(together, x_ND[k], y_N[k], z_N[k], awake_NG[k]) for k in (at[:5], at[:0], at[5:])]
        together = intervals.merge(together, add_sums(add_sums(parts[0], parts[1]), parts[2]))
        for k in at[:, None]:
            sums = intervals.sums(one, x_ND[k], y_N[k], z_N[k], awake_NG[k])
            note_NK = intervals.notes(one, x_ND[k], z_N[k], awake_NG[k])
            learned = intervals.learn(one, x_ND[k[0]], y_N[k[0]], awake_NG[k[0]], note_NK[0])
            one = intervals.merge(one, sums)
            for ours, theirs in ((one, learned), (together, alone)):
                for key, array in intervals.pack(ours).items():
                    if "ridge" not in key:
                        np.testing.assert_allclose(array, intervals.pack(theirs)[key], rtol=1e-9, atol=1e-9, err_msg=key)
    error_MG = missed_MG / awake_NG.sum(axis=0) - intervals.rule.miss_M[:, None]
    np.testing.assert_allclose(intervals.rule.error(alone.thresholds), error_MG, atol=1e-9)
