"""Scores of labels: how far a label lies from what was predicted, and the interval of labels up to a threshold.

Every score has one form. A round's *frame* is known before its label: two ends and a scale. With them

    s(y) = max(low - y, y - high) / scale,            {y: s(y) <= tau} = [low - tau scale, high + tau scale].

    absolute   low = high = the prediction, scale 1
    scaled     the same, scale = the |residual| that a ridge regression on the features expects
    quantile   low, high = the prediction and the quantiles of its residual, linear in the features; scale 1

After Romano, Patterson, Candes 2019, "Conformalized quantile regression". Of labels 0 and 1 the interval is a set:
those that it holds.

Shapes: N = rounds, D = features, M = targets.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from saddlebag.algorithms.groupwise.learners.ridge import Ridge
from saddlebag.algorithms.groupwise.recorded import replay_groups
from saddlebag.errors import check_choice

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

ScoreName = Literal["absolute", "scaled", "quantile"]
FLOOR = 0.2
"""Of the scale, in mean residuals so far: a scale near 0 would make every score infinite."""


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """What scores are measured from; arrays that broadcast to (..., M)."""

    low_M: Array
    high_M: Array
    scale_M: Array

    def scores(self, y: Array) -> Array:
        """The scores of labels; shape (..., M)."""
        label = np.asarray(y)[..., None]
        return np.maximum(self.low_M - label, label - self.high_M) / self.scale_M

    def interval(self, tau_M: Array) -> tuple[Array, Array]:
        """The ends of {y: s(y) <= tau}; the low one is the higher where no label has such a score."""
        return self.low_M - tau_M * self.scale_M, self.high_M + tau_M * self.scale_M


def check_score(name: str) -> None:
    """Raise `ConfigError` unless there is a score of this name."""
    check_choice("score", name, ("absolute", "scaled", "quantile"))


def recorded_frames(name: ScoreName, x_ND: Array, z_N: Array, y_N: Array, targets: tuple[float, ...]) -> Frame:
    """The frames of recorded rounds, each from the rounds before it; shapes (N, 1) or (N, M)."""
    check_score(name)
    centre_N1, one_N1 = z_N[:, None], np.ones((len(z_N), 1))
    if name == "absolute":
        return Frame(centre_N1, centre_N1, one_N1)
    residual_N = y_N - z_N
    if name == "scaled":
        size_N = np.abs(residual_N)
        before_N = np.concatenate(([0.0], np.cumsum(size_N)[:-1])) / np.maximum(np.arange(len(size_N)), 1)
        more_N = replay_groups(Ridge(dimension=x_ND.shape[1]), x_ND, size_N - before_N, one_N1)[:, 0]
        scale_N = np.maximum(before_N + more_N, FLOOR * before_N)
        return Frame(centre_N1, centre_N1, np.where(scale_N > 0, scale_N, 1.0)[:, None])
    miss_M = 1.0 - np.asarray(targets)
    low_NM = _quantiles(x_ND, residual_N, miss_M / 2.0)
    high_NM = _quantiles(x_ND, residual_N, 1.0 - miss_M / 2.0)
    return Frame(centre_N1 + np.minimum(low_NM, high_NM), centre_N1 + np.maximum(low_NM, high_NM), one_N1)


def _quantiles(x_ND: Array, residual_N: Array, level_M: Array) -> Array:
    """Quantiles of each round's residual, linear in its features: gradient steps on the pinball loss, feature by feature.

    Steps are mean residuals over the root of the feature's sum of squared gradients, so units of label and features drop out.
    """
    N, D = x_ND.shape
    theta_MD, square_MD = np.zeros((len(level_M), D)), np.zeros((len(level_M), D))
    found_NM, sizes = np.empty((N, len(level_M))), 0.0
    for t in range(N):
        x_D = x_ND[t]
        found_NM[t] = theta_MD @ x_D
        sizes += abs(residual_N[t])
        gradient_MD = ((residual_N[t] < found_NM[t]) - level_M)[:, None] * x_D
        square_MD += gradient_MD**2
        root_MD = np.sqrt(square_MD)
        theta_MD -= sizes / (t + 1) * np.divide(gradient_MD, root_MD, out=np.zeros_like(root_MD), where=root_MD > 0)
    return found_NM
