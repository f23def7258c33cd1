"""Sequences of sleeping losses, many independent runs at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import AnyMixer, distribution
from saddlebag.algorithms.groupwise.base import Array

Adversary = Callable[[np.random.Generator, Array, Array], Array]
"""(rng, weights p_SE, confidences) -> losses in [0, 1], seen by the adversary after the weights."""


def random_losses(rng: np.random.Generator, p_SE: Array, awake_SE: Array) -> Array:
    """Noise around a level of each expert's own, so that somebody is best."""
    level_E = np.linspace(0.3, 0.6, p_SE.shape[1])
    return np.clip(level_E + 0.4 * rng.standard_normal(p_SE.shape), 0.0, 1.0)


def punish_the_favourite(rng: np.random.Generator, p_SE: Array, awake_SE: Array) -> Array:
    """The expert with the largest weight loses 1, everybody else nothing."""
    key_SE = np.where(awake_SE > 0, p_SE + 1e-12 * rng.random(p_SE.shape), -1.0)  # one of them, where weights tie
    return np.where(key_SE == key_SE.max(axis=1, keepdims=True), 1.0, 0.0)


def punish_weight(rng: np.random.Generator, p_SE: Array, awake_SE: Array) -> Array:
    """Whoever has more than an equal share loses 1, and a little noise breaks ties."""
    share_S1 = 1.0 / np.maximum((awake_SE > 0).sum(axis=1, keepdims=True), 1)
    return np.where(p_SE + 1e-3 * rng.standard_normal(p_SE.shape) > share_S1, 1.0, 0.0)


def spare_one(rng: np.random.Generator, p_SE: Array, awake_SE: Array) -> Array:
    """Expert 0 is good, but only a little, while the others take turns in being perfect."""
    loss_SE = (rng.random(p_SE.shape) < 0.5).astype(float)
    loss_SE[:, 0] = rng.random(len(p_SE)) < 0.45
    return loss_SE


@dataclasses.dataclass(frozen=True)
class Game:
    """What came of it: the mixer's final state and independent accounts. `worst` is the largest slack of any round."""

    state: object
    regret_SE: Array
    absolute_SE: Array
    awake_SE: Array
    worst: float


ADVERSARIES = {each.__name__: each for each in (random_losses, punish_the_favourite, punish_weight, spare_one)}


@pytest.fixture
def play() -> Callable[..., Game]:
    return _play


def _play(
    mixer: AnyMixer,
    name: str,
    *,
    prior_E: Array,
    runs: int,
    rounds: int,
    seed: int,
    soft: bool = False,
    block: int = 1,
    scale: float = 1.0,
) -> Game:
    """Play many runs of a game against the mixer, with expected loss; state is frozen for `block` rounds."""
    adversary, rng, E = ADVERSARIES[name], np.random.default_rng(seed), len(prior_E)
    prior_SE = np.broadcast_to(prior_E, (runs, E))
    state = mixer.init(prior_SE)
    regret_SE, absolute_SE, count_SE, worst = np.zeros((runs, E)), np.zeros((runs, E)), np.zeros((runs, E)), -np.inf
    chance_E = rng.uniform(0.1, 1.0, E)
    for _ in range(rounds // block):
        pending_SE = np.zeros((runs, E))
        log_SE = mixer.log_weights(state)
        for _ in range(block):
            awake_SE = (rng.random((runs, E)) < chance_E).astype(float)
            if soft:
                awake_SE *= rng.random((runs, E))
            p_SE = distribution(log_SE, prior_SE, awake_SE).p_E
            loss_SE = scale * adversary(rng, p_SE, awake_SE)
            r_SE = awake_SE * ((p_SE * loss_SE).sum(axis=1, keepdims=True) - loss_SE)
            pending_SE += r_SE
            regret_SE += r_SE
            count_SE += awake_SE
        absolute_SE += np.abs(pending_SE)
        state = mixer.absorb(state, pending_SE)
        worst = max(worst, float(mixer.slack(state).max()))
    return Game(state, regret_SE, absolute_SE, count_SE, worst)
