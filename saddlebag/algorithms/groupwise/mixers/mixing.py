"""From weights in the log domain to a distribution over the experts that are awake, and the parts it can be formed from."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["distribution"]


_VANISHING = 1e-200  # of a sum of weights: far above the smallest numbers, where precision ends


@dataclasses.dataclass(frozen=True, eq=False)
class Distribution:
    """Weights of experts.

    Attributes:
        p_E: shape (..., E); sums to 1 over the awake, 0 for sleepers; all 0 when nobody is awake.
        fell_back: shape (...): all the awake had weight 0, so the prior among them was taken.
    """

    p_E: Array
    fell_back: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def distribution(log_weight_E: Array, prior_E: Array, awake_E: Array) -> Distribution:
    """p_e ~ I_e w_e over the awake; p_e ~ I_e q_e when all these are 0.

    Any p is allowed by the theory in the latter case, which is normal: AdaNormalHedge gives weight 0 to every expert
    that the mixture has beaten by the range of the loss.

    Args:
        log_weight_E: logarithms of unnormalised weights, -inf for 0; shape (..., E).
        prior_E: q, positive.
        awake_E: I in [0, 1]: confidence, or 1 and 0.

    Example:
        >>> distribution(np.log([0.5, 0.25, 0.25]), np.full(3, 1 / 3), np.array([1.0, 1.0, 0.0])).p_E.round(3).tolist()
        [0.667, 0.333, 0.0]
    """
    masked_E = np.where(awake_E > 0, log_weight_E, -np.inf)
    top = np.maximum.reduce(masked_E, axis=-1, keepdims=True)
    dead = top == -np.inf
    if not np.logical_or.reduce(dead, axis=None):  # the usual case
        weight_E = np.exp(masked_E - top) * awake_E
        return Distribution(weight_E / np.add.reduce(weight_E, axis=-1, keepdims=True), dead[..., 0])
    weight_E = np.exp(masked_E - np.where(dead, 0.0, top)) * awake_E
    weight_E = np.where(dead, prior_E * awake_E, weight_E)
    total = weight_E.sum(axis=-1, keepdims=True)
    asleep = total == 0.0
    p_E = weight_E / np.where(asleep, 1.0, total)
    return Distribution(p_E, (dead & ~asleep)[..., 0])


def shared_distribution(log_weight_E: Array, prior_E: Array, awake_NE: Array) -> Distribution:
    """`distribution` for N rows with the same weights, up to rounding: the exponentials are taken once, not for each row.

    Rows whose awake experts all vanish beside the heaviest expert of all are left to `distribution`.
    """
    top = log_weight_E.max(initial=-np.inf)
    if np.isneginf(top):
        return distribution(log_weight_E, prior_E, awake_NE)
    p_NE = np.exp(log_weight_E - top) * awake_NE
    total_N = p_NE.sum(axis=1)
    hard_N = total_N < _VANISHING
    fell_back_N = np.zeros(len(p_NE), np.bool_)
    if hard_N.any():
        exact = distribution(log_weight_E, prior_E, awake_NE[hard_N])
        total_N[hard_N] = 1.0
        p_NE /= total_N[:, None]
        p_NE[hard_N], fell_back_N[hard_N] = exact.p_E, exact.fell_back
    else:
        p_NE /= total_N[:, None]
    return Distribution(p_NE, fell_back_N)


def checked_prior(prior_E: Array) -> Array:
    """The prior as float64.

    Raises:
        ConfigError: an entry is not a positive number, or there is none.
    """
    prior_E = np.asarray(prior_E, np.float64)
    if not prior_E.size or not (np.isfinite(prior_E).all() and (prior_E > 0).all()):
        raise ConfigError(f"a prior holds positive numbers, one for each expert, got {prior_E.tolist()}")
    return prior_E


def safe_log(value_E: Array) -> Array:
    """The natural logarithm, and -inf at 0 without a warning."""
    positive_E = value_E > 0.0
    if np.logical_and.reduce(positive_E, axis=None):
        return np.log(value_E)
    logarithm: Array = np.log(value_E, where=positive_E, out=np.full(value_E.shape, -np.inf))
    return logarithm
