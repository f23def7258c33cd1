"""Means that some bad workers cannot move at will: rules that take the place of the mean of a round's uplinks.

A rule maps the decoded uplinks x_1 .. x_M of a round, part by part, to one vector. Each is a frozen dataclass whose fields are
its parameters, and each treats its workers alike: another order gives the same vector, up to the rounding of sums.

    rule                 x_1 .. x_M  ->                                                              bears
    coordinate_median    the median of every coordinate                                              fewer than M/2 bad
    trimmed_mean         the mean of every coordinate without its floor(fraction M) least and most   that many bad
    geometric_median     argmin_z sum_m |x_m - z|, smoothed                                          fewer than M/2 bad
    centred_clipping     v + mean of clip(x_m - v), some times over                                  by the radius
    norm_bound           the mean of x_m, each shortened to a norm                                   by the bound
    contribution         the mean of x_m, weighed by how much worker m has helped so far             see there

Yin, Chen, Ramchandran, Bartlett 2018 (median and trimmed mean); Pillutla, Kakade, Harchaoui 2022, Algorithm 1 (smoothed
Weiszfeld); Karimireddy, He, Jaggi 2021, Algorithm 2 (centred clipping).

Which rule a recipe names, and who may use it, is in `means.py`. No rule helps against bad
workers who are many, or who lie within the spread of the good ones.

Shapes: M = workers of the round, D = coordinates.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression import Vector

__all__ = [
    "CentredClipping",
    "ContributionMean",
    "CoordinateMedian",
    "GeometricMedian",
    "NormBound",
    "RobustMean",
    "TrimmedMean",
]

Uplinks: TypeAlias = npt.NDArray[np.float64]
"""Uplinks below each other, float64 (M, D)."""

_TINY = 1e-12  # of 1: fraction * M may fall short of a whole number by rounding


class RobustMean(Protocol):
    """A rule for the means of a round; a frozen dataclass whose fields are its parameters.

    Example:
        >>> rule: RobustMean = CoordinateMedian()
        >>> rule.combine(np.array([[1.0], [2.0], [900.0]])).tolist(), rule.by_coordinate
        ([2.0], True)
    """

    by_coordinate: ClassVar[bool]
    """Whether a coordinate of the result depends on that coordinate alone, so that blocks may be formed as they come."""

    def combine(self, value_MD: Uplinks) -> Vector:
        """The vector for these uplinks, float64 (M, D) -> (D,); M is at least 1. The argument is kept as it is."""


@dataclasses.dataclass(frozen=True)
class CoordinateMedian:
    """The median of every coordinate; of an even number the mean of the middle two.

    Example:
        >>> CoordinateMedian().combine(np.array([[0.0, 1.0], [1.0, 2.0], [1e9, -1e9]])).tolist()
        [1.0, 1.0]
    """

    by_coordinate: ClassVar[bool] = True

    def combine(self, value_MD: Uplinks) -> Vector:
        return np.asarray(np.median(value_MD, axis=0))


@dataclasses.dataclass(frozen=True)
class TrimmedMean:
    """The mean of every coordinate without its floor(fraction M) least and as many greatest.

    Attributes:
        fraction: in [0, 1/2) of the workers, left out at either end.

    Example:
        >>> TrimmedMean(fraction=0.25).combine(np.array([[0.0], [1.0], [3.0], [1e9]])).tolist()
        [2.0]
    """

    by_coordinate: ClassVar[bool] = True

    fraction: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 0.5:
            raise ConfigError(f"fraction must lie in [0, 0.5), got {self.fraction}")

    def combine(self, value_MD: Uplinks) -> Vector:
        m = len(value_MD)
        out = math.floor(self.fraction * m + _TINY)
        return _mean(np.sort(value_MD, axis=0)[out : m - out])


@dataclasses.dataclass(frozen=True)
class GeometricMedian:
    """The point with the least sum of distances to all uplinks, by Weiszfeld's steps with weights 1 / max(nu, |x_m - z|).

    Differs: it starts at the median of every coordinate, which bad workers cannot move far, and nu is `smoothing` times the
    median distance from there, so that the rule has no scale.

    Attributes:
        iterations: steps at most; it stops where a step no longer matters.
        smoothing: nu, relative.

    Example:
        >>> far = GeometricMedian().combine(np.array([[0.0], [1.0], [2.0], [1e9]]))
        >>> bool(1.0 <= far[0] <= 2.0)
        True
    """

    by_coordinate: ClassVar[bool] = False

    iterations: int = 32
    smoothing: float = 1e-6

    def __post_init__(self) -> None:
        if not 1 <= self.iterations <= 10_000:
            raise ConfigError(f"iterations must lie in [1, 10000], got {self.iterations}")
        if not 0 < self.smoothing <= 1:
            raise ConfigError(f"smoothing must lie in (0, 1], got {self.smoothing}")

    def combine(self, value_MD: Uplinks) -> Vector:
        z_D = CoordinateMedian().combine(value_MD)
        distance_M = _norms(value_MD - z_D)
        scale = float(np.median(distance_M))
        if scale == 0.0:  # at least half of them lie here, so it is the median
            return z_D
        for _ in range(self.iterations):
            weight_M = 1.0 / np.maximum(distance_M, self.smoothing * scale)
            next_D = _mean(value_MD, weight_M)
            moved, z_D = float(_norms((next_D - z_D)[None])[0]), next_D
            if moved <= _TINY * scale:
                break
            distance_M = _norms(value_MD - z_D)
        return z_D


@dataclasses.dataclass(frozen=True)
class CentredClipping:
    """v <- v + mean of (x_m - v) min(1, radius / |x_m - v|): who lies far from the centre pulls no more than at the radius.

    Differs: v starts at the median of every coordinate instead of the round before, so that a round depends on no other.

    Attributes:
        radius: of what is taken as it is; None for the median distance from the start.
        iterations: how often.

    Example:
        >>> CentredClipping(radius=1.0, iterations=1).combine(np.array([[0.0], [1.0], [2.0], [3.0], [1e9]])).tolist()
        [2.0]
    """

    by_coordinate: ClassVar[bool] = False

    radius: float | None = None
    iterations: int = 3

    def __post_init__(self) -> None:
        _check_length("radius", self.radius)
        if not 1 <= self.iterations <= 10_000:
            raise ConfigError(f"iterations must lie in [1, 10000], got {self.iterations}")

    def combine(self, value_MD: Uplinks) -> Vector:
        centre_D = CoordinateMedian().combine(value_MD)
        radius = self.radius
        for _ in range(self.iterations):
            away_MD = value_MD - centre_D
            distance_M = _norms(away_MD)
            radius = float(np.median(distance_M)) if radius is None else radius
            centre_D = centre_D + _shortened_mean(away_MD, distance_M, radius)
        return centre_D


@dataclasses.dataclass(frozen=True)
class NormBound:
    """The mean of x_m min(1, bound / |x_m|): nobody speaks louder than the bound.

    Attributes:
        bound: the largest norm; None for the median of the norms.

    Example:
        >>> NormBound(bound=1.0).combine(np.array([[0.5], [-8.0]])).tolist()
        [-0.25]
    """

    by_coordinate: ClassVar[bool] = False

    bound: float | None = None

    def __post_init__(self) -> None:
        _check_length("bound", self.bound)

    def combine(self, value_MD: Uplinks) -> Vector:
        norm_M = _norms(value_MD)
        return _shortened_mean(value_MD, norm_M, float(np.median(norm_M)) if self.bound is None else self.bound)


def _check_length(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ConfigError(f"{name} must be a positive number, got {value}")


def _norms(value_MD: Uplinks) -> Vector:
    """|x_m| by numpy's pairwise sums, whose bits depend on neither threads nor BLAS."""
    with np.errstate(over="ignore"):  # infinitely far is far
        return np.asarray(np.sqrt(np.square(value_MD).sum(axis=1)))


