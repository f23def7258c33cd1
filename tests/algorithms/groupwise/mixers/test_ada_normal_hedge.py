from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.algorithms.groupwise import AdaNormalHedge, distribution
from saddlebag.algorithms.groupwise.mixers.ada_normal_hedge import log_potential, log_weight
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

ADVERSARIES = ("random_losses", "punish_the_favourite", "punish_weight", "spare_one")
SKEWED = np.array([0.5, 0.3, 0.1, 0.05, 0.04, 0.01])


def phi(regret: float, absolute: float) -> float:
    return math.exp(max(regret, 0.0) ** 2 / (3.0 * absolute)) if absolute > 0 else 1.0


def naive_weight(regret: float, absolute: float) -> float:
    """w by its definition, which overflows for large arguments and loses digits for small differences."""
    return (phi(regret + 1, absolute + 1) - phi(regret - 1, absolute + 1)) / 2.0


def test_first_weight() -> None:
    assert math.exp(log_weight(np.zeros(1), np.zeros(1))[0]) == pytest.approx((math.exp(1 / 3) - 1) / 2, rel=1e-14)
    assert (math.exp(1 / 3) - 1) / 2 == pytest.approx(0.19781, abs=5e-6)


@given(st.floats(-50, 30), st.floats(0, 200))
def test_log_domain_equals_the_definition_where_that_is_finite(regret: float, absolute: float) -> None:
    logarithm = log_weight(np.array([regret]), np.array([absolute]))[0]
    naive = naive_weight(regret, absolute)
    assert math.exp(logarithm) == pytest.approx(naive, rel=1e-9, abs=1e-13)


@given(st.floats(-5, 5), st.floats(0, 1e4))
def test_no_weight_exactly_below_minus_one(regret: float, absolute: float) -> None:
    logarithm = log_weight(np.array([regret]), np.array([absolute]))[0]
    if regret <= -1:
        assert logarithm == -np.inf
    elif regret > -1 + 1e-6:  # closer, (R + 1)^2 / (3 C + 3) may round to no difference
        assert np.isfinite(logarithm)


def test_huge_arguments_stay_finite() -> None:
    regret_E, absolute_E = np.array([1e6, 1e9, 1e12, -1e12]), np.array([1e6, 1e9, 1e12, 1e12])
    logarithm_E = log_weight(regret_E, absolute_E)
    assert np.isfinite(logarithm_E[:3]).all()
    assert logarithm_E[3] == -np.inf
    assert distribution(logarithm_E, np.full(4, 0.25), np.ones(4)).p_E.tolist() == [0, 0, 1, 0]


def test_lemma_of_one_step() -> None:
    """Phi(R + r, C + |r|) <= Phi(R, C) + w(R, C) r + 3 |r| / (2 (C + 1)), Luo and Schapire 2015, on a dense grid."""
    C = np.concatenate((np.linspace(0, 5, 41), np.geomspace(5, 2000, 30)))[:, None, None]
    R = C * np.linspace(-1, 1, 81)[None, :, None]
    r = np.linspace(-1, 1, 81)[None, None, :]
    keep = R * R / (3 * np.maximum(C, 1e-12)) < 60  # beyond, the terms cancel in float64
    left = np.exp(log_potential(*np.broadcast_arrays(R + r, C + np.abs(r))))
    right = np.exp(log_potential(*np.broadcast_arrays(R, C))) + np.exp(log_weight(R, C)) * r + 1.5 * np.abs(r) / (C + 1)
    assert ((left <= right * (1 + 1e-12)) | ~keep).all()


@pytest.mark.parametrize("adversary", ADVERSARIES)
@pytest.mark.parametrize("soft", [False, True], ids=["binary", "confidence"])
def test_regret_and_invariant_stay_in_bounds(play: Callable[..., Any], adversary: str, soft: bool) -> None:
    """1,000 runs each; the theorem holds for every sequence, so one violation is a failure."""
    mixer = AdaNormalHedge()
    game = play(mixer, adversary, prior_E=SKEWED, runs=1000, rounds=300, seed=1, soft=soft)
    bound_SE = mixer.bound(game.state)
    assert (game.regret_SE <= bound_SE + 1e-9).all()
    assert game.worst <= 1e-12
    assert np.allclose(mixer.regret(game.state), game.regret_SE)
    assert np.allclose(
        bound_SE, [[math.sqrt(3 * c * m) for c, m in zip(*row, strict=True)] for row in _parts(game.absolute_SE)]
    )
    horizon_SE = np.sqrt(3 * game.awake_SE * (-np.log(SKEWED) + np.log(2.5 + 1.5 * math.log(1 + 300))))
    assert (bound_SE <= horizon_SE + 1e-9).all()  # C <= T_e, and B <= 5/2 + 3/2 ln(1 + T)


