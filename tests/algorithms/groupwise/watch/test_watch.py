"""The four alarms: silent on streams where nothing happens, found with their time where something does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import Seen, Watch, cell_edges
from saddlebag.algorithms.groupwise.watch.watch import KINDS
from saddlebag.errors import ConfigError

G, D = 3, 4


def quiet(rng: np.random.Generator, drifted: str = "") -> Seen:
    """A round of which all hypotheses hold, but for the kind that has drifted, on group 1."""
    awake_G = np.array([1.0, rng.random() < 0.6, rng.random() < 0.3], float)
    on = drifted if awake_G[1] else ""
    p = rng.choice([0.1, 0.35, 0.7])
    x_D = np.array([rng.normal(), rng.random() < 0.3, rng.integers(4), 1.0], float)
    if on == "features":
        x_D[1] = rng.random() < 0.8
    return Seen(
        awake_G=awake_G,
        x_D=x_D,
        p=float(p),
        y=float(rng.random() < (0.95 if on == "calibration" and p == 0.7 else p)),
        excess=0.2 * rng.normal() + (0.15 if on == "worse" else 0.0),
        missed_M=np.array([rng.random() < (0.3 if on == "coverage" else 0.1)]),
    )


def watch_of(rng: np.random.Generator, **changes: Any) -> Watch:
    table_ND = np.array([quiet(rng).x_D for _ in range(200)])
    return Watch(targets=(0.9,), edges=cell_edges(table_ND), **changes)


def test_any_false_alarm_is_as_rare_as_declared() -> None:
    """At a rate of 0.3, all kinds and groups together, over 60 streams; `benchmarks/study_alarms.py` has the long form."""
    false = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        watch = watch_of(rng, rate=0.3)
        state = watch.init(G)
        for _ in range(120):
            watch.see(state, quiet(rng))
        false += bool(state.first_KG.any())
    assert false / 60 <= 0.3 + 3 * np.sqrt(0.3 * 0.7 / 60)


@pytest.mark.parametrize("drifted", KINDS)
def test_what_drifts_on_a_group_is_found_after_it_began(drifted: str) -> None:
    rng = np.random.default_rng(7)
    watch = watch_of(rng)
    state = watch.init(G)
    for t in range(2500):
        watch.see(state, quiet(rng, drifted if t >= 500 else ""))
    first_KG = state.first_KG
    assert first_KG[KINDS.index(drifted), 1] > 500
    others = [k for k, kind in enumerate(KINDS) if kind != drifted]
    assert not first_KG[others].any()


def test_a_rounds_first_alarm_stays_and_rounds_count_from_one() -> None:
    watch = Watch(kinds=("worse",), rate=0.5)
    state = watch.init(1)
    for _ in range(50):
        watch.see(state, Seen(awake_G=np.ones(1), excess=1.0))
    first = float(state.first_KG[0, 0])
    assert 1 <= first < 20
    assert state.rounds[0] == 50


def test_edges_do_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(0)
    x_ND = np.column_stack([rng.normal(size=100), rng.random(100) < 0.1, np.ones(100)])
    edges = cell_edges(x_ND)
    assert edges == cell_edges(x_ND[::-1])
    assert (len(edges[0]), edges[1], edges[2]) == (7, (0.0,), ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ()}, "kinds must be different ones"),
        ({"kinds": ("worse", "worse")}, "kinds must be different ones"),
        ({"kinds": ("louder",)}, "kinds must be"),
        ({"rate": 1.0}, r"rate must lie in \(0, 1\), got 1"),
        ({"tolerance": 0.0}, r"tolerance must lie in \(0, 1\), got 0"),
        ({"levels": 0}, r"levels must lie in \[1, 10,000\], got 0"),
        ({"loss_range": float("inf")}, "loss_range must be positive and finite"),
        ({"targets": (0.9,), "margin": 0.2}, r"margin must lie in \(0, 0.1\) at target 0.9, got 0.2"),
        ({"kinds": ("coverage",)}, "coverage needs targets"),
    ],
)
def test_what_cannot_be_watched_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Watch(**{"kinds": ("worse",), **changes})


def test_the_first_intervals_of_a_group_are_no_alarm() -> None:
    """Thresholds start from nothing, and what was given out before any label was known holds none."""
    watch = Watch(kinds=("coverage",), targets=(0.9,))
    state = watch.init(1)
    for t in range(1000):
        watch.see(state, Seen(awake_G=np.ones(1), missed_M=None if t < 200 else np.array([t < 250 or t % 10 == 0])))
    assert not state.first_KG.any()
    for _ in range(50):
        watch.see(state, Seen(awake_G=np.ones(1), missed_M=np.array([True])))
    assert state.first_KG[0, 0] > 1000
