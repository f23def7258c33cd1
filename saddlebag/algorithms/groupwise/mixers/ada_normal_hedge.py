"""AdaNormalHedge for sleeping experts: no rate to tune, and a bound in each expert's own awake time.

Luo, Schapire 2015, "Achieving all with no parameters: AdaNormalHedge" (COLT). With r = I (lhat - l) / M in [-1, 1],
R = sum r and C = sum |r|,

    Phi(R, C) = exp([R]_+^2 / (3 C)),      w(R, C) = (Phi(R + 1, C + 1) - Phi(R - 1, C + 1)) / 2,      p ~ q I w.

Theorem (same source, the form for any prior): for every expert, at any time,

    sum r <= sqrt(3 C (ln(1/q) + ln B)),       B = Q + (3/2) sum_j q_j (1 + ln(1 + C_j)),     Q = sum_j q_j,

because sum_j q_j Phi(R_j, C_j) <= B is an invariant as long as every |r| <= 1. For a frozen block, M is the range of the
loss times the longest block.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.groupwise.base import MixerDefaults, check_positive, joined
from saddlebag.algorithms.groupwise.growth import Separate
from saddlebag.algorithms.groupwise.mixers.mixing import checked_prior, safe_log

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["AdaNormalHedge"]


@dataclasses.dataclass(frozen=True, eq=False)
class HedgeState:
    """R and C in units of the loss range, and the prior; shape (..., E)."""

    regret_E: Array
    absolute_E: Array
    prior_E: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaNormalHedge(MixerDefaults, Separate):
    """The rule.

    Attributes:
        loss_range: M > 0: the largest possible |lhat - l|; times the longest block where state is frozen for blocks.

    Example:
        >>> import numpy as np
        >>> import saddlebag as sb
        >>> mixer = sb.make_mixer("ada_normal_hedge")
        >>> state = mixer.init(np.ones(3))
        >>> mixer.regret(state).tolist()
        [0.0, 0.0, 0.0]
    """

    loss_range: float = 1.0

    def __post_init__(self) -> None:
        check_positive("loss_range", self.loss_range)

    def init(self, prior_E: Array) -> HedgeState:
        prior_E = checked_prior(prior_E)
        return HedgeState(np.zeros(prior_E.shape), np.zeros(prior_E.shape), prior_E)

    def log_weights(self, state: HedgeState) -> Array:
        return log_weight(state.regret_E, state.absolute_E) + np.log(state.prior_E)

    def absorb(self, state: HedgeState, regret_E: Array) -> HedgeState:
        r_E = regret_E / self.loss_range
        return HedgeState(state.regret_E + r_E, state.absolute_E + np.abs(r_E), state.prior_E)

    def grow(self, state: HedgeState, prior_E: Array) -> HedgeState:
        return joined(state, self.init(prior_E), axis=-1)

    def regret(self, state: HedgeState) -> Array:
        return self.loss_range * state.regret_E

    def bound(self, state: HedgeState) -> Array:
        mass_E = self._log_budget(state) - np.log(state.prior_E)
        return self.loss_range * np.sqrt(3.0 * state.absolute_E * mass_E)

    def slack(self, state: HedgeState) -> Array:
        """The logarithm of q Phi / B."""
        return log_potential(state.regret_E, state.absolute_E) + np.log(state.prior_E) - self._log_budget(state)

    def _log_budget(self, state: HedgeState) -> Array:
        """The logarithm of B, shape (..., 1)."""
        q_E = state.prior_E
        spent = (q_E * (1.0 + np.log1p(state.absolute_E))).sum(axis=-1, keepdims=True)
        budget: Array = np.log(q_E.sum(axis=-1, keepdims=True) + 1.5 * spent)
        return budget


def log_potential(regret_E: Array, absolute_E: Array) -> Array:
    """The logarithm of Phi: [R]_+^2 / (3 C), and 0 at C = 0, where there has been no regret."""
    positive_E = np.maximum(regret_E, 0.0)
    return positive_E * positive_E / (3.0 * np.where(absolute_E > 0, absolute_E, 1.0))


def log_weight(regret_E: Array, absolute_E: Array) -> Array:
    """The logarithm of w, -inf exactly when R <= -1, without overflow or cancellation: a + ln(1 - e^(b-a)) - ln 2."""
    scale_E = 3.0 * (absolute_E + 1.0)
    up_E = np.maximum(regret_E + 1.0, 0.0)
    down_E = np.maximum(regret_E - 1.0, 0.0)
    a_E = up_E * up_E / scale_E
    rise_E = -np.expm1(down_E * down_E / scale_E - a_E)
    return a_E + safe_log(rise_E) - math.log(2.0)
