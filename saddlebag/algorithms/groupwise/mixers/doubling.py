"""AdaNormalHedge when nobody can declare the range of the losses: it is learned by doubling.

The rule runs at the range 2 s for a scale s. A round with some |r| > 2 s is kept from the rule, which starts afresh with the
largest |r| of that round as s. Each epoch keeps its proven bound, so these add up; the rounds kept back count in full, and
as scales at least double they sum to at most 2 max |r| for each expert:

    R_e <= sum over epochs of 2 s sqrt(3 C_e (ln(1/q_e) + ln B)) + sum of [r_e]_+ over the rounds kept back.

(Cesa-Bianchi, Mansour, Stoltz 2007 use the same device for weighted averages.)
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.groupwise.base import MixerDefaults
from saddlebag.algorithms.groupwise.mixers.ada_normal_hedge import AdaNormalHedge, HedgeState
from saddlebag.algorithms.groupwise.mixers.mixing import checked_prior

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["Doubling"]

_RULE = AdaNormalHedge()


@dataclasses.dataclass(frozen=True, eq=False)
class DoublingState:
    """Shape (..., E).

    Attributes:
        regret_E, absolute_E: of the present epoch, in units of 2 s.
        scale_E: s, the same for all experts of a run; 0 before the first loss.
        past_regret_E, past_bound_E: of former epochs and of the rounds kept back, in units of the loss.
        prior_E: q.
    """

    regret_E: Array
    absolute_E: Array
    scale_E: Array
    past_regret_E: Array
    past_bound_E: Array
    prior_E: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Doubling(MixerDefaults):
    """The rule; it has no parameters.

    Example:
        >>> import numpy as np
        >>> import saddlebag as sb
        >>> mixer = sb.make_mixer("doubling")
        >>> state = mixer.init(np.ones(3))
        >>> mixer.regret(state).tolist()
        [0.0, 0.0, 0.0]
    """

    def init(self, prior_E: Array) -> DoublingState:
        prior_E = checked_prior(prior_E)
        zero_E = np.zeros(prior_E.shape)
        return DoublingState(zero_E, zero_E, zero_E, zero_E, zero_E, prior_E)

    def log_weights(self, state: DoublingState) -> Array:
        return _RULE.log_weights(_epoch(state))

    def absorb(self, state: DoublingState, regret_E: Array) -> DoublingState:
        largest = np.abs(regret_E).max(axis=-1, keepdims=True)
        afresh = largest > 2.0 * state.scale_E[..., :1]
        r_E = np.where(afresh, 0.0, regret_E / np.where(state.scale_E > 0, 2.0 * state.scale_E, 1.0))
        ended_E = np.where(afresh, 2.0 * state.scale_E * _RULE.bound(_epoch(state)) + np.maximum(regret_E, 0.0), 0.0)
        past_E = np.where(afresh, 2.0 * state.scale_E * state.regret_E + regret_E, 0.0)
        return DoublingState(
            regret_E=np.where(afresh, 0.0, state.regret_E + r_E),
            absolute_E=np.where(afresh, 0.0, state.absolute_E + np.abs(r_E)),
            scale_E=np.where(afresh, largest, state.scale_E),
            past_regret_E=state.past_regret_E + past_E,
            past_bound_E=state.past_bound_E + ended_E,
            prior_E=state.prior_E,
        )

    def grow(self, state: DoublingState, prior_E: Array) -> DoublingState:
        new = self.init(prior_E)
        new = dataclasses.replace(new, scale_E=np.broadcast_to(state.scale_E[..., :1], new.prior_E.shape))
        names = [field.name for field in dataclasses.fields(state)]
        return DoublingState(*(np.concatenate((getattr(state, n), getattr(new, n)), axis=-1) for n in names))

    def regret(self, state: DoublingState) -> Array:
        return state.past_regret_E + 2.0 * state.scale_E * state.regret_E

    def bound(self, state: DoublingState) -> Array:
        return state.past_bound_E + 2.0 * state.scale_E * _RULE.bound(_epoch(state))

    def slack(self, state: DoublingState) -> Array:
        return _RULE.slack(_epoch(state))


def _epoch(state: DoublingState) -> HedgeState:
    return HedgeState(state.regret_E, state.absolute_E, state.prior_E)
