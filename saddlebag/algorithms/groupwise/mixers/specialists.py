"""Exponential weights for specialists: no square root of time, when the loss is exp-concave.

Freund, Schapire, Singer, Warmuth 1997, "Using and combining predictors that specialize". With p ~ I w over the awake and
the mix loss c = -(1/eta) ln sum p e^(-eta l),

    w_e <- w_e e^(eta I_e (c - l_e)).

The mass of the awake is kept, so w_e <= Q = sum of the prior for ever, and the sum of I_e (c - l_e) is at most
ln(Q/q_e) / eta. If l(., y) is eta-exp-concave, the loss of the mixture is at most c, so this bounds the regret:
squared loss on an interval of width v has eta = 1 / (2 v^2), log loss has eta = 1.

Blocks: with the sums over a block of B rounds, divided by B, the same holds by convexity: at most B ln(Q/q_e) / eta.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise.base import check_positive, joined
from saddlebag.algorithms.groupwise.growth import Separate
from saddlebag.algorithms.groupwise.mixers.mixing import checked_prior

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["Specialists"]


@dataclasses.dataclass(frozen=True, eq=False)
class SpecialistsState:
    """ln w and the prior; shape (..., E)."""

    log_weight_E: Array
    prior_E: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Specialists(Separate):
    """The rule.

    Attributes:
        rate: eta > 0, at most the exp-concavity of the loss.
        block: rounds in a frozen block; regrets come as block sums divided by it.

    Example:
        >>> import numpy as np
        >>> import saddlebag as sb
        >>> mixer = sb.make_mixer("specialists", rate=0.5)
        >>> state = mixer.init(np.ones(3))
        >>> mixer.regret(state).tolist()
        [0.0, 0.0, 0.0]
    """

    rate: float
    block: int = 1

    def __post_init__(self) -> None:
        check_positive("rate", self.rate)
        check_positive("block", self.block)

    def init(self, prior_E: Array) -> SpecialistsState:
        prior_E = checked_prior(prior_E)
        return SpecialistsState(np.log(prior_E), prior_E)

    def log_weights(self, state: SpecialistsState) -> Array:
        return state.log_weight_E

    def reference(self, weight_E: Array, loss_E: Array, played: Any) -> Any:
        """The mix loss; `played` where nobody is awake."""
        weighed = weight_E > 0
        least = np.where(weighed, loss_E, np.inf).min(axis=-1, keepdims=True)
        least = np.where(np.isinf(least), 0.0, least)
        mean = (weight_E * np.exp(-self.rate * np.where(weighed, loss_E - least, 0.0))).sum(axis=-1)
        awake = weighed.any(axis=-1)
        return np.where(awake, least[..., 0] - np.log(np.where(awake, mean, 1.0)) / self.rate, played)

    def absorb(self, state: SpecialistsState, regret_E: Array) -> SpecialistsState:
        return SpecialistsState(state.log_weight_E + self.rate / self.block * regret_E, state.prior_E)

    def grow(self, state: SpecialistsState, prior_E: Array) -> SpecialistsState:
        return joined(state, self.init(prior_E), axis=-1)

    def regret(self, state: SpecialistsState) -> Array:
        return (state.log_weight_E - np.log(state.prior_E)) * (self.block / self.rate)

    def bound(self, state: SpecialistsState) -> Array:
        bound_E: Array = (_log_mass(state) - np.log(state.prior_E)) * (self.block / self.rate)
        return bound_E

    def slack(self, state: SpecialistsState) -> Array:
        """The logarithm of w / Q."""
        slack_E: Array = state.log_weight_E - _log_mass(state)
        return slack_E


def _log_mass(state: SpecialistsState) -> Array:
    mass: Array = np.log(state.prior_E.sum(axis=-1, keepdims=True))
    return mass
