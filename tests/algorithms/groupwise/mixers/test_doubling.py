from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import AdaNormalHedge, Doubling

if TYPE_CHECKING:
    from collections.abc import Callable

SKEWED = np.array([0.5, 0.3, 0.1, 0.05, 0.04, 0.01])


@pytest.mark.parametrize("adversary", ["random_losses", "punish_the_favourite", "punish_weight", "spare_one"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_regret_stays_in_its_bound_at_any_scale(play: Callable[..., Any], adversary: str, scale: float) -> None:
    game = play(Doubling(), adversary, prior_E=SKEWED, runs=200, rounds=300, seed=1, soft=True, scale=scale)
    assert (game.regret_SE <= Doubling().bound(game.state) * (1 + 1e-9)).all()
    assert game.worst <= 1e-12
    assert np.allclose(Doubling().regret(game.state), game.regret_SE, rtol=1e-9, atol=1e-9 * scale)


def test_losses_that_grow() -> None:
    """A range that doubles again and again: the bound is that of the epochs plus at most 2 max |r| kept back."""
    rng, mixer = np.random.default_rng(0), Doubling()
    state, kept = mixer.init(SKEWED), 0.0
    for t in range(600):
        r_E = rng.uniform(-1, 1, 6) * 1.02**t
        r_E -= np.average(r_E, weights=np.exp(mixer.log_weights(state) - mixer.log_weights(state).max()) + 1e-300)
        before = state.scale_E[0]
        state = mixer.absorb(state, r_E)
        kept += np.abs(r_E).max() if state.scale_E[0] != before else 0.0
    assert kept <= 2 * state.scale_E[0]
    assert (mixer.regret(state) <= mixer.bound(state)).all()


def test_a_known_range_needs_no_restart() -> None:
    """After the first round it is AdaNormalHedge at the range 2 s."""
    mixer, plain = Doubling(), AdaNormalHedge(loss_range=1.0)
    state, other = mixer.absorb(mixer.init(SKEWED), np.full(6, 0.5)), plain.init(SKEWED)
    rng = np.random.default_rng(3)
    for _ in range(50):
        r_E = rng.uniform(-0.9, 0.9, 6)
        state, other = mixer.absorb(state, r_E), plain.absorb(other, r_E)
    assert np.allclose(mixer.log_weights(state), plain.log_weights(other))


def test_new_experts_share_the_scale() -> None:
    mixer = Doubling()
    state = mixer.grow(mixer.absorb(mixer.init(SKEWED), np.full(6, 0.5)), np.array([0.1]))
    assert (state.scale_E == 0.5).all()
    state = mixer.absorb(state, np.full(7, 0.25))
    assert (state.scale_E == 0.5).all()
    assert mixer.regret(state).tolist() == [0.75] * 6 + [0.25]
