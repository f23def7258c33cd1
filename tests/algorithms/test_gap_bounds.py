"""The monotone and the non-monotone case: bounds of the gap and of |F(w)|, masha.md, sections 9.2 and 9.4.

On a skew affine operator F(z) = B z + c the restricted gap max <F(z), u - z> is the maximum of a linear function of z, so it is
known in closed form.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from saddlebag.algorithms import masha1, masha2
from saddlebag.algorithms.methods.masha.masha1 import masha1_noise
from saddlebag.algorithms.problems import AffineProblem
from saddlebag.compression import Identity, RandK, TopK, Vector

FULL, RAND, TOP = Identity(), RandK(k=2), TopK(k=3)
SEEDS, SIGMAS = 8, 3.0
N, WORKERS = 3, 3


def skew_game(seed: int = 0) -> AffineProblem:
    """x'Ay + a'x - b'y on three workers that differ: mu = 0."""
    rng = np.random.default_rng(seed)
    matrix_MDD = np.zeros((WORKERS, 2 * N, 2 * N))
    coupling_MNN = rng.standard_normal((WORKERS, N, N))
    matrix_MDD[:, :N, N:] = coupling_MNN
    matrix_MDD[:, N:, :N] = -coupling_MNN.transpose(0, 2, 1)
    return AffineProblem(matrix_MDD=matrix_MDD, offset_MD=rng.standard_normal((WORKERS, 2 * N)), name="skew")


@dataclasses.dataclass(frozen=True)
class Boxed:
    """A problem on the box |z_i| <= 1."""

    problem: AffineProblem
    unconstrained = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.problem, name)

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        del step_size
        return np.clip(v_D, -1.0, 1.0)


def linear_part(problem: Any, u_D: Vector) -> tuple[npt.NDArray[np.float64], float]:
    """<F(z), u - z> = <z, slope> + constant, for skew B."""
    matrix_DD, offset_D = problem.mean
    return matrix_DD.T @ u_D - offset_D, float(offset_D @ u_D)


def gap_on_ball(problem: Any, u_D: Vector, radius: float) -> float:
    slope_D, constant = linear_part(problem, u_D)
    return radius * float(np.linalg.norm(slope_D)) + constant  # z0 = 0


def gap_on_box(problem: Any, u_D: Vector) -> float:
    slope_D, constant = linear_part(problem, u_D)
    return float(np.abs(slope_D).sum()) + constant


def trail(problem: Any, method: Any, play: Any, seed: int, count: int) -> tuple[Vector, float]:
    """The mean of the half points and the mean of |F(w)|^2 over the first iterations."""
    matrix_DD, offset_D = problem.mean
    total_D, squares = np.zeros(problem.dimension), 0.0
    for turn in play(problem, method, seed=seed, num_rounds=3 * count + 5):
        replica = turn.replica
        if replica.syncing:
            continue
        half_D = method._pulled(replica) - method.step_size * replica.operator_w_D
        total_D += problem.prox(half_D, method.step_size)
        squares += float(np.sum((matrix_DD @ replica.w_D + offset_D) ** 2))
        if turn.next_replica.iteration == count:
            return total_D / count, squares / count
    raise AssertionError("too few rounds")


def upper_bound(values: list[float]) -> float:
    """The mean and three standard errors."""
    return float(np.mean(values) + SIGMAS * np.std(values, ddof=1) / math.sqrt(len(values)))


COUNTS = (40, 160)


@pytest.mark.parametrize("rule", ["current", "next"])
@pytest.mark.parametrize("count", COUNTS)
def test_masha1_gap_on_a_ball(rule: Any, count: int, play: Any) -> None:
    problem = skew_game()
    assert problem.constants.strong_monotonicity == 0
    method = masha1(problem, up=RAND, down=FULL, probability=0.3, rule=rule)
    assert method.step_size == pytest.approx(math.sqrt(0.3) / (2 * masha1_noise(problem, RAND, FULL)))
    radius = 2.0 * float(np.linalg.norm(problem.solution))
    gaps = [gap_on_ball(problem, trail(problem, method, play, seed, count)[0], radius) for seed in range(SEEDS)]
    assert min(gaps) > 0
    assert upper_bound(gaps) <= 7 * radius**2 / (2 * method.step_size * count)


@pytest.mark.parametrize("count", COUNTS)
def test_masha1_gap_on_a_box_with_its_prox(count: int, play: Any) -> None:
    problem: Any = Boxed(skew_game(1))
    method = masha1(problem, up=RAND, down=FULL, probability=0.3)
    gaps = [gap_on_box(problem, trail(problem, method, play, seed, count)[0]) for seed in range(SEEDS)]
    assert upper_bound(gaps) <= 7 * problem.dimension / (2 * method.step_size * count)  # D^2 = d


@pytest.mark.parametrize("count", COUNTS)
def test_masha2_gap_on_a_ball(count: int, play: Any) -> None:
    problem, p, delta = skew_game(), 0.3, 2 * N / 3
    step_size = math.sqrt(p) / (5 * delta * problem.constants.lipschitz_rms)
    method = masha2(problem, up=TOP, down=FULL, probability=p, step_size=step_size)
    radius = 2.0 * float(np.linalg.norm(problem.solution))
    gaps = [gap_on_ball(problem, trail(problem, method, play, seed, count)[0], radius) for seed in range(SEEDS)]
    assert upper_bound(gaps) <= 7 * radius**2 / (step_size * count)


@pytest.mark.parametrize("name", ["masha1", "masha2"])
def test_the_operator_at_the_anchor_in_the_non_monotone_case(name: str, play: Any) -> None:
    """Minty's condition holds; the constants are those of (NM)."""
    problem, p, count, delta = skew_game(), 0.3, 240, 2 * N / 3
    if name == "masha1":
        step_size, factor = math.sqrt(p) / (math.sqrt(2) * masha1_noise(problem, RAND, FULL)), 4.0
        method: Any = masha1(problem, up=RAND, down=FULL, probability=p, step_size=step_size)
    else:
        step_size, factor = math.sqrt(p) / (5.2 * delta * problem.constants.lipschitz_rms), 8.0
        method = masha2(problem, up=TOP, down=FULL, probability=p, step_size=step_size)
    squares = [trail(problem, method, play, seed, count)[1] for seed in range(SEEDS)]
    bound = factor * float(np.sum(problem.solution**2)) / (step_size**2 * count)
    assert upper_bound(squares) <= bound


def test_the_gap_falls_like_one_over_the_iterations_and_not_at_a_step_that_is_too_large(play: Any) -> None:
    problem = skew_game()
    method = masha1(problem, up=RAND, down=FULL, probability=0.3)
    radius = 2.0 * float(np.linalg.norm(problem.solution))

    def mean_gap(factor: float, count: int) -> float:
        bold = dataclasses.replace(method, step_size=factor * method.step_size)
        return float(np.mean([gap_on_ball(problem, trail(problem, bold, play, s, count)[0], radius) for s in range(4)]))

    assert mean_gap(1.0, 240) < 0.5 * mean_gap(1.0, 60)
    with np.errstate(all="ignore"):
        assert mean_gap(6.0, 240) > 7 * radius**2 / (2 * 6 * method.step_size * 240)
