"""Thresholds that cover every group: sums over the groups a round is in, corrected by what each group has missed.

A score s >= 0 says how far a label lies from what was predicted; the interval holds every label whose score is at most

    tau = base . I + step (excess . I),        excess_g = sum over g's rounds of I_g (missed - a),      a = 1 - target,

with I the memberships (1 in the group of all rounds). `excess` counts misses, so the **identity** is exact for every group, on
any data, for late labels (each is added once) and for sums over machines:

    coverage error on g  =  |excess_g| / T_g  =  |correction_g| / (step T_g),        correction = step excess.

Whatever the base: since (missed - a) tau <= (missed - a) s, the sum over rounds

    |excess|^2  <=  room  =  sum (missed - a)^2 |I|^2 + 2 sum (missed - a)(s - base . I) / step,

where each label is known before the next prediction. So the error on g is at most sqrt(room) / T_g: order 1 / sqrt(T).

"fixed" has no base and a step in units of the score: Gibbs and Candes 2021 for one group, "gradient equilibrium" (Angelopoulos,
Jordan, Tibshirani 2025) for many. "adaptive" needs no unit: the base is a quantile regression on the memberships (gradient
steps as in `Gradient`, averaged), and all steps are multiples of mean scores so far.

Differs: the step may change with time, for what is kept is the count of misses and not the sum of steps.

Shapes: M = targets, G = groups; a leading `...` is any batch of independent runs.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from saddlebag.algorithms.groupwise.base import check_positive
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["Thresholds"]

_AVERAGE = 3.0  # of the weight of the newest round in the base's average: (n + 2) / 3 rounds count, which forgets the start
_BASE = 0.5  # of the base's step, in mean scores of the group; of 0.3, 0.5 and 1 the best on most of the recipes' data sets
_PRIOR = 10.0  # rounds that the mean over all groups counts in a group's mean score
_SUMS = ("excess_MG", "gradient_MG", "awake_G", "room_M", "score_M", "score_MG", "size", "rounds")


@dataclasses.dataclass(frozen=True, eq=False)
class ThresholdState:
    """Sums over the rounds so far, and the base.

    Attributes:
        excess_MG: sum of I (missed - a).
        awake_G: T_g, sum of I.
        room_M: the proven bound on |excess|^2.
        score_M, score_MG: sum of |s|, and of I |s|.
        size: sum of |I|^2.
        rounds: labels learned.
        base_MG, average_MG, square_MG: the base's iterate, its average, and its sum of squared gradients.
    """

    excess_MG: Array
    awake_G: Array
    room_M: Array
    score_M: Array
    score_MG: Array
    size: Array
    rounds: Array
    base_MG: Array
    average_MG: Array
    square_MG: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """What was known of a round when it was predicted, over all groups.

    Attributes:
        size: |I|^2.
        base_M: the base's iterate; see `Thresholds.base_at`.
    """

    size: float
    base_M: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The rule.

    Attributes:
        targets: coverage asked for, each in (0, 1).
        form: "adaptive", or "fixed".
        step: of "fixed", in units of the score; of "adaptive", in mean scores of a round in one group only.

    Example:
        >>> rule = Thresholds(targets=(0.9,))
        >>> state = rule.init(2)
        >>> both = np.array([1.0, 1.0])
        >>> for score in (0.3, 0.1, 0.2):
        ...     state = rule.learn(state, rule.at(state, both), np.array([score]), both)
        >>> [round(float(error), 3) for error in rule.error(state)[0]]
        [0.233, 0.233]
    """

    targets: tuple[float, ...] = (0.9,)
    form: Literal["adaptive", "fixed"] = "adaptive"
    step: float = 0.5

    def __post_init__(self) -> None:
        if not self.targets or not all(0.0 < target < 1.0 for target in self.targets):
            raise ConfigError(f"targets must be numbers in (0, 1), such as 0.9, got {list(self.targets)}")
        check_choice("form", self.form, ("adaptive", "fixed"))
        check_positive("step", self.step)

    @property
    def miss_M(self) -> Array:
        """A = 1 - target, the share of rounds that may be missed."""
        return 1.0 - np.asarray(self.targets)

    def init(self, num_groups: int, batch: tuple[int, ...] = ()) -> ThresholdState:
        M, G = len(self.targets), num_groups

        def zero(*shape: int) -> Array:
            return np.zeros((*batch, *shape))

        sums = {
            "excess_MG": zero(M, G),
            "awake_G": zero(G),
            "room_M": zero(M),
            "score_M": zero(M),
            "score_MG": zero(M, G),
            "size": zero(),
            "rounds": zero(),
        }
        return ThresholdState(**sums, base_MG=zero(M, G), average_MG=zero(M, G), square_MG=zero(M, G) + 1.0)

    def steps(self, state: ThresholdState) -> Array:
        """What a count of misses is worth now, in units of the score; shape (..., M), 0 before anything is known."""
        if self.form == "fixed":
            return np.full(state.score_M.shape, self.step)
        groups = np.maximum(state.size / np.maximum(state.rounds, 1.0), 1.0)
        return self.step * self._mean(state) / groups[..., None]

    def corrections(self, state: ThresholdState) -> Array:
        """How far each group's misses have moved the threshold; shape (..., M, G)."""
        moved_MG: Array = self.steps(state)[..., None] * state.excess_MG
        return moved_MG

    def at(self, state: ThresholdState, awake_G: Array) -> Array:
        """The thresholds of a round with these memberships; shape (..., M)."""
        theta_MG = self.corrections(state)
        if self.form == "adaptive":
            theta_MG = theta_MG + state.average_MG
        tau_M: Array = (theta_MG @ np.asarray(awake_G, np.float64)[..., None])[..., 0]
        return tau_M

    def base_at(self, state: ThresholdState, awake_G: Array) -> Array:
        """The base's iterate for a round with these memberships, which its gradient is taken at; shape (..., M)."""
        base_M: Array = (state.base_MG @ np.asarray(awake_G, np.float64)[..., None])[..., 0]
        return base_M

    def learn(
        self, state: ThresholdState, tau_M: Array, score_M: Array, awake_G: Array, *, parts: Parts | None = None
    ) -> ThresholdState:
        """The state after a round's label.

        Args:
            state: as it is now, which may be later than the prediction.
            tau_M: the thresholds as they were given out.
            score_M: of the label; shape (..., M).
            awake_G: the round's memberships.
            parts: what a share of the groups, or a late label, cannot know from `state`.
        """
        return self.merge(state, self.sums(state, tau_M, score_M, awake_G, parts=parts))

    def sums(
        self, state: ThresholdState, tau_M: Array, score_M: Array, awake_G: Array, *, parts: Parts | None = None
    ) -> dict[str, Array]:
        """What a round adds; those of a frozen block, or of several machines, add up."""
        awake_G = np.asarray(awake_G, np.float64)
        missed_M = (score_M > tau_M) - self.miss_M
        norm = (awake_G * awake_G).sum(axis=-1) if parts is None else np.asarray(parts.size, np.float64)
        step_M, usual_M = self.steps(state), np.zeros(score_M.shape)
        if self.form == "adaptive":
            usual_M = (state.average_MG @ awake_G[..., None])[..., 0]
        unknown_M = missed_M * (state.excess_MG @ awake_G[..., None])[..., 0]  # while the step is 0: what is added, itself
        known_M = missed_M * (score_M - usual_M) / np.where(step_M > 0, step_M, 1.0)
        sums = {
            "excess_MG": missed_M[..., None] * awake_G[..., None, :],
            "awake_G": awake_G,
            "room_M": missed_M**2 * norm[..., None] + 2.0 * np.where(step_M > 0, known_M, unknown_M),
            "score_M": np.abs(score_M),
            "score_MG": np.abs(score_M)[..., None] * awake_G[..., None, :],
            "size": norm,
            "rounds": np.ones(norm.shape),
        }
        if self.form == "adaptive":
            base_M = self.base_at(state, awake_G) if parts is None else parts.base_M
            below_M = (score_M > base_M) - self.miss_M
            sums["gradient_MG"] = below_M[..., None] * awake_G[..., None, :]
        return sums

    def sums_of_rows(self, state: ThresholdState, tau_NM: Array, score_NM: Array, awake_NG: Array) -> dict[str, Array]:
        """The sums of N rows from one frozen state; zeros for none."""
        M, G = len(self.targets), awake_NG.shape[1]
        shapes = {
            "excess_MG": (M, G),
            "awake_G": (G,),
            "room_M": (M,),
            "score_M": (M,),
            "score_MG": (M, G),
            "size": (),
            "rounds": (),
        }
        if self.form == "adaptive":
            shapes["gradient_MG"] = (M, G)
        total = {name: np.zeros(shape) for name, shape in shapes.items()}
        for tau_M, score_M, awake_G in zip(tau_NM, score_NM, awake_NG, strict=True):
            for name, value in self.sums(state, tau_M, score_M, awake_G).items():
                total[name] = total[name] + value
        return total

    def merge(self, state: ThresholdState, sums: Mapping[str, Array]) -> ThresholdState:
        """The state after the sums of a round, or of a frozen block."""
        names = [name for name in _SUMS if name != "gradient_MG"]
        after = dataclasses.replace(state, **{name: getattr(state, name) + sums[name] for name in names})
        if self.form == "fixed":
            return after
        gradient_MG = sums["gradient_MG"]
        square_MG = state.square_MG + gradient_MG**2
        groups = np.sqrt(np.maximum(after.size / np.maximum(after.rounds, 1.0), 1.0))
        mean_MG = (_PRIOR * self._mean(after)[..., None] + after.score_MG) / (_PRIOR + after.awake_G[..., None, :])
        base_MG = state.base_MG + _BASE * mean_MG / groups[..., None, None] * gradient_MG / np.sqrt(square_MG)
        weight_G = np.minimum(1.0, _AVERAGE * sums["awake_G"] / (after.awake_G + 2.0))
        average_MG = state.average_MG + weight_G[..., None, :] * (base_MG - state.average_MG)
        return dataclasses.replace(after, base_MG=base_MG, average_MG=average_MG, square_MG=square_MG)

    def error(self, state: ThresholdState) -> Array:
        """Share of a group's rounds that was missed, less the allowed one: the identity; shape (..., M, G)."""
        error_MG: Array = state.excess_MG / np.maximum(state.awake_G, 1e-300)[..., None, :]
        return error_MG

    def bound(self, state: ThresholdState) -> Array:
        """The proven bound on |error|, for labels that come before the next prediction; shape (..., M, G)."""
        bound_MG: Array = np.sqrt(np.maximum(state.room_M, 0.0))[..., None] / np.maximum(state.awake_G, 1e-300)[..., None, :]
        return bound_MG

    def grow(self, state: ThresholdState, extra: int) -> ThresholdState:
        """The state with more groups at its end."""
        new = self.init(extra, state.size.shape)
        names = ("excess_MG", "awake_G", "score_MG", "base_MG", "average_MG", "square_MG")
        wide = {name: np.concatenate((getattr(state, name), getattr(new, name)), axis=-1) for name in names}
        return dataclasses.replace(state, **wide)

    def _mean(self, state: ThresholdState) -> Array:
        """The mean |score| so far; 0 before the first."""
        mean_M: Array = state.score_M / np.maximum(state.rounds, 1.0)[..., None]
        return mean_M
