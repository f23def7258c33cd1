from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from saddlebag.algorithms.groupwise import (
    AdaNormalHedge,
    AdaptMlProd,
    Doubling,
    Gradient,
    Members,
    Ridge,
    Solo,
    Specialists,
    SquaredLoss,
    mix_members,
    mix_recorded,
    replay_groups,
    replay_members,
)
from saddlebag.algorithms.groupwise import recorded as module
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import AnyMixer, Array

TABLES = arrays(np.float64, st.tuples(st.integers(0, 6), st.integers(1, 5)), elements=st.sampled_from([0.0, 0.0, 0.25, 1.0]))


@given(TABLES, st.randoms())
def test_members_are_the_table(awake_NG: Array, dice: object) -> None:
    members, rng = Members.of(awake_NG), np.random.default_rng(0)
    value_N, order_N = rng.random(len(awake_NG)), rng.permutation(len(awake_NG))
    assert np.array_equal(members.table(), awake_NG)
    assert np.array_equal(members.reordered(order_N).table(), awake_NG[order_N])
    assert members.totals(value_N) == pytest.approx(value_N @ awake_NG)
    rows = [np.flatnonzero(awake_N) for awake_N in awake_NG.T]
    again = Members.of_groups(len(awake_NG), rows, [awake_N[row_K] for awake_N, row_K in zip(awake_NG.T, rows, strict=True)])
    assert all(np.array_equal(getattr(again, name), getattr(members, name)) for name in ("start_N", "group_M", "weight_M"))
    found = {group: round_K.tolist() for group, _, round_K in members.by_group()}
    assert found == {group: row_K.tolist() for group, row_K in enumerate(rows) if len(row_K)}
    for group, place_K, round_K in members.by_group():
        assert np.array_equal(members.weight_M[place_K], awake_NG[round_K, group])
        assert np.array_equal(members.column(group), awake_NG[:, group])


def stream(weights: list[float]) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(3)
    awake_NG = np.where(rng.random((300, 7)) < 0.3, rng.choice(weights, (300, 7)), 0.0)
    awake_NG[:, -1] = 1.0
    x_ND = rng.random((300, 3))
    return x_ND, np.clip(x_ND[:, 0] + 0.3 * awake_NG[:, 0] + 0.05 * rng.standard_normal(300), 0, 1), awake_NG


@pytest.mark.parametrize("charge", ["played", "expected"])
@pytest.mark.parametrize("mixer", [AdaNormalHedge(), Solo(), Specialists(rate=0.5)], ids=lambda mixer: type(mixer).__name__)
@pytest.mark.parametrize("compiled", [False, True])
def test_mixing_the_awake_is_mixing_the_table(
    mixer: AnyMixer, charge: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x_ND, y_N, awake_NG = stream([0.5, 1.0])
    monkeypatch.setattr(module, "_LONG", 0 if compiled else 1 << 40)
    members, prior_E = Members.of(awake_NG), np.full(7, 1 / 7)
    z_M = np.clip(replay_members(Ridge(dimension=3), x_ND, y_N, members), 0, 1)
    z_NG = np.clip(replay_groups(Ridge(dimension=3), x_ND, y_N, awake_NG), 0, 1)
    assert np.array_equal(z_NG[members.round_M, members.group_M], z_M)
    options = {"loss": SquaredLoss(), "charge": charge}
    whole = mix_recorded(mixer, prior_E, z_NG[:, None], y_N[:, None], awake_NG[:, None], **options)  # type: ignore[arg-type]
    found = mix_members(mixer, prior_E, members, z_M, y_N, **options)  # type: ignore[arg-type]
    for name in ("played_NS", "expected_NS", "value_NS", "absolute_SE", "largest_S", "fell_back_S"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), abs=1e-12), name
    assert mixer.bound(found.state) == pytest.approx(mixer.bound(whole.state), abs=1e-12)
    assert mixer.slack(found.state) == pytest.approx(mixer.slack(whole.state), abs=1e-12)


@pytest.mark.parametrize("mixer", [AdaptMlProd(), Doubling()], ids=lambda mixer: type(mixer).__name__)
def test_mixers_that_look_at_all_experts_are_refused(mixer: AnyMixer) -> None:
    with pytest.raises(ConfigError, match="looks at all experts in every round"):
        mix_members(mixer, np.ones(1), Members.of(np.ones((1, 1))), np.zeros(1), np.zeros(1), SquaredLoss())


def test_learners_without_a_replay_go_round_by_round() -> None:
    x_ND, y_N, awake_NG = stream([0.5, 1.0])
    learner, members = Gradient(dimension=3), Members.of(awake_NG)
    z_M = replay_members(learner, x_ND, y_N, members)
    alone_K = replay_members(learner, x_ND, y_N, Members.of(awake_NG[:, [2]]))
    assert z_M[members.group_M == 2] == pytest.approx(alone_K, abs=1e-12)
