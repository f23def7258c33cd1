"""Many rounds in one call against one by one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import AdaNormalHedge, Groupwise, Ridge, Solo, SquaredLoss, is_fast, run_rounds
from saddlebag.errors import ConfigError

D, G = 5, 4


def build(**options: Any) -> Groupwise:
    given = {"mixer": AdaNormalHedge(loss_range=1.0), "learner": Ridge(dimension=D, refresh=150), "loss": SquaredLoss()}
    return Groupwise(**{**given, "interval": (0.0, 1.0), "default": 0.5, **options})


def stream(N: int, *, soft: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(N)
    x_ND = rng.random((N, D))
    awake_NG = (rng.random((N, G)) < (0.7, 0.3, 0.05, 0.0)).astype(float)
    awake_NG[::7] = 0.0  # nobody
    confidence_NG = rng.random((N, G)) if soft else np.ones((N, G))
    return x_ND, np.clip(x_ND @ rng.random(D) / 3 + 0.1 * rng.standard_normal(N), 0, 1), awake_NG * confidence_NG


@pytest.mark.parametrize("options", [{}, {"charge": "expected"}, {"interval": None}], ids=str)
@pytest.mark.parametrize("soft", [False, True], ids=["binary", "confidence"])
def test_the_compiled_loop_equals_rounds(options: dict[str, Any], soft: bool) -> None:
    pytest.importorskip("numba")
    algorithm, (x_ND, y_N, awake_NG) = build(**options), stream(400, soft=soft)
    assert is_fast(algorithm)
    one, values_N = run_rounds(algorithm, algorithm.init(G), x_ND, y_N, awake_NG, compiled=False)
    two, parts = algorithm.init(G), []
    for part in (slice(0, 1), slice(1, 150), slice(150, 150), slice(150, 400)):  # state goes on between calls
        two, part_N = run_rounds(algorithm, two, x_ND[part], y_N[part], awake_NG[part])
        parts.append(part_N)
    assert np.allclose(np.concatenate(parts), values_N, atol=1e-10)
    for field in dataclasses.fields(one.ledger):
        name = field.name
        assert np.allclose(getattr(one.ledger, name), getattr(two.ledger, name), atol=1e-9), name
    assert np.allclose(one.mixer.regret_E, two.mixer.regret_E, atol=1e-9)
    assert np.allclose(one.mixer.absolute_E, two.mixer.absolute_E, atol=1e-9)
    for name in ("inverse_GDD", "theta_GD", "moment_GD", "count_G"):
        assert np.allclose(getattr(one.learner, name), getattr(two.learner, name), atol=1e-9), name
    settled = algorithm.learner._settled(one.learner)  # type: ignore[attr-defined]
    assert np.allclose(settled.gram_GDD, two.learner.gram_GDD, atol=1e-9)
    assert np.array_equal(two.learner.theta_GD[3], np.zeros(D))
    assert algorithm.alarms(two) == ()


def test_states_are_left_alone() -> None:
    algorithm, (x_ND, y_N, awake_NG) = build(), stream(50)
    state = algorithm.init(G)
    for compiled in (False, True):
        run_rounds(algorithm, state, x_ND, y_N, awake_NG, compiled=compiled)
        assert not state.learner.theta_GD.any()
        assert not state.mixer.absolute_E.any()
        assert state.ledger.rounds == 0


@pytest.mark.parametrize(
    "options",
    [{"mixer": Solo()}, {"learner": Ridge(dimension=D, forward=True)}, {"output": "sample", "charge": "expected"}],
    ids=str,
)
def test_everything_else_goes_round_by_round(options: dict[str, Any]) -> None:
    algorithm, (x_ND, y_N, awake_NG) = build(**options), stream(60)
    assert not is_fast(algorithm)
    state, values_N = run_rounds(algorithm, algorithm.init(G), x_ND, y_N, awake_NG)
    assert len(values_N) == state.ledger.rounds == 60


def test_shapes_are_checked() -> None:
    algorithm, (x_ND, y_N, awake_NG) = build(), stream(5)
    with pytest.raises(ConfigError, match=r"shape \(rounds, 4\), got 5 contexts, 5 labels, memberships \(5, 3\)"):
        run_rounds(algorithm, algorithm.init(G), x_ND, y_N, awake_NG[:, :3])
