"""Scores: frames that know nothing of their label, intervals that hold what scores say, and what scaling is for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import Thresholds, cover_recorded
from saddlebag.algorithms.groupwise.coverage.scores import Frame, ScoreName, recorded_frames
from saddlebag.errors import ConfigError

NAMES: list[ScoreName] = ["absolute", "scaled", "quantile"]
TARGETS = (0.8, 0.9)


def rounds(seed: int, count: int = 400) -> tuple[Any, Any, Any]:
    """Features, predictions and labels; the noise grows with a feature."""
    rng = np.random.default_rng(seed)
    x_ND = np.column_stack([np.ones(count), rng.random(count)])
    z_N = rng.random(count)
    return x_ND, z_N, z_N + 2.0 * x_ND[:, 1] ** 2 * rng.normal(size=count)


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_depends_on_earlier_labels_only(name: ScoreName) -> None:
    x_ND, z_N, y_N = rounds(1)
    other_N = y_N.copy()
    other_N[200:] += 5.0
    first, second = (recorded_frames(name, x_ND, z_N, labels_N, TARGETS) for labels_N in (y_N, other_N))
    for part in ("low_M", "high_M", "scale_M"):
        assert np.allclose(getattr(first, part)[:201], getattr(second, part)[:201], atol=1e-9)
    if name != "absolute":
        assert not np.allclose(first.scores(y_N)[201:], second.scores(y_N)[201:])


@pytest.mark.parametrize("name", NAMES)
def test_an_interval_holds_the_labels_whose_score_is_at_most_the_threshold(name: ScoreName) -> None:
    x_ND, z_N, y_N = rounds(2)
    frame = recorded_frames(name, x_ND, z_N, y_N, TARGETS)
    for tau in (-0.1, 0.3, 2.0):
        low_NM, high_NM = frame.interval(np.full(len(TARGETS), tau))
        inside_NM = (low_NM <= y_N[:, None]) & (y_N[:, None] <= high_NM)
        assert np.array_equal(inside_NM, np.broadcast_to(frame.scores(y_N) <= tau, inside_NM.shape))


@pytest.mark.parametrize("name", NAMES)
def test_every_score_covers(name: ScoreName) -> None:
    x_ND, z_N, y_N = rounds(3, 4000)
    frame = recorded_frames(name, x_ND, z_N, y_N, TARGETS)
    frame_NS = Frame(*(part[:, None] for part in (frame.low_M, frame.high_M, frame.scale_M)))
    covered = cover_recorded(Thresholds(targets=TARGETS), frame_NS, y_N[:, None], np.ones((4000, 1, 1)))
    assert np.abs(covered.missed_NSM.mean(axis=(0, 1)) - (0.2, 0.1)).max() < 0.01


def test_scaled_and_quantile_intervals_are_wide_where_the_noise_is() -> None:
    x_ND, z_N, y_N = rounds(4, 4000)
    quiet_N, coverage = x_ND[:, 1] < 0.3, {}
    for name in NAMES:
        frame = recorded_frames(name, x_ND, z_N, y_N, (0.9,))
        frame_NS = Frame(*(part[:, None] for part in (frame.low_M, frame.high_M, frame.scale_M)))
        covered = cover_recorded(Thresholds(), frame_NS, y_N[:, None], np.ones((4000, 1, 1)))
        coverage[name] = covered.widths(binary=False)[quiet_N, 0, 0].mean()
    assert coverage["scaled"] < 0.7 * coverage["absolute"]
    assert coverage["quantile"] < 0.7 * coverage["absolute"]


def test_intervals_of_binary_labels_are_sets_and_cut_intervals_lose_no_label() -> None:
    z_N = np.array([0.1, 0.5, 0.95])
    frame = Frame(z_N[:, None, None], z_N[:, None, None], np.ones((3, 1, 1)))
    covered = cover_recorded(
        Thresholds(form="fixed", step=1e-9), frame, np.array([[1.0], [0.0], [1.0]]), np.ones((3, 1, 1)), (0.0, 1.0)
    )
    assert (covered.low_NSM >= 0).all()
    assert (covered.high_NSM <= 1).all()
    assert covered.widths(binary=True).tolist() == [[[0.0]], [[0.0]], [[0.0]]]


def test_an_unknown_score_is_refused() -> None:
    with pytest.raises(ConfigError, match="score must be"):
        recorded_frames("best", *rounds(1), TARGETS)  # type: ignore[arg-type]
