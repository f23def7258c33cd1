"""Bets against a bounded mean, whose wealth says at any time how little a hypothesis is to be believed.

The hypothesis: whatever came before, the next increment x in [low, high] has a mean of at most 0 (of 0, if `two_sided`). A bet
lambda, chosen before x, multiplies the wealth by 1 + lambda x > 0. Under the hypothesis wealth is a supermartingale that starts
at 1, so by Ville's inequality it reaches 1 / rate **at any time at all** with probability at most `rate`. The means that no bet
has refuted are a confidence sequence (Waudby-Smith, Ramdas 2024, "Estimating means of bounded random variables by betting").

The bet is a mixture over a grid of lambdas, each weighed by what it has won, with a share that is spread anew each round:
"fixed share" (Herbster, Warmuth 1998), with the rate 1 / (n + 1) in its n-th round. A mixture of bets is a bet, so nothing is
lost of the proof; the spread lets it follow a mean that changes late, and lambda = 0, which is in the grid, keeps what was won.

Shapes: G = groups, J = bets of a group, L = grid; K = awake groups.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array, Index

_FRACTIONS = np.array([0.0, 1 / 128, 1 / 32, 1 / 8, 1 / 3, 1.0])
_MOST = 0.9  # of the largest lambda that leaves any wealth: one increment never costs more than nine tenths


@dataclasses.dataclass(frozen=True, eq=False)
class BetState:
    """Bets under way.

    Attributes:
        log_wealth_GJ: natural logarithms.
        share_GJL: of the grid's lambdas; sums to 1.
        count_GJ: rounds.
    """

    log_wealth_GJ: Array
    share_GJL: Array
    count_GJ: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bets:
    """Bets on increments in [low, high], low < 0 < high.

    Attributes:
        low, high: of the increments.
        two_sided: the mean is to be 0, and not only at most 0.

    Example:
        >>> bets = Bets(low=-0.5, high=0.5)
        >>> state = bets.init(1, 1)
        >>> for _ in range(200):
        ...     bets.advance(state, np.array([0]), np.array([[0.2]]))
        >>> bool(bets.evidence(state)[0] > np.log(1000))
        True
    """

    low: float
    high: float
    two_sided: bool = False

    def __post_init__(self) -> None:
        if not self.low < 0.0 < self.high:
            raise ConfigError(f"increments need low < 0 < high, got {self.low:g} and {self.high:g}")

    @functools.cached_property
    def lambda_L(self) -> Array:
        """The grid."""
        up_L = _FRACTIONS * _MOST / -self.low
        return np.concatenate((up_L, -_FRACTIONS[1:] * _MOST / self.high)) if self.two_sided else up_L

    def init(self, num_groups: int, num_bets: int) -> BetState:
        L = len(self.lambda_L)
        shape = (num_groups, num_bets)
        return BetState(np.zeros(shape), np.full((*shape, L), 1.0 / L), np.zeros(shape))

    def advance(self, state: BetState, group_K: Index, x_KJ: Array, place: slice | Index = slice(None)) -> None:
        """Settle a round of some groups, in the memory of `state`.

        Args:
            state: whose other groups are left alone.
            group_K: the groups that are awake.
            x_KJ: their increments.
            place: which of a group's bets the increments belong to; all by default.
        """
        at = np.ix_(group_K, np.arange(state.count_GJ.shape[1])[place])
        share_KJL = state.share_GJL[at]
        won_KJL = share_KJL * (1.0 + x_KJ[..., None] * self.lambda_L)
        gain_KJ = won_KJL.sum(axis=-1)
        count_KJ = state.count_GJ[at] + 1.0
        spread_KJ1 = (1.0 / (count_KJ + 1.0))[..., None]
        state.log_wealth_GJ[at] += np.log(gain_KJ)
        state.share_GJL[at] = (1.0 - spread_KJ1) * won_KJL / gain_KJ[..., None] + spread_KJ1 / won_KJL.shape[-1]
        state.count_GJ[at] = count_KJ

    def evidence(self, state: BetState, group_K: Index | slice = slice(None)) -> Array:
        """The logarithm of the mean wealth of a group's bets: a mean of supermartingales is one. Shape (K,)."""
        log_KJ = state.log_wealth_GJ[group_K]
        top_K = log_KJ.max(axis=1)
        evidence_K: Array = top_K + np.log(np.exp(log_KJ - top_K[:, None]).mean(axis=1))
        return evidence_K
