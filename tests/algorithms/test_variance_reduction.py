"""VR-MASHA1, VR-MASHA2, VR-DIANA: proven one-step inequalities over every batch, convergence, and what must fail."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import Masha1, Stop, masha1, masha2, simulate, vr_diana_sgda
from saddlebag.algorithms.finite_sum import FiniteSum, batch_index, lipschitz_samples
from saddlebag.algorithms.methods.diana_sgda import DianaServer
from saddlebag.algorithms.methods.masha.anchor import AnchoredReplica
from saddlebag.algorithms.methods.masha.masha1 import Masha1Server, Masha1Worker, masha1_noise
from saddlebag.algorithms.methods.masha.masha2 import Masha2Server, Masha2Worker
from saddlebag.algorithms.methods.vr_diana_sgda import VrDianaReplica, VrDianaWorker
from saddlebag.algorithms.problems import FiniteBilinearGame
from saddlebag.compression import Draws, Identity, RandK, TopK, UnscaledRandK, Vector
from saddlebag.proto.codec import LoopbackWire

FULL, RAND, UNSCALED = Identity(), RandK(k=1), UnscaledRandK(k=1)
TINY = {
    "balanced": FiniteBilinearGame(n=1, num_workers=2, regularisation=0.3, num_samples=3),
    "hard": FiniteBilinearGame(
        n=2, num_workers=2, regularisation=0.05, heterogeneity=1.0, num_samples=2, sample_heterogeneity=3.0, seed=4
    ),
}
each_game = pytest.mark.parametrize("name", sorted(TINY))


def values(problem: Any, point_D: Vector) -> list[Vector]:
    return [problem.operator(worker)(point_D, Draws(0, 0)) for worker in range(problem.num_workers)]


def square(x_D: Vector) -> float:
    return float(x_D @ x_D)


def points(problem: Any, rng: np.random.Generator) -> tuple[Vector, Vector]:
    z_D, w_D = (problem.solution + 10.0 ** rng.uniform(-2, 1) * rng.standard_normal(problem.dimension) for _ in range(2))
    return problem.prox(z_D, 1.0), problem.prox(w_D, 1.0)


@each_game
@pytest.mark.parametrize("rule", ["current", "next"])
def test_masha1_contracts_over_every_batch(name: str, rule: Any, state: Any, expectation: Any) -> None:
    game, rng = TINY[name], np.random.default_rng(0)
    method = masha1(game, up=RAND, down=FULL, batch=1, probability=0.3, rule=rule)
    assert masha1(game, up=RAND, down=FULL, probability=0.3).step_size > method.step_size  # it knows of the batches
    weight = 1.0 if rule == "current" else 1.0 - method.probability

    def lyapunov(found: Any) -> float:
        return weight * square(found.replica.z_D - game.solution) + square(found.replica.w_D - game.solution)

    for _ in range(8):
        z_D, w_D = points(game, rng)
        known = values(game, w_D)
        mean_D = np.mean(known, axis=0)
        replica = AnchoredReplica(z_D, w_D, mean_D, iteration=3, syncing=False)
        before = state(replica, tuple(map(Masha1Worker, known)), Masha1Server(mean_D))
        scale, num_samples = float(game.dimension), game.num_samples
        after = expectation(game, method, before, lyapunov, scale=scale, num_samples=num_samples)
        factor = 1 - method.step_size * game.constants.strong_monotonicity / 2
        assert after <= factor * lyapunov(before) * (1 + 1e-12)


@each_game
def test_masha1_noise_bounds_the_second_moment_over_every_batch(name: str, state: Any, expectation: Any) -> None:
    """masha.md, section 9.1: E|g|^2 <= Cq^2 |zh - w|^2 at steps far from the proven ones too."""
    game, rng = TINY[name], np.random.default_rng(1)
    method = Masha1(step_size=0.5, probability=0.05, up=RAND, down=FULL, batch=1)
    noise = masha1_noise(game, RAND, FULL, 1)
    largest = 0.0
    for _ in range(8):
        z_D, w_D = points(game, rng)
        known = values(game, w_D)
        mean_D = np.mean(known, axis=0)
        before = state(AnchoredReplica(z_D, w_D, mean_D, 3, False), tuple(map(Masha1Worker, known)), Masha1Server(mean_D))
        half_D = method._pulled(before.replica) - method.step_size * mean_D

        def moment(found: Any, half_D: Vector = half_D) -> float:
            return square((half_D - found.replica.z_D) / method.step_size)  # z+ = zh - gamma g

        after = expectation(game, method, before, moment, scale=float(game.dimension), num_samples=game.num_samples)
        ratio = after / (noise**2 * square(half_D - w_D))
        assert ratio <= 1 + 1e-9
        largest = max(largest, ratio)
    assert largest > 0.2  # the bound is not idle


@each_game
def test_masha2_contracts_over_every_batch(name: str, state: Any, expectation: Any) -> None:
    game, rng, delta = TINY[name], np.random.default_rng(2), float(TINY[name].dimension)
    method = masha2(game, up=UNSCALED, down=FULL, batch=1, probability=0.5)

    def lyapunov(found: Any) -> float:
        memories = [own.memory_D for own in found.workers]
        shadow_D = found.replica.z_D - found.server.memory_D - np.mean(memories, axis=0)
        owed = float(np.mean([square(e_D) for e_D in memories]))
        return square(shadow_D - game.solution) + square(found.replica.w_D - game.solution) + 16 * delta * owed

    for _ in range(8):
        z_D, w_D = points(game, rng)
        known = values(game, w_D)
        mean_D, size = np.mean(known, axis=0), 10.0 ** rng.uniform(-3, 0.5)
        workers = tuple(Masha2Worker(at_D, size * rng.standard_normal(game.dimension)) for at_D in known)
        server = Masha2Server(mean_D, np.zeros(game.dimension))
        before = state(AnchoredReplica(z_D, w_D, mean_D, 3, False), workers, server)
        after = expectation(game, method, before, lyapunov, scale=1.0, num_samples=game.num_samples)
        factor = 1 - method.step_size * game.constants.strong_monotonicity / 2
        assert after <= factor * lyapunov(before) * (1 + 1e-12)


def vr_diana_potential(game: Any, method: Any, two_sided: bool) -> Any:
    """The Lyapunov function of `vr_diana_sgda`, of a state."""
    d, gamma, p = game.dimension, method.step_size, method.probability
    at_star = values(game, game.solution)
    omega, omega_down = d - 1.0, (d - 1.0) * two_sided
    k = 1 + 6 * omega_down
    sampling = k * (1 + 5 * omega) * lipschitz_samples([game.operator(0), game.operator(1)]) ** 2 / 2

    def lyapunov(found: Any) -> float:
        spread = np.mean([square(own.memory_D - at_D) for own, at_D in zip(found.workers, at_star, strict=True)])
        memories = 4 * k * omega / 2 * (1 + omega) * spread
        memories += 4 * omega_down * (1 + omega_down) * square(found.replica.memory_D - np.mean(at_star, axis=0))
        memories += 4 * sampling / p * square(found.replica.anchor_D - game.solution)
        return float(square(found.replica.z_D - game.solution) + gamma**2 * memories)

    return lyapunov


def test_the_worst_state_of_all_contracts_by_vr_diana(state: Any, expectation: Any, worst_ratio: Any) -> None:
    """F is affine, so E V+ and V are quadratic forms of points and memories less what they are at z*."""
    game = next(iter(TINY.values()))
    method = vr_diana_sgda(game, up=RAND, down=FULL, batch=1)
    lyapunov, d, at_star = vr_diana_potential(game, method, False), game.dimension, values(game, game.solution)

    def at(away_S: Vector) -> Any:
        z_D, w_D, *by = away_S.reshape(4, d)
        memories = [at_D + by_D for at_D, by_D in zip(at_star, by, strict=True)]
        replica = VrDianaReplica(game.solution + z_D, np.mean(memories, axis=0), 3, game.solution + w_D)
        workers = tuple(VrDianaWorker(*pair) for pair in zip(memories, values(game, game.solution + w_D), strict=True))
        return state(replica, workers, DianaServer(np.mean(memories, axis=0)))

    def after(away_S: Vector) -> float:
        return float(expectation(game, method, at(away_S), lyapunov, scale=float(d), num_samples=game.num_samples))

    worst = worst_ratio(after, lambda away_S: lyapunov(at(away_S)), 4 * d)
    assert worst <= 1 - method.step_size * game.constants.strong_monotonicity + 1e-10


@each_game
@pytest.mark.parametrize("two_sided", [False, True], ids=["one_sided", "two_sided"])
def test_vr_diana_contracts_over_every_batch(name: str, two_sided: bool, state: Any, expectation: Any) -> None:
    game, rng = TINY[name], np.random.default_rng(3)
    method = vr_diana_sgda(game, up=RAND, down=RAND if two_sided else FULL, batch=1)
    lyapunov, d, gamma = vr_diana_potential(game, method, two_sided), game.dimension, method.step_size
    at_star = values(game, game.solution)

    for _ in range(6):
        z_D, w_D = points(game, rng)
        size = 10.0 ** rng.uniform(-2, 2, 2)
        memories = [at_D + size[0] * rng.standard_normal(d) for at_D in at_star]
        replica = VrDianaReplica(z_D, size[1] * rng.standard_normal(d), 3, w_D)
        workers = tuple(VrDianaWorker(*pair) for pair in zip(memories, values(game, w_D), strict=True))
        before = state(replica, workers, DianaServer(np.mean(memories, axis=0)))
        scale, num_samples = float(d), game.num_samples
        after = expectation(game, method, before, lyapunov, scale=scale, two_sided=two_sided, num_samples=num_samples)
        assert after <= (1 - gamma * game.constants.strong_monotonicity) * lyapunov(before) * (1 + 1e-12)


# --- whole runs -------------------------------------------------------------------------------------------------------


def run(problem: Any, method: Any, count: int, merit: float = 1e-13) -> Any:
    stop = Stop(merit=merit, max_iterations=count, every=50)
    return simulate(problem, method, seed=0, stop=stop, wire=LoopbackWire())


def test_shared_samples_converge_to_the_float64_floor() -> None:  # masha.md 14 (m)
    samples = FiniteBilinearGame(n=6, num_workers=4, regularisation=0.2, num_samples=5)
    step_size = 0.15 / samples.constants.lipschitz
    for method in (
        masha1(samples, up=RandK(fraction=0.2), down=FULL, batch=2, probability=0.2, step_size=step_size),
        masha2(samples, up=TopK(fraction=0.5), down=FULL, batch=2, probability=0.2, step_size=step_size / 2),
    ):
        assert run(samples, method, 16_000).reason == "merit"


def test_vr_diana_converges_to_the_float64_floor() -> None:
    game = FiniteBilinearGame(n=4, num_workers=4, regularisation=0.5, num_samples=5)
    assert run(game, vr_diana_sgda(game, up=RandK(k=4), down=FULL, batch=2, step_size=0.03), 6000, 1e-12).reason == "merit"


class OtherSamples(Masha1):
    """Wrong: a new batch at the second point."""

    def _difference(self, replica: Any, known_D: Vector, operator: Any, point_D: Vector, draws: Draws) -> Vector:
        assert isinstance(operator, FiniteSum)
        assert self.batch is not None
        first, second = (batch_index(operator, self.batch, draws, skip=skip) for skip in (0, self.batch))
        result: Vector = operator.batch(point_D, first) - operator.batch(replica.w_D, second)
        return result


def test_other_samples_at_the_second_point_stall(samples: FiniteBilinearGame) -> None:  # masha.md 14 (l)
    step_size = 0.15 / samples.constants.lipschitz
    right = masha1(samples, up=RandK(fraction=0.2), down=FULL, batch=2, probability=0.2, step_size=step_size)
    wrong = OtherSamples(**{field.name: getattr(right, field.name) for field in dataclasses.fields(right)})
    errors = [
        [record.merits["relative_error"] for record in run(samples, method, 3000, 1e-3).history] for method in (right, wrong)
    ]
    assert errors[0][-1] <= 1e-3
    assert min(errors[1][-40:]) > 0.02


def test_the_floor_of_estimated_anchors_falls_with_the_synchronisation_batch() -> None:
    """masha.md, section 6: |z - z*|^2 of order gamma sigma^2 / (p mu M B), so four times the batch halves the error."""
    game = FiniteBilinearGame(n=4, num_workers=4, regularisation=0.3, num_samples=50)

    def floor(sync_batch: int) -> float:
        method = masha1(game, up=RandK(k=4), down=FULL, batch=2, sync_batch=sync_batch, probability=0.2, step_size=0.15)
        outcome = simulate(game, method, seed=0, stop=Stop(max_iterations=4000, every=10), wire=LoopbackWire())
        return math.sqrt(np.mean([record.merits["relative_error"] ** 2 for record in outcome.history[40:]]))

    small, large = floor(8), floor(128)
    assert small > 3e-3
    assert small / large == pytest.approx(4.0, rel=0.35)


def test_a_stochastic_oracle_is_a_finite_sum_with_fresh_samples() -> None:
    """An index names a fresh sample; the whole sum is out of reach and never asked for."""

    @dataclasses.dataclass(frozen=True)
    class Oracle:
        whole: Any
        num_samples: int = 2**32 - 1
        lipschitz: float | None = None

        def __call__(self, z_D: Vector, draws: Draws) -> Vector:
            raise AssertionError("the whole sum is out of reach")

        def batch(self, z_D: Vector, index_B: Any) -> Vector:
            noise_D = np.mean([np.random.default_rng(i).standard_normal(len(z_D)) for i in index_B], axis=0)
            value_D: Vector = self.whole(z_D, Draws(0, 0)) + 0.1 * noise_D
            return value_D

    class Noisy(FiniteBilinearGame):
        def operator(self, worker: int) -> Any:
            return Oracle(super().operator(worker))

    game = Noisy(n=4, num_workers=2, regularisation=0.3)
    method = masha1(game, up=RandK(k=4), down=FULL, batch=1, sync_batch=16, step_size=0.2)
    assert method.probability == 1 / 16  # b / B, for the sum has no end
    outcome = simulate(game, method, seed=0, stop=Stop(max_iterations=800, every=20), wire=LoopbackWire())
    assert outcome.history[-1].merits["relative_error"] < 0.02