def _mean(value_MD: Uplinks, weight_M: Vector | None = None) -> Vector:
    """Row after row; without weights the bits of the plain mean."""
    sum_D = np.zeros(value_MD.shape[1])
    for place, value_D in enumerate(value_MD):
        sum_D += value_D if weight_M is None else weight_M[place] * value_D
    return sum_D / (len(value_MD) if weight_M is None else float(weight_M.sum()))


def _shortened_mean(value_MD: Uplinks, norm_M: Vector, longest: float) -> Vector:
    """The mean of the rows, each with a norm of `longest` at most."""
    scale_M = np.minimum(longest, norm_M) / np.maximum(norm_M, np.finfo(np.float64).tiny)
    sum_D = np.zeros(value_MD.shape[1])
    for scale, value_D in zip(scale_M, value_MD, strict=True):
        sum_D += scale * value_D
    return sum_D / len(value_MD)


@dataclasses.dataclass(frozen=True)
class _Weighed:
    """A mean with weights of the workers of one round, in their order; they add up to 1."""

    weight_M: tuple[float, ...]

    by_coordinate: ClassVar[bool] = True

    def combine(self, value_MD: Uplinks) -> Vector:
        total_D: Vector = np.zeros(value_MD.shape[1])
        for weight, value_D in zip(self.weight_M, value_MD, strict=True):
            total_D += weight * value_D
        return total_D


@dataclasses.dataclass(frozen=True)
class ContributionMean:
    """The mean with weights max(c_m, 0) / sum: c_m is what `contribution.py` says worker m's uplinks have helped so far.

    All weigh alike until somebody has helped. Caveats: a worker that sends longer vectors in the direction of all the others
    counts for more, the more so the longer it does; one whose data are unlike the others' counts for less though they may be
    right; and who has once been weighed down sends uplinks that go less where the rounds go, and stays down. It is no defence:
    who agree and send long vectors can outweigh the others.

    Example:
        >>> ContributionMean().weighed(np.array([3.0, 1.0, -5.0])).combine(np.array([[1.0], [5.0], [9.0]])).tolist()
        [2.0]
    """

    by_coordinate: ClassVar[bool] = True

    def combine(self, value_MD: Uplinks) -> Vector:
        """The plain mean: of a round whose workers nothing is known of."""
        return np.asarray(value_MD.mean(axis=0))

    def weighed(self, score_M: Vector) -> _Weighed:
        """The rule of a round whose workers have these scores."""
        weight_M = np.maximum(score_M, 0.0)
        total = float(weight_M.sum())
        weights = weight_M / total if total > 0 else np.full(len(score_M), 1.0 / len(score_M))
        return _Weighed(tuple(weights.tolist()))


def require_scores(rule: RobustMean | None, kept: bool) -> None:
    """Raise `ConfigError` where a rule needs scores that nobody keeps."""
    if isinstance(rule, ContributionMean) and not kept:
        raise ConfigError("server.mean = 'contribution' weighs workers by what server.contributions keeps; set that to true")


def rule_of_round(rule: RobustMean | None, score_M: Vector | None) -> RobustMean | None:
    """The rule of a round: where it weighs its workers by their scores, with these."""
    return rule.weighed(score_M) if isinstance(rule, ContributionMean) and score_M is not None else rule
