"""Adapt-ML-Prod for sleeping experts: a second-order rule, with a rate for each expert.

Gaillard, Stoltz, van Erven 2014, "A second-order bound with excess losses", Algorithm 3, made to sleep by r_e = 0
(their Section 5). With V_e = sum of r_e^2 so far, K experts and r in [-1, 1] after division by the loss range,

    eta_e = min(1/2, sqrt(ln K / (1 + V_e))),    p ~ I eta w,    w_e <- (w_e (1 + eta_e r_e))^(eta_e' / eta_e).

Theorem 3 there, for any prior of mass Q (x <= x^a + (a - 1)/e for a >= 1, and ln(1 + x) >= x - x^2 for x >= -1/2):

    sum r <= ln(1/q) / eta_0 + sum_t eta r^2 + ln(Q + growth / e) / eta_T,    growth = sum_t sum_j (eta_j / eta_j' - 1).
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.groupwise.base import MixerDefaults, check_positive, joined
from saddlebag.algorithms.groupwise.mixers.mixing import checked_prior

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["AdaptMlProd"]


@dataclasses.dataclass(frozen=True, eq=False)
class ProdState:
    """Shape (..., E), in units of the loss range.

    Attributes:
        log_weight_E: ln w.
        rate_E: eta.
        regret_E: sum of r.
        square_E: sum of r^2.
        spent_E: sum of eta r^2.
        growth_E: each expert's part of growth.
        start_E: ln(1/q) / eta_0.
        prior_E: q.
    """

    log_weight_E: Array
    rate_E: Array
    regret_E: Array
    square_E: Array
    spent_E: Array
    growth_E: Array
    start_E: Array
    prior_E: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptMlProd(MixerDefaults):
    """The rule.

    Attributes:
        loss_range: the largest possible |lhat - l|; times the longest block where state is frozen for blocks.

    Example:
        >>> import numpy as np
        >>> import saddlebag as sb
        >>> mixer = sb.make_mixer("adapt_ml_prod")
        >>> state = mixer.init(np.ones(3))
        >>> mixer.regret(state).tolist()
        [0.0, 0.0, 0.0]
    """

    loss_range: float = 1.0

    def __post_init__(self) -> None:
        check_positive("loss_range", self.loss_range)

    def init(self, prior_E: Array) -> ProdState:
        prior_E = checked_prior(prior_E)
        rate_E = np.full(prior_E.shape, _rate(np.zeros(1), prior_E.shape[-1])[0])
        zero_E = np.zeros(prior_E.shape)
        log_E = np.log(prior_E)
        return ProdState(log_E, rate_E, zero_E, zero_E, zero_E, zero_E, -log_E / rate_E, prior_E)

    def log_weights(self, state: ProdState) -> Array:
        return state.log_weight_E + np.log(state.rate_E)

    def absorb(self, state: ProdState, regret_E: Array) -> ProdState:
        r_E = regret_E / self.loss_range
        square_E = state.square_E + r_E * r_E
        rate_E = np.minimum(state.rate_E, _rate(square_E, state.prior_E.shape[-1]))
        ratio_E = rate_E / state.rate_E
        step_E = np.log1p(np.maximum(state.rate_E * r_E, -0.5))  # below -1/2 only when losses leave their range
        return ProdState(
            log_weight_E=ratio_E * (state.log_weight_E + step_E),
            rate_E=rate_E,
            regret_E=state.regret_E + r_E,
            square_E=square_E,
            spent_E=state.spent_E + state.rate_E * r_E * r_E,
            growth_E=state.growth_E + (1.0 / ratio_E - 1.0),
            start_E=state.start_E,
            prior_E=state.prior_E,
        )

    def grow(self, state: ProdState, prior_E: Array) -> ProdState:
        return joined(state, self.init(prior_E), axis=-1)

    def regret(self, state: ProdState) -> Array:
        return self.loss_range * state.regret_E

    def bound(self, state: ProdState) -> Array:
        bound_E: Array = self.loss_range * (state.start_E + state.spent_E + _log_budget(state) / state.rate_E)
        return bound_E

    def slack(self, state: ProdState) -> Array:
        """The logarithm of w / (Q + growth / e)."""
        slack_E: Array = state.log_weight_E - _log_budget(state)
        return slack_E


def _rate(square_E: Array, num_experts: int) -> Array:
    return np.minimum(0.5, np.sqrt(math.log(max(num_experts, 2)) / (1.0 + square_E)))


def _log_budget(state: ProdState) -> Array:
    growth = state.growth_E.sum(axis=-1, keepdims=True)
    budget: Array = np.log(state.prior_E.sum(axis=-1, keepdims=True) + growth / math.e)
    return budget
