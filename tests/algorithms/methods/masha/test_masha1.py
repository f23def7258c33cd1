"""MASHA1: its identity with extragradient, its proven step, its prox, and variants that must fail."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import (
    AnyMethod,
    Constants,
    Masha1,
    Message,
    Operator,
    Problem,
    Stop,
    extragradient,
    make_method,
    masha1,
    simulate,
)
from saddlebag.algorithms.methods.masha.masha1 import masha1_noise
from saddlebag.algorithms.problems import BilinearGame, RobustLogisticRegression
from saddlebag.compression import Compressor, Draws, Identity, Natural, RandK, TopK, UnscaledRandK, Vector
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from saddlebag.proto.codec import LoopbackWire

EXACT = Identity(dtype="float64")
FULL = Identity()
# two ways to round the same 300 contracting steps of vectors of D < 100: far below D ulp each
ROUNDING = 1e-13


def iterates(problem: Problem, method: AnyMethod, play: Any, count: int) -> Iterator[Vector]:
    """z^1, z^2, ..., z^count."""
    yielded = 0
    for turn in play(problem, method, seed=7, num_rounds=10 * count):
        if turn.next_replica.iteration > turn.replica.iteration:
            yield turn.next_replica.z_D
            yielded += 1
            if yielded == count:
                return


def uncompressed(problem: Problem, kind: type[Masha1] = Masha1, **params: Any) -> Masha1:
    assert problem.constants is not None
    step_size = 0.5 / problem.constants.lipschitz
    return kind(step_size=step_size, probability=1.0, up=EXACT, down=EXACT, wire="float64", prox=problem.prox, **params)


@pytest.fixture(params=["game", "robust"])
def problem(request: pytest.FixtureRequest) -> Problem:
    found: Problem = request.getfixturevalue(request.param)
    return found


def gap(ones: Iterator[Vector], others: Iterator[Vector]) -> float:
    """The largest relative difference of two sequences."""
    gaps = [float(np.linalg.norm(a_D - b_D) / np.linalg.norm(b_D)) for a_D, b_D in zip(ones, others, strict=True)]
    return max(gaps)


def test_without_compression_and_pull_it_is_extragradient(problem: Problem, play: Any) -> None:  # masha.md 14 (a)
    reference = iterates(problem, extragradient(problem, wire="float64"), play, 300)
    assert gap(iterates(problem, uncompressed(problem, rule="next"), play, 300), reference) <= ROUNDING


def test_the_current_rule_is_then_two_interleaved_chains(problem: Problem, play: Any) -> None:  # masha.md, section 4
    once = list(iterates(problem, extragradient(problem, wire="float64"), play, 100))
    twice = iter([z_D for z_D in once for _ in range(2)])
    assert gap(iterates(problem, uncompressed(problem, rule="current"), play, 200), twice) <= ROUNDING


class FromHalf(Masha1):
    """Wrong: the second prox starts from zh instead of zbar."""

    def replay(self, replica: Any, down: Message, draws: Draws) -> Any:
        if replica.syncing:
            return super().replay(replica, down, draws)
        half_D = self.prox(self._pulled(replica) - self.step_size * replica.operator_w_D, self.step_size)
        z_D = self.prox(half_D - self.step_size * down.parts[-1].dense(), self.step_size)
        return self._replay_anchor(replica, z_D, down, draws)


def test_a_second_prox_from_the_half_point_is_another_method(
    game: BilinearGame, robust: RobustLogisticRegression, play: Any
) -> None:  # masha.md, trap 13
    def wrong(problem: Problem) -> float:
        reference = iterates(problem, extragradient(problem, wire="float64"), play, 50)
        return gap(iterates(problem, uncompressed(problem, FromHalf, rule="next"), play, 50), reference)

    assert wrong(game) <= ROUNDING  # no prox, no difference
    assert wrong(robust) > 1e6 * ROUNDING
    assert wrong(Boxed(game)) > 1e6 * ROUNDING


def test_theory_of_section_11() -> None:
    reference = BilinearGame()
    lipschitz = reference.constants.lipschitz
    rand = masha1(reference, up=RandK(fraction=0.1), down=FULL)
    assert (rand.probability, round(rand.step_size * lipschitz, 3)) == (0.1, 0.107)
    natural = masha1(reference, up=Natural(), down=Natural())
    assert (natural.probability, round(natural.step_size * lipschitz, 3)) == (9 / 32, 0.248)


def test_noise_constants_are_the_formulas() -> None:  # masha.md, section 9.1
    reference = BilinearGame()
    square, mean_square = reference.constants.lipschitz**2, reference.constants.lipschitz_rms**2
    rand, common = RandK(k=10), RandK(k=10, support="common")
    assert masha1_noise(reference, rand, FULL) ** 2 == pytest.approx(square + 9 / 10 * mean_square)
    assert masha1_noise(reference, rand, Natural()) ** 2 == pytest.approx(9 / 8 * (square + 9 / 10 * mean_square))
    assert masha1_noise(reference, common, FULL) ** 2 == pytest.approx(10 * square)
    assert masha1_noise(reference, common, Natural()) ** 2 == pytest.approx(9 / 8 * 10 * square)
    assert masha1_noise(reference, FULL, FULL) == pytest.approx(reference.constants.lipschitz)


def test_step_is_the_smaller_of_two(game: BilinearGame) -> None:  # masha.md, section 9.2 and trap 15
    up, mu = RandK(fraction=0.2), game.constants.strong_monotonicity
    noise = masha1_noise(game, up, FULL)
    assert masha1(game, up=up, down=FULL, probability=0.2).step_size == pytest.approx(math.sqrt(0.2) / (2 * noise))
    assert masha1(game, up=up, down=FULL, probability=1e-4).step_size == pytest.approx(1e-4 / (2 * mu))


@pytest.mark.parametrize("biased", [TopK(fraction=0.1), UnscaledRandK(fraction=0.1)], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("side", ["up", "down"])
@pytest.mark.parametrize("step_size", [None, 0.1])
def test_refuses_biased_compressors(biased: Compressor, side: str, step_size: float | None, game: BilinearGame) -> None:
    compressors = {"up": FULL, "down": FULL, side: biased}
    words = rf"masha1 needs an unbiased compressor {side}, got {type(biased).__name__}\(.*\) \(contractive\)"
    with pytest.raises(ConfigError, match=words) as caught:
        make_method("masha1", game, step_size=step_size, **compressors)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rule", ["current", "next"])
def test_converges_to_a_float64_floor_on_heterogeneous_workers(rule: Any, game: BilinearGame, wire: LoopbackWire) -> None:
    step_size = 0.25 / game.constants.lipschitz
    method = masha1(game, up=RandK(fraction=0.2), down=FULL, probability=0.2, step_size=step_size, rule=rule)
    outcome = simulate(game, method, seed=0, stop=Stop(merit=1e-13, max_iterations=6000, every=50), wire=wire)
    assert outcome.reason == "merit"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mislabelled(UnscaledRandK):
    """Wrong: Rand-k without d/k that passes for unbiased."""

    def omega(self, d: int) -> float:
        return RandK(k=self.k).omega(d)


def test_rand_k_without_its_scale_diverges(game: BilinearGame, wire: LoopbackWire) -> None:  # masha.md, traps 10 and 20
    step_size, stop = 0.2 / game.constants.lipschitz, Stop(merit=1e-3, max_iterations=2500, every=10)

    def reason(up: Compressor) -> str:
        method = masha1(game, up=up, down=FULL, probability=0.1, step_size=step_size)
        return simulate(game, method, seed=0, stop=stop, wire=wire).reason

    assert reason(RandK(k=2)) == "merit"
    assert reason(Mislabelled(k=2)) == "diverged"


def test_one_support_for_all_workers_loses_the_averaging(wire: LoopbackWire) -> None:  # masha.md, trap 5
    reference = BilinearGame()
    step_size = 0.35 / reference.constants.lipschitz
    own, common = RandK(fraction=0.1), RandK(fraction=0.1, support="common")
    for up, reason in ((own, "max_iterations"), (common, "diverged")):
        method = masha1(reference, up=up, down=FULL, probability=0.1, step_size=step_size)
        outcome = simulate(reference, method, seed=0, stop=Stop(max_iterations=600, every=20), wire=wire)
        assert outcome.reason == reason


@dataclasses.dataclass(frozen=True)
class Boxed:
    """A game on the box |z_i| <= max |z*_i| / 2, in which its own solution does not lie; masha.md 14 (k)."""

    game: BilinearGame

    name = "boxed"
    unconstrained = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.game, name)

    @property
    def constants(self) -> Constants:
        return self.game.constants

    def operator(self, worker: int) -> Operator:
        return self.game.operator(worker)

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        del step_size
        bound = np.abs(self.game.solution).max() / 2
        return np.clip(v_D, -bound, bound)

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        mean_D = np.mean([self.operator(worker)(z_D, Draws(0, 0)) for worker in range(self.game.num_workers)], axis=0)
        return {"natural_residual": float(np.linalg.norm(z_D - self.prox(z_D - mean_D / self.constants.lipschitz, 1.0)))}


def check_linear(residuals: Mapping[int, float], floor: float) -> None:
    """Residuals by iteration fall by a constant factor, down to the floor."""
    iteration_N = np.array([k for k, r in residuals.items() if r > floor], float)
    log_N = np.log10([r for r in residuals.values() if r > floor])
    slope, offset = np.polyfit(iteration_N, log_N, 1)
    assert slope < 0
    assert log_N[0] > -3  # at least eight decades are seen
    # no stall on the way: the noise of a single run is within a decade of the line (a transient at the start included)
    assert np.abs(log_N - slope * iteration_N - offset).max() < 1.0
    assert min(residuals.values()) <= floor


def test_residual_falls_linearly_in_a_box(wire: LoopbackWire) -> None:
    boxed = Boxed(BilinearGame(n=6, num_workers=3, regularisation=0.05))
    method = masha1(boxed, up=RandK(fraction=0.25), down=FULL, step_size=0.3 / boxed.constants.lipschitz)
    outcome = simulate(boxed, method, seed=0, stop=Stop(max_iterations=3500, every=100), wire=wire)
    bound = np.abs(boxed.game.solution).max() / 2
    assert (np.abs(outcome.replica.z_D) == bound).any()  # the constraint is active
    check_linear({record.iteration: record.merits["natural_residual"] for record in outcome.history}, 1e-11)


@pytest.mark.parametrize("rule", ["current", "next"])
def test_residual_falls_linearly_on_a_simplex(rule: Any, robust: RobustLogisticRegression, wire: LoopbackWire) -> None:
    step_size = 0.7 / robust.constants.lipschitz
    method = masha1(robust, up=RandK(fraction=0.25), down=FULL, step_size=step_size, probability=0.25, rule=rule)
    outcome = simulate(robust, method, seed=0, stop=Stop(max_iterations=1400, every=50), wire=wire)
    assert (outcome.replica.z_D[4:] == 0).sum() > 5  # the constraint is active
    check_linear({record.iteration: record.merits["natural_residual"] for record in outcome.history}, 1e-11)
