"""What all mixers promise, and what each of the others promises beside AdaNormalHedge."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import AdaNormalHedge, AdaptMlProd, AnyMixer, Solo, Specialists, SquaredLoss, distribution
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

ADVERSARIES = ("random_losses", "punish_the_favourite", "punish_weight", "spare_one")
SKEWED = np.array([0.5, 0.3, 0.1, 0.05, 0.04, 0.01])
ALL = [AdaNormalHedge(), AdaptMlProd(), Solo(), Specialists(rate=0.5)]  # `doubling` has a file of its own
LINEAR = [AdaptMlProd(), Solo()]  # AdaNormalHedge has a file of its own; specialists need an exp-concave loss


@pytest.mark.parametrize("mixer", LINEAR, ids=str)
@pytest.mark.parametrize("adversary", ADVERSARIES)
@pytest.mark.parametrize("soft", [False, True], ids=["binary", "confidence"])
def test_regret_and_invariant_stay_in_bounds(play: Callable[..., Any], mixer: AnyMixer, adversary: str, soft: bool) -> None:
    game = play(mixer, adversary, prior_E=SKEWED, runs=500, rounds=300, seed=1, soft=soft)
    assert (game.regret_SE <= mixer.bound(game.state) + 1e-9).all()
    assert game.worst <= 1e-12
    assert np.allclose(mixer.regret(game.state), game.regret_SE)


@pytest.mark.parametrize("adversary", ["punish_the_favourite", "random_losses"])
def test_adapt_ml_prod_in_blocks_of_a_wider_range(play: Callable[..., Any], adversary: str) -> None:
    mixer = AdaptMlProd(loss_range=3.0 * 8)
    game = play(mixer, adversary, prior_E=SKEWED, runs=200, rounds=480, seed=4, block=8, scale=3.0)
    assert (game.regret_SE <= mixer.bound(game.state) + 1e-9).all()
    assert game.worst <= 1e-12


@pytest.mark.parametrize("block", [1, 8])
def test_solo_is_within_its_theorem_and_blind_to_scale(play: Callable[..., Any], block: int) -> None:
    """15 M sqrt(B N T) (Noarov et al. 2025) is far above sqrt(V / q); scaling changes weights by rounding only."""
    uniform = np.full(6, 1 / 6)
    plain, scaled = (
        play(Solo(), "random_losses", prior_E=uniform, runs=100, rounds=400, seed=2, block=block, scale=scale)
        for scale in (1.0, 2.0**20)
    )
    bound_SE = Solo().bound(plain.state)
    assert (plain.regret_SE <= bound_SE).all()
    assert bound_SE.max() <= 15 * math.sqrt(block * 6 * 400)
    assert np.allclose(scaled.regret_SE, 2.0**20 * plain.regret_SE, rtol=1e-9)
    for s in range(100):
        assert np.allclose(_p(Solo(), plain.state, s), _p(Solo(), scaled.state, s), rtol=1e-9)


def _p(mixer: AnyMixer, state: Any, s: int) -> np.ndarray:
    return distribution(mixer.log_weights(state)[s], state.prior_E[s], np.ones(6)).p_E


@pytest.mark.parametrize("block", [1, 8])
@pytest.mark.parametrize("soft", [False, True], ids=["binary", "confidence"])
def test_specialists_have_constant_regret_on_squared_loss(block: int, soft: bool) -> None:
    """Squared loss on [0, 1] is 1/2-exp-concave: the mixture's regret is at most 2 ln(1/q), in blocks B times that."""
    rng, S = np.random.default_rng(7), 300
    mixer = Specialists(rate=SquaredLoss().exp_concavity((0.0, 1.0)), block=block)
    prior_SE = np.broadcast_to(SKEWED, (S, 6))
    state, regret_SE, worst = mixer.init(prior_SE), np.zeros((S, 6)), -np.inf
    for _ in range(400 // block):
        pending_SE = np.zeros((S, 6))
        for _ in range(block):
            awake_SE = (rng.random((S, 6)) < 0.7) * (rng.random((S, 6)) if soft else 1.0)
            p_SE = distribution(mixer.log_weights(state), prior_SE, awake_SE).p_E
            z_SE = np.clip(np.linspace(0.0, 0.6, 6) + 0.2 * rng.standard_normal((S, 6)), 0, 1)
            mixture_S = (p_SE * z_SE).sum(axis=1)
            y_S = (mixture_S < 0.5).astype(float)  # the label that hurts most
            loss_SE = (z_SE - y_S[:, None]) ** 2
            reference_S = mixer.reference(p_SE, loss_SE, np.zeros(S))
            somebody_S = awake_SE.any(axis=1)
            played_S = (mixture_S - y_S) ** 2
            assert (played_S <= reference_S + 1e-12)[somebody_S].all()
            pending_SE += awake_SE * (reference_S[:, None] - loss_SE)
            regret_SE += awake_SE * (played_S[:, None] - loss_SE)
        state = mixer.absorb(state, pending_SE)
        worst = max(worst, float(mixer.slack(state).max()))
    assert np.allclose(mixer.bound(state), 2 * block * np.log(1 / SKEWED), atol=1e-12)
    assert (regret_SE <= mixer.bound(state) + 1e-9).all()
    assert worst <= 1e-12


@pytest.mark.parametrize("mixer", ALL, ids=str)
def test_sleepers_keep_every_bit_and_batches_do_not_meet(mixer: AnyMixer) -> None:
    prior_SE = np.broadcast_to(SKEWED, (2, 6))
    state = mixer.absorb(mixer.init(prior_SE), np.array([[0.3, -0.2, 0.1, 0, 0.4, -0.1]] * 2))
    after = mixer.absorb(state, np.array([[0, 0, 0, 0, 0, 0], [0.2, 0, 0, -0.3, 0, 0]]))
    log_SE = mixer.log_weights(after)
    sleeping = np.array([[True] * 6, [False, True, True, False, True, True]])
    assert np.array_equal(log_SE[sleeping], mixer.log_weights(state)[sleeping])
    assert np.array_equal(mixer.regret(after)[sleeping], mixer.regret(state)[sleeping])
    alone = mixer.absorb(mixer.absorb(mixer.init(SKEWED), np.array([0.3, -0.2, 0.1, 0, 0.4, -0.1])), np.zeros(6))
    assert np.array_equal(mixer.log_weights(alone), log_SE[0])


@pytest.mark.parametrize("mixer", ALL, ids=str)
def test_starts_at_the_prior_and_grows(mixer: AnyMixer) -> None:
    state = mixer.init(SKEWED)
    p_E = distribution(mixer.log_weights(state), state.prior_E, np.array([1.0, 0, 1, 0, 0, 1])).p_E
    assert np.allclose(p_E, np.array([0.5, 0, 0.1, 0, 0, 0.01]) / 0.61, atol=1e-12)
    wide = mixer.grow(mixer.absorb(state, np.array([0.1, 0.1, -0.2, 0, 0, 0])), np.array([0.2, 0.1]))
    assert mixer.log_weights(wide).shape == (8,)
    assert mixer.regret(wide)[6:].tolist() == [0, 0]


@pytest.mark.parametrize("factory", [lambda v: AdaptMlProd(loss_range=v), lambda v: Specialists(rate=v)])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_parameters_are_checked(factory: Callable[[float], AnyMixer], value: float) -> None:
    with pytest.raises(ConfigError, match="must be a positive number"):
        factory(value)
