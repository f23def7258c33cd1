"""Scores round by round: what `recorded_frames` gives for a recorded stream, from a state that labels move whenever they come.

Shapes: N = rows, D = features, M = targets, L = 2 M quantiles.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise.coverage.scores import FLOOR, Frame, ScoreName, check_score
from saddlebag.algorithms.groupwise.learners.ridge import Ridge, RidgeState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["Scorer"]

_ONLY = np.zeros(1, np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class ScorerState:
    """What residuals so far have taught.

    Attributes:
        size, rounds: sum of |residual|, and how many there were; arrays without axes.
        theta_LD, square_LD: of "quantile": the quantiles' models, and their sums of squared gradients.
        ridge: of "scaled": the model of |residual|, less its mean.
    """

    size: Array
    rounds: Array
    theta_LD: Array
    square_LD: Array
    ridge: RidgeState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scorer:
    """Frames of rounds, as residuals so far suggest.

    Attributes:
        name: see `saddlebag.algorithms.groupwise.coverage.scores`.
        dimension: D.
        targets: coverage asked for.

    Example:
        >>> scorer = Scorer(name="scaled", dimension=1, targets=(0.9,))
        >>> state, one = scorer.init(), np.ones(1)
        >>> for residual in (0.2, -0.2, 0.2):
        ...     state = scorer.learn(state, one, residual)
        >>> scorer.frame(state, one[None], np.array([0.5])).scale_M.round(3).tolist()
        [[0.25]]
    """

    name: ScoreName
    dimension: int
    targets: tuple[float, ...]

    def __post_init__(self) -> None:
        check_score(self.name)

    @property
    def _ridge(self) -> Ridge:
        return Ridge(dimension=self.dimension if self.name == "scaled" else 1)

    @property
    def _level_L(self) -> Array:
        """Of the lower quantiles, and then of the upper ones."""
        miss_M = 1.0 - np.asarray(self.targets)
        return np.concatenate((miss_M / 2.0, 1.0 - miss_M / 2.0))

    def init(self) -> ScorerState:
        zero_LD = np.zeros((2 * len(self.targets), self.dimension) if self.name == "quantile" else (0, 0))
        return ScorerState(np.zeros(()), np.zeros(()), zero_LD, zero_LD, self._ridge.init(1))

    def frame(self, state: ScorerState, x_ND: Array, z_N: Array) -> Frame:
        """The frames of rows around predictions; shapes (N, M)."""
        M = len(self.targets)
        centre_NM = np.repeat(np.asarray(z_N, np.float64)[:, None], M, axis=1)
        one_NM = np.ones(centre_NM.shape)
        if self.name == "absolute":
            return Frame(centre_NM, centre_NM, one_NM)
        if self.name == "scaled":
            mean = self._mean(state)
            more_N = self._ridge.predict_block(state.ridge, x_ND, np.ones((len(x_ND), 1), np.bool_))[:, 0]
            scale_N = np.maximum(mean + more_N, FLOOR * mean)
            return Frame(centre_NM, centre_NM, one_NM * np.where(scale_N > 0, scale_N, 1.0)[:, None])
        found_NL = x_ND @ state.theta_LD.T
        low_NM, high_NM = found_NL[:, :M], found_NL[:, M:]
        return Frame(centre_NM + np.minimum(low_NM, high_NM), centre_NM + np.maximum(low_NM, high_NM), one_NM)

    def learn(self, state: ScorerState, x_D: Array, residual: float) -> ScorerState:
        """The state after a label's residual; the argument is left alone."""
        if self.name == "scaled":
            size, rounds = state.size + abs(residual), state.rounds + 1.0
            ridge = self._ridge.update(state.ridge, x_D, abs(residual) - self._mean(state), _ONLY)
            return dataclasses.replace(state, size=size, rounds=rounds, ridge=ridge)
        return self.merge(state, self.sums(state, x_D[None], np.array([residual])))

    def sums(self, state: ScorerState, x_ND: Array, residual_N: Array) -> dict[str, Array]:
        """What the rows of a frozen block add; those of several machines add up."""
        size_N = np.abs(residual_N)
        sums = {"size": np.asarray(size_N.sum()), "rounds": np.asarray(float(len(size_N)))}
        if self.name == "scaled":
            one_N1 = np.ones((len(size_N), 1), np.bool_)
            ridge = self._ridge.sums(state.ridge, x_ND, size_N - self._mean(state), one_N1)
            return sums | {f"ridge.{name}": value for name, value in ridge.items()}
        if self.name == "quantile":
            below_NL = residual_N[:, None] < x_ND @ state.theta_LD.T
            sums["gradient_LD"] = (below_NL - self._level_L).T @ x_ND
        return sums

    def merge(self, state: ScorerState, sums: Mapping[str, Array]) -> ScorerState:
        """The state after the sums of a frozen block."""
        after = dataclasses.replace(state, size=state.size + sums["size"], rounds=state.rounds + sums["rounds"])
        if self.name == "scaled":
            ridge = {name.removeprefix("ridge."): value for name, value in sums.items() if name.startswith("ridge.")}
            return dataclasses.replace(after, ridge=self._ridge.merge(state.ridge, ridge))
        if self.name == "quantile":
            gradient_LD = sums["gradient_LD"]
            square_LD = state.square_LD + gradient_LD**2
            root_LD, mean = np.sqrt(square_LD), after.size / np.maximum(after.rounds, 1.0)
            move_LD: Any = np.divide(gradient_LD, root_LD, out=np.zeros_like(root_LD), where=root_LD > 0)
            return dataclasses.replace(after, theta_LD=state.theta_LD - mean * move_LD, square_LD=square_LD)
        return after

    def _mean(self, state: ScorerState) -> float:
        return float(state.size) / max(float(state.rounds), 1.0)
