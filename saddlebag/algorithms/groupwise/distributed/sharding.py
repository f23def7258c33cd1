"""Groups divided among machines, exactly: each shard mixes its own experts, and five numbers a row join the parts.

The weights are a softmax over all awake experts. A shard sends, as in a streaming softmax,

    m = max log(q w),   Z = sum I e^(log(q w) - m),   N = the same sum weighted by z,

and the pair (sum q I, sum q I z) for rounds in which all weights are 0. What joins them is the prediction of one machine,
up to rounding. It gives back one number, the value that was played, and every shard books its own experts' regrets. A
hierarchy of mixers would not do: its top level guarantees regret on the rounds of a shard, not of a group.

Shapes: N = rows, E = experts of a shard.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.groupwise.mixers.ada_normal_hedge import AdaNormalHedge, HedgeState
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saddlebag.algorithms.groupwise.base import AnyMixer, Array

__all__ = ["PartialMix", "join_mixes", "partial_mix", "shard_bound"]

FIELDS = 5
"""Numbers a row."""


@dataclasses.dataclass(frozen=True, eq=False)
class PartialMix:
    """What one shard says of N rows; each of shape (N,).

    Attributes:
        top_N: m, -inf where none of the shard's experts has weight.
        mass_N, value_N: Z and N, relative to e^m.
        prior_N, prior_value_N: sums of q I and of q I z.

    Example:
        >>> log_weight_E, prior_E, awake_NE, z_NE = np.zeros(2), np.full(2, 0.25), np.ones((1, 2)), np.array([[0.0, 1.0]])
        >>> PartialMix.from_array(partial_mix(log_weight_E, prior_E, awake_NE, z_NE).to_array()).mass_N.tolist()
        [2.0]
    """

    top_N: Array
    mass_N: Array
    value_N: Array
    prior_N: Array
    prior_value_N: Array

    def to_array(self) -> Array:
        """Shape (N, 5)."""
        return np.column_stack([getattr(self, field.name) for field in dataclasses.fields(self)])

    @classmethod
    def from_array(cls, number_N5: Array) -> PartialMix:
        """What `to_array` gave.

        Raises:
            ConfigError: the shape is another, a number is NaN or +inf, or a mass is negative.
        """
        if number_N5.ndim != 2 or number_N5.shape[1] != FIELDS:
            raise ConfigError(f"a shard's rows hold {FIELDS} numbers, got shape {number_N5.shape}")
        part = cls(*(np.array(column) for column in number_N5.T))
        finite = np.isfinite(number_N5[:, 1:]).all() and not (np.isnan(part.top_N) | (part.top_N == np.inf)).any()
        if not finite or (part.mass_N < 0).any() or (part.prior_N < 0).any():
            raise ConfigError("a shard's sums must be finite, and its masses not negative")
        return part


@dataclasses.dataclass(frozen=True, eq=False)
class Joined:
    """The mixture of all shards; `fell_back_N` where the prior was taken, `asleep_N` where nobody was awake."""

    value_N: Array
    fell_back_N: Array
    asleep_N: Array


def partial_mix(log_weight_E: Array, prior_E: Array, awake_NE: Array, z_NE: Array) -> PartialMix:
    """One shard's part of a mixture.

    Args:
        log_weight_E: of the shard's experts, the prior included.
        prior_E: q, the shard's share of a prior over all experts.
        awake_NE: confidences.
        z_NE: predictions.

    Example:
        >>> log_weight_E, prior_E, awake_NE, z_NE = np.zeros(2), np.full(2, 0.25), np.ones((1, 2)), np.array([[0.0, 1.0]])
        >>> halves = [partial_mix(log_weight_E, prior_E, awake_NE, z_NE + shift) for shift in (0.0, 2.0)]
        >>> halves[0].to_array().tolist()  # m, Z, N, and the prior's sums
        [[0.0, 2.0, 1.0, 0.5, 0.25]]
    """
    masked_NE = np.where(awake_NE > 0, log_weight_E, -np.inf)
    top_N = masked_NE.max(axis=1, initial=-np.inf)
    weight_NE = np.exp(masked_NE - np.where(np.isneginf(top_N), 0.0, top_N)[:, None]) * awake_NE
    prior_NE = prior_E * awake_NE
    return PartialMix(
        top_N, weight_NE.sum(axis=1), (weight_NE * z_NE).sum(axis=1), prior_NE.sum(axis=1), (prior_NE * z_NE).sum(axis=1)
    )


def join_mixes(parts: Sequence[PartialMix], default: float = 0.0) -> Joined:
    """The mixture of all experts, from every shard's part; `default` where nobody is awake.

    Example:
        >>> log_weight_E, prior_E, awake_NE, z_NE = np.zeros(2), np.full(2, 0.25), np.ones((1, 2)), np.array([[0.0, 1.0]])
        >>> halves = [partial_mix(log_weight_E, prior_E, awake_NE, z_NE + shift) for shift in (0.0, 2.0)]
        >>> join_mixes(halves).value_N.tolist()  # the mean of all four
        [1.5]
    """
    top_N = np.maximum.reduce([part.top_N for part in parts])
    dead_N = np.isneginf(top_N)
    safe_N = np.where(dead_N, 0.0, top_N)
    scale = [np.exp(part.top_N - safe_N) for part in parts]
    mass_N = sum(part.mass_N * s for part, s in zip(parts, scale, strict=True))
    value_N = sum(part.value_N * s for part, s in zip(parts, scale, strict=True))
    prior_N = sum(part.prior_N for part in parts)
    prior_value_N = sum(part.prior_value_N for part in parts)
    total_N, sum_N = np.where(dead_N, prior_N, mass_N), np.where(dead_N, prior_value_N, value_N)
    asleep_N = total_N == 0.0
    mixed_N = np.where(asleep_N, default, sum_N / np.where(asleep_N, 1.0, total_N))
    return Joined(mixed_N, dead_N & ~asleep_N, asleep_N)


def shard_bound(mixer: AnyMixer, state: HedgeState, rounds: int, elsewhere: float) -> Array:
    """The proven regret bound of a shard's experts, shape (E,); NaN for rules whose bound needs the other shards.

    AdaNormalHedge's budget B counts every expert. Those of other shards, with prior mass `elsewhere`, have C <= rounds, so

        B <= Q + (3/2) (sum over the shard of q (1 + ln(1 + C)) + elsewhere (1 + ln(1 + rounds))).

    Example:
        >>> import saddlebag as sb
        >>> mixer = sb.make_mixer("ada_normal_hedge")
        >>> state = mixer.init(np.full(2, 0.25))  # two experts here, two elsewhere
        >>> shard_bound(mixer, state, rounds=0, elsewhere=0.5).tolist()
        [0.0, 0.0]
    """
    if not isinstance(mixer, AdaNormalHedge):
        return np.full(len(state.prior_E), math.nan)
    here = float((state.prior_E * (1.0 + np.log1p(state.absolute_E))).sum())
    budget = float(state.prior_E.sum()) + elsewhere + 1.5 * (here + elsewhere * (1.0 + math.log1p(rounds)))
    bound_E: Array = mixer.loss_range * np.sqrt(3.0 * state.absolute_E * (math.log(budget) - np.log(state.prior_E)))
    return bound_E
