"""Single rounds in compiled loops against the plain ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import (
    AdaNormalHedge,
    Groupwise,
    Ridge,
    Solo,
    SquaredLoss,
    pack_state,
    predict_block,
    run_rounds,
)
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError, NotFiniteError

pytest.importorskip("numba")

D, G = 5, 4
NONE = Draws(0, 0)


def build(**options: Any) -> Groupwise:
    given = {"mixer": AdaNormalHedge(loss_range=1.0), "learner": Ridge(dimension=D, refresh=150), "loss": SquaredLoss()}
    return Groupwise(**{**given, "interval": (0.0, 1.0), "default": 0.5, "compiled": True, **options})


def stream(N: int, *, soft: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(N)
    x_ND = rng.random((N, D))
    awake_NG = (rng.random((N, G)) < (0.7, 0.3, 0.05, 0.0)).astype(float)
    awake_NG[::7] = 0.0  # nobody
    confidence_NG = rng.random((N, G)) if soft else np.ones((N, G))
    return x_ND, np.clip(x_ND @ rng.random(D) / 3 + 0.1 * rng.standard_normal(N), 0, 1), awake_NG * confidence_NG


def assert_close(one: Any, two: Any) -> None:
    first, second = pack_state(one), pack_state(two)
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert np.allclose(array, second[name], rtol=0, atol=1e-10), name


@pytest.mark.parametrize("options", [{}, {"charge": "expected"}, {"interval": None}], ids=str)
@pytest.mark.parametrize("soft", [False, True], ids=["binary", "confidence"])
def test_compiled_rounds_equal_plain_ones(options: dict[str, Any], soft: bool) -> None:
    """Beyond a full buffer and a refresh; members in part are predicted in the loops and learned the plain way."""
    algorithm, (x_ND, y_N, awake_NG) = build(**options), stream(400, soft=soft)
    plain = dataclasses.replace(algorithm, compiled=False)
    assert algorithm.single is not None
    assert plain.single is None
    expected, values_N = run_rounds(plain, plain.init(G), x_ND, y_N, awake_NG, compiled=False)
    state = algorithm.init(G)
    for t in range(len(y_N)):
        prediction = algorithm.predict(state, x_ND[t], awake_NG[t], NONE)
        assert abs(prediction.value - values_N[t]) < 1e-12 * (t + 10)
        state = algorithm.learn(state, x_ND[t], y_N[t], prediction, owned=True)
    assert_close(state, expected)
    assert algorithm.alarms(state) == ()


@pytest.mark.parametrize("soft", [False, True], ids=["binary", "confidence"])
def test_compiled_rows_equal_plain_ones(soft: bool) -> None:
    """Also where an expert of the row vanishes beside the heaviest, and where all its experts have weight 0."""
    algorithm, (x_ND, y_N, awake_NG) = build(), stream(60, soft=soft)
    state, _ = run_rounds(algorithm, algorithm.init(G), x_ND, y_N, awake_NG)
    plain = dataclasses.replace(algorithm, compiled=False)
    for log_weight_G in (None, np.array([0.0, -2000.0, -np.inf, -3000.0]), np.full(G, -np.inf)):
        found, told = (
            predict_block(each, state, x_ND, awake_NG, lambda row: NONE, log_weight_G) for each in (algorithm, plain)
        )
        for field in dataclasses.fields(told):
            assert np.allclose(getattr(found, field.name), getattr(told, field.name), rtol=0, atol=1e-12), field.name
    for t in range(20):
        one, two = (each.predict(state, x_ND[t], awake_NG[t], NONE) for each in (algorithm, plain))
        for field in dataclasses.fields(two):
            assert np.allclose(getattr(one, field.name), getattr(two, field.name), rtol=0, atol=1e-12), field.name


@pytest.mark.parametrize(("size", "label"), [(1e308, 0.5), (1.0, 1e300), (np.nan, 0.5), (1.0, np.nan)])
def test_rounds_out_of_range_end_as_the_plain_ones(size: float, label: float) -> None:
    algorithm = build(interval=None)
    x_ND, y_N, awake_NG = stream(30)
    state, _ = run_rounds(algorithm, algorithm.init(G), x_ND, y_N, awake_NG)
    prediction = algorithm.predict(state, x_ND[1], np.ones(G), NONE)
    before = pack_state(state)
    ends = []
    for each in (algorithm, dataclasses.replace(algorithm, compiled=False)):
        with pytest.raises(NotFiniteError) as error:
            each.learn(state, np.full(D, size), label, prediction, owned=True)
        ends.append(str(error.value))
        after = pack_state(state)
        assert all(np.array_equal(before[name], after[name]) for name in before)
    assert ends[0] == ends[1]
    with pytest.raises(NotFiniteError, match="a prediction of Ridge is not finite"):
        algorithm.predict(state, np.full(D, np.inf), np.ones(G), NONE)


def test_wrong_memberships_and_shapes_are_refused_as_ever() -> None:
    algorithm = build()
    state = algorithm.init(G)
    with pytest.raises(ConfigError, match=r"memberships must lie in \[0, 1\], got 1.5"):
        algorithm.predict(state, np.ones(D), np.array([1.0, 1.5, 0.0, 0.0]), NONE)
    for x_D, awake_G in ((np.ones(D + 1), np.ones(G)), (np.ones(D), np.ones(G + 1))):
        with pytest.raises((ValueError, IndexError)):
            algorithm.predict(state, x_D, awake_G, NONE)
    state.learner.pending[0] = 1 << 40  # what a damaged state may say: nothing is written beyond the buffer
    with pytest.raises(IndexError):
        algorithm.learn(state, np.ones(D), 0.5, algorithm.predict(state, np.ones(D), np.ones(G), NONE), owned=True)


def test_without_owned_the_state_is_left_alone_and_the_algorithm_is_the_same() -> None:
    algorithm = build()
    state = algorithm.init(G)
    prediction = algorithm.predict(state, np.ones(D), np.ones(G), NONE)
    algorithm.learn(state, np.ones(D), 1.0, prediction)
    assert not state.learner.theta_GD.any()
    assert algorithm == dataclasses.replace(algorithm, compiled=False)
    assert build(mixer=Solo()).single is None
