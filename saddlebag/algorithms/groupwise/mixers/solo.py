"""SOLO for sleeping experts: weights proportional to positive regret, whatever the range of the losses.

Noarov, Fogliato, Bertran, Roth 2025 (weights max(0, -L_e), L_e += I_e (l_e - lhat)); the rule for experts that never
sleep is regret matching (Hart, Mas-Colell 2000). With w = q [R]_+ and sum_e w_e r_e <= 0,

    sum q [R]_+^2  grows by at most  sum q r^2  in each round, so      R_e <= sqrt(V / q_e),      V = sum_t sum_j q_j r_j^2,

which is at most M sqrt(N T) for N experts with a uniform prior and losses in a range M nobody needs to know. Scaling all
losses changes no weight. Fed with block sums it stays as it is, with V of the sums.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.groupwise.base import MixerDefaults, joined
from saddlebag.algorithms.groupwise.growth import Separate
from saddlebag.algorithms.groupwise.mixers.mixing import checked_prior, safe_log

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["Solo"]


@dataclasses.dataclass(frozen=True, eq=False)
class SoloState:
    """R, and sum of r^2, for each expert, and the prior; shape (..., E)."""

    regret_E: Array
    square_E: Array
    prior_E: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solo(MixerDefaults, Separate):
    """The rule; it has no parameters.

    Example:
        >>> import numpy as np
        >>> import saddlebag as sb
        >>> mixer = sb.make_mixer("solo")
        >>> state = mixer.init(np.ones(3))
        >>> mixer.regret(state).tolist()
        [0.0, 0.0, 0.0]
    """

    def init(self, prior_E: Array) -> SoloState:
        prior_E = checked_prior(prior_E)
        return SoloState(np.zeros(prior_E.shape), np.zeros(prior_E.shape), prior_E)

    def log_weights(self, state: SoloState) -> Array:
        return safe_log(state.prior_E * np.maximum(state.regret_E, 0.0))

    def absorb(self, state: SoloState, regret_E: Array) -> SoloState:
        return SoloState(state.regret_E + regret_E, state.square_E + regret_E * regret_E, state.prior_E)

    def grow(self, state: SoloState, prior_E: Array) -> SoloState:
        return joined(state, self.init(prior_E), axis=-1)

    def regret(self, state: SoloState) -> Array:
        return state.regret_E

    def bound(self, state: SoloState) -> Array:
        return np.sqrt(_budget(state) / state.prior_E)

    def slack(self, state: SoloState) -> Array:
        """The logarithm of sum q [R]_+^2 / V, the same for all experts; -inf before the first regret."""
        positive_E = np.maximum(state.regret_E, 0.0)
        used = (state.prior_E * positive_E * positive_E).sum(axis=-1, keepdims=True)
        budget = _budget(state)
        ratio = np.where(budget > 0, used / np.where(budget > 0, budget, 1.0), 0.0)
        return np.broadcast_to(safe_log(ratio), state.regret_E.shape)


def _budget(state: SoloState) -> Array:
    """V, shape (..., 1)."""
    budget: Array = (state.prior_E * state.square_E).sum(axis=-1, keepdims=True)
    return budget