def _parts(absolute_SE: np.ndarray) -> list[tuple[list[float], list[float]]]:
    """C and ln(1/q) + ln B, by the formula, run by run."""
    rows = []
    for absolute_E in absolute_SE:
        budget = 1 + 1.5 * sum(q * (1 + math.log(1 + c)) for q, c in zip(SKEWED, absolute_E, strict=True))
        rows.append((list(absolute_E), [math.log(1 / q) + math.log(budget) for q in SKEWED]))
    return rows


def test_an_adversary_uses_much_of_the_bound(play: Callable[..., Any]) -> None:
    """The bound is no empty one: of 200 games one uses 40 % of it at least."""
    mixer, prior_E = AdaNormalHedge(), np.full(6, 1 / 6)
    game = play(mixer, "spare_one", prior_E=prior_E, runs=200, rounds=1000, seed=3)
    bound_SE = mixer.bound(game.state)
    used = (game.regret_SE[bound_SE > 0] / bound_SE[bound_SE > 0]).max()
    assert 0.4 < used <= 1.0


@pytest.mark.parametrize("adversary", ["punish_the_favourite", "random_losses"])
def test_frozen_blocks_keep_the_bound(play: Callable[..., Any], adversary: str) -> None:
    """Sums over blocks of B rounds with the range M B: R <= sqrt(3 B C' (ln 1/q + ln B_const)), C' = sum |block sum|."""
    block, M = 16, 2.5
    mixer = AdaNormalHedge(loss_range=M * block)
    game = play(mixer, adversary, prior_E=SKEWED, runs=500, rounds=960, seed=5, block=block, scale=M)
    bound_SE = mixer.bound(game.state)
    assert (game.regret_SE <= bound_SE + 1e-9).all()
    assert game.worst <= 1e-12
    C = game.absolute_SE / (M * block)
    budget_S1 = 1 + 1.5 * (SKEWED * (1 + np.log1p(C))).sum(axis=1, keepdims=True)
    assert np.allclose(bound_SE, np.sqrt(3 * block * M * game.absolute_SE * (-np.log(SKEWED) + np.log(budget_S1))))


def test_unnormalised_prior_and_growth() -> None:
    """Experts added at run time with mass of their own; the leading 1 of B is the total mass."""
    mixer = AdaNormalHedge()
    state = mixer.grow(mixer.init(np.array([0.5, 0.5])), np.array([0.25]))
    assert state.prior_E.tolist() == [0.5, 0.5, 0.25]
    state = mixer.absorb(state, np.array([0.5, -0.5, 0.25]))
    budget = 1.25 + 1.5 * sum(q * (1 + math.log(1 + c)) for q, c in zip([0.5, 0.5, 0.25], [0.5, 0.5, 0.25], strict=True))
    assert mixer.bound(state)[2] == pytest.approx(math.sqrt(3 * 0.25 * (math.log(4) + math.log(budget))))


def test_losses_out_of_range_break_the_invariant(play: Callable[..., Any]) -> None:
    """With losses a hundred times their declared range the slack turns positive: nothing else could tell."""
    game = play(AdaNormalHedge(), "spare_one", prior_E=np.full(4, 0.25), runs=20, rounds=400, seed=2, scale=100.0)
    assert game.worst > 10.0


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_range_is_checked(value: float) -> None:
    with pytest.raises(ConfigError, match="loss_range must be a positive number"):
        AdaNormalHedge(loss_range=value)


@pytest.mark.parametrize("prior", [[], [0.5, 0.0], [1.0, math.nan]])
def test_prior_is_checked(prior: list[float]) -> None:
    with pytest.raises(ConfigError, match="a prior holds positive numbers"):
        AdaNormalHedge().init(np.array(prior))
