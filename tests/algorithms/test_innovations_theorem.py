"""The theorem of docs/theory/innovations.md with its constants, and its limits."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Innovations, Message, Problem, Stop, form_means, innovations, simulate
from saddlebag.algorithms.agreed.common_part import common_part
from saddlebag.algorithms.methods.innovations import InnovationsReplica, InnovationsServer, InnovationsWorker
from saddlebag.algorithms.problems import BilinearGame, RobustLogisticRegression
from saddlebag.compression import SERVER, Dense, Draws, Grid, Identity, Payload, TopK, UnscaledRandK, Vector
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saddlebag.proto.codec import LoopbackWire

EXACT = Identity(dtype="float64")
GAMES = {
    "balanced": BilinearGame(n=2, num_workers=2, regularisation=0.5),
    "rotation": BilinearGame(n=2, num_workers=3, regularisation=0.02, heterogeneity=0.1),
    "mixed": BilinearGame(n=2, num_workers=2, regularisation=0.1, heterogeneity=1.5, seed=4),
}


@dataclasses.dataclass(frozen=True)
class Shrink:
    """C(x) = factor x exactly: alpha = 1 - (1 - factor)^2, and errors that lag behind the input."""

    factor: float

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        del draws
        return Dense(self.factor * np.asarray(x_D, np.float64))

    def bits(self, d: int) -> float:
        return 64.0 * d

    def alpha(self, d: int) -> float:
        del d
        return 1.0 - (1.0 - self.factor) ** 2


@dataclasses.dataclass(frozen=True)
class Given:
    """Unscaled Rand-1 at coordinates that the test chooses, without rounding."""

    index: dict[int, int]

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        value_D, i = np.zeros(len(x_D)), self.index[draws.worker]
        value_D[i] = x_D[i]
        return Dense(value_D)

    def bits(self, d: int) -> float:
        raise NotImplementedError

    def alpha(self, d: int) -> float:
        return 1.0 / d


@dataclasses.dataclass(frozen=True)
class State:
    """z^k, z^{k-1} and the memories of iterations k and k-1: all that Psi_k knows."""

    z_D: Vector
    previous_z_D: Vector
    memory_MD: Vector
    previous_memory_MD: Vector
    known_D: Vector
    previous_known_D: Vector


def values(problem: Problem, z_D: Vector) -> Vector:
    return np.stack([problem.operator(worker)(z_D, Draws(0, 0)) for worker in range(problem.num_workers)])


def tracked(problem: Problem, z_D: Vector) -> Vector:
    """What memories follow: the F_m without what they have in common."""
    common = common_part(problem)
    return values(problem, z_D) - (0.0 if common is None else common(z_D))


def square(x_D: Vector) -> float:
    return float(np.sum(x_D * x_D))


def potential(problem: Any, method: Innovations, state: State) -> float:
    """Psi_k with the weights of the theorem."""
    d, gamma, mu = problem.dimension, method.step_size, problem.constants.strong_monotonicity
    theta, theta_s = (1 - math.sqrt(1 - side.alpha(d)) for side in (method.up, method.down))  # type: ignore[attr-defined]
    eps2_s, ratio = (1 - theta_s) ** 2 / theta_s**2, gamma / mu
    weights = (
        (21 * ratio / theta, 2 * ratio, 0.0, 0.0)
        if theta_s == 1
        else ((42 + 784 * eps2_s) * ratio / theta, 4 * ratio, 42 * ratio / theta_s, 4 * ratio)
    )
    value_MD, previous_MD = values(problem, state.z_D), values(problem, state.previous_z_D)
    error_D, change_D = state.z_D - problem.solution, value_MD.mean(axis=0) - previous_MD.mean(axis=0)
    d_k = problem.num_workers
    memories = (
        square(state.memory_MD - tracked(problem, state.z_D)) / d_k,
        square(state.previous_memory_MD - tracked(problem, state.previous_z_D)) / d_k,
        square(state.known_D - state.memory_MD.mean(axis=0)),
        square(state.previous_known_D - state.previous_memory_MD.mean(axis=0)),
    )
    points = square(error_D) - 2 * gamma * float(change_D @ error_D) + square(state.z_D - state.previous_z_D) / 4
    return points + sum(weight * memory for weight, memory in zip(weights, memories, strict=True))


def step(problem: Problem, method: Innovations, state: State, round_: int = 0) -> State:
    """The method's own halves, from iteration k's memories to those of k + 1."""
    draws = Draws(0, round_, SERVER)
    common_D = None if method.common is None else method.common(state.previous_z_D)
    before = InnovationsReplica(state.z_D, state.previous_known_D, iteration=5, common_D=common_D)
    replica = method.replay(before, _message(state.known_D - state.previous_known_D), draws)
    ups, memories = [], []
    for worker, memory_D in enumerate(state.memory_MD):
        own, up = method.worker_step(replica, InnovationsWorker(memory_D), problem.operator(worker), draws.of(worker))
        ups.append(up)
        memories.append(own.known_D)
    means = form_means(method.uplink_sizes(replica, draws), iter(ups), len(ups))
    _, down = method.server_step(replica, InnovationsServer(state.memory_MD.mean(axis=0)), means, draws)
    known_D = replica.known_D + down.parts[0].dense()
    return State(replica.z_D, state.z_D, np.stack(memories), state.memory_MD, known_D, state.known_D)


def _message(x_D: Vector) -> Message:
    return Message((Dense(x_D),))


def random_state(problem: Any, rng: np.random.Generator, exact_down: bool) -> State:
    """Points around z* and memories around F, each on a scale of its own; sometimes exactly there."""

    def near(x: Vector) -> Vector:
        return x + 10.0 ** rng.uniform(-3, 1) * rng.standard_normal(x.shape) * (rng.random() > 0.15)

    z_D = problem.prox(near(problem.solution), 1.0)
    previous_z_D = problem.prox(near(z_D if rng.random() < 0.7 else problem.solution), 1.0)
    memory_MD, previous_MD = near(tracked(problem, z_D)), near(tracked(problem, previous_z_D))
    known_D, previous_D = (m.mean(axis=0) if exact_down else near(m.mean(axis=0)) for m in (memory_MD, previous_MD))
    return State(z_D, previous_z_D, memory_MD, previous_MD, known_D, previous_D)


def excess(problem: Any, method: Innovations, rng: np.random.Generator) -> float:
    """(E Psi+ - (1 - gamma mu / 2) Psi) / Psi, at most 0 by the theorem; every support of Rand-1 is enumerated."""
    one_sided = method.down == EXACT
    state = random_state(problem, rng, one_sided)
    before = potential(problem, method, state)
    if before == 0.0:
        return 0.0
    assert square(state.z_D - problem.solution) <= 2 * before * (1 + 1e-12)
    after = np.mean([potential(problem, variant, step(problem, variant, state)) for variant in variants(problem, method)])
    return float(after / before - (1 - method.step_size * problem.constants.strong_monotonicity / 2))


def variants(problem: Problem, method: Innovations) -> Iterator[Innovations]:
    if not isinstance(method.up, UnscaledRandK):
        yield method
        return
    workers, two_sided = range(problem.num_workers), method.down != EXACT
    for chosen in itertools.product(range(problem.dimension), repeat=problem.num_workers + two_sided):
        given = Given(dict(zip([*workers, SERVER], chosen, strict=False)))
        yield dataclasses.replace(method, up=given, down=given if two_sided else EXACT)


SIDES: dict[str, tuple[Any, Any, int]] = {
    "grid": (Grid(), Grid(step=0.5), 300),
    "grid_fitted": (Grid(step=0.5, fit=1.0), Grid(step=0.5, fit=0.6), 300),  # what grids that set themselves come to
    "grid_dead": (Grid(fit=1.0), Grid(step=0.5, fit=1.0, dead=0.65), 300),
    "grid_up": (Grid(), EXACT, 300),
    "grid_down": (EXACT, Grid(), 300),
    "top": (TopK(k=1), TopK(k=1), 300),
    "lag": (Shrink(0.5), Shrink(0.3), 300),
    "fine": (Shrink(0.99), EXACT, 300),
    "exact": (EXACT, EXACT, 300),
    "rand": (UnscaledRandK(k=1), EXACT, 25),
    "rand_both": (UnscaledRandK(k=1), UnscaledRandK(k=1), 8),
}


@pytest.mark.parametrize("name", sorted(GAMES))
@pytest.mark.parametrize("sides", sorted(SIDES))
def test_it_contracts_in_one_step(name: str, sides: str) -> None:
    up, down, count = SIDES[sides]
    game, rng = GAMES[name], np.random.default_rng(0)
    method = innovations(game, up=up, down=down)
    for _ in range(count):
        assert excess(game, method, rng) <= 1e-11


@pytest.mark.parametrize("price", [0.05, 0.4])
@pytest.mark.parametrize("sides", ["grid", "grid_dead", "grid_up", "top", "exact"])
def test_it_contracts_in_one_step_with_a_prox_and_a_common_part(
    sides: str, price: float, tiny_robust: RobustLogisticRegression
) -> None:
    up, down, _ = SIDES[sides]
    robust = dataclasses.replace(tiny_robust, sample_regularisation=price)
    method, rng = innovations(robust, up=up, down=down), np.random.default_rng(1)
    assert isinstance(method, Innovations)
    assert method.common is not None
    for _ in range(40):
        assert excess(robust, method, rng) <= 1e-11


def test_the_inequality_tells_right_from_wrong() -> None:
    game, rng = GAMES["mixed"], np.random.default_rng(2)
    method = innovations(game, up=Shrink(0.5), down=EXACT)
    wrong = dataclasses.replace(method, step_size=60 * method.step_size)
    assert max(excess(game, wrong, rng) for _ in range(300)) > 1e-3


@pytest.mark.parametrize(("up", "down"), [(EXACT, EXACT), (Grid(step=0.02), EXACT), (Grid(step=0.02), Grid(step=0.02))])
def test_the_proven_rate_is_met(up: Any, down: Any, wire: LoopbackWire) -> None:
    game = BilinearGame(n=4, num_workers=3, regularisation=0.5, heterogeneity=0.3)
    method = innovations(game, up=up, down=down)
    proven = -math.log(1 - method.step_size * 0.5 / 2)
    count = math.ceil(20 / proven)
    outcome = simulate(game, method, seed=0, stop=Stop(max_iterations=count, every=count // 2), wire=wire)
    middle, last = (record.merits["relative_error"] for record in outcome.history[:2])
    assert 2 * math.log(middle / last) >= proven * (count // 2)


# --- its limits ------------------------------------------------------------------------------------------------------


def spectral_radius(gamma: float, mu: float, factor: float) -> float:
    """Of the method with C = factor x, C_s = identity on F(x, y) = (mu x + y, mu y - x), as one complex recursion."""
    slope = complex(mu, -1.0)  # F z = slope z; state (z, h, h_previous) with h+ = (1 - factor) h + factor F z
    matrix = np.array(
        [[1 - 2 * gamma * factor * slope, -2 * gamma * (1 - factor) + gamma], [factor * slope, 1 - factor]], dtype=complex
    )
    return float(np.abs(np.linalg.eigvals(matrix)).max())


@pytest.mark.parametrize("mu", [1e-1, 1e-2, 1e-3])
def test_a_lagging_compressor_needs_steps_of_order_mu(mu: float) -> None:
    assert spectral_radius(1.5 * mu, mu, 0.5) < 1 < spectral_radius(3 * mu, mu, 0.5)
    assert spectral_radius(0.3, mu, 1.0) < 1  # uncompressed


def test_without_strong_monotonicity_a_lagging_compressor_diverges_at_every_step() -> None:
    assert all(spectral_radius(10.0**-e, 0.0, 0.5) > 1 for e in range(5))
    assert spectral_radius(0.1, 0.0, 0.9) < 1  # an alpha of 0.99 lags by a ninth


@dataclasses.dataclass(frozen=True)
class Noisy:
    """A game whose operators carry Gaussian noise of this size in every coordinate, a function of round and worker."""

    inner: BilinearGame
    sigma: float

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def operator(self, worker: int) -> Any:
        exact = self.inner.operator(worker)

        def noisy(z_D: Vector, draws: Draws) -> Vector:
            noise_D = np.random.default_rng([draws.round, worker]).standard_normal(len(z_D))
            return exact(z_D, draws) + self.sigma * noise_D

        return noisy


def floor(game: BilinearGame, sigma: float, up: Any, down: Any, wire: LoopbackWire) -> float:
    """The root mean square of the relative error over the second half of a long run."""
    method = innovations(game, up=up, down=down, step_size=0.3 / game.constants.lipschitz)
    stop = Stop(max_iterations=800)
    history = simulate(Noisy(game, sigma), method, seed=0, stop=stop, wire=wire).history  # type: ignore[arg-type]
    return math.sqrt(np.mean([record.merits["relative_error"] ** 2 for record in history[400:]]))


def test_a_stochastic_oracle_leaves_a_floor_of_the_order_of_its_noise(wire: LoopbackWire) -> None:
    """Grids scale with what they are given, so the floor is proportional to the noise, and a few times the uncompressed one."""
    game = BilinearGame(n=4, num_workers=3, regularisation=0.3, heterogeneity=0.3)
    coarse, fine = (floor(game, sigma, Grid(), Grid(step=0.5), wire) for sigma in (1e-2, 1e-3))
    assert coarse / fine == pytest.approx(10.0, rel=0.2)
    assert 1.0 <= coarse / floor(game, 1e-2, EXACT, EXACT, wire) <= 4.0


def test_theory_needs_strong_monotonicity(game: BilinearGame) -> None:
    merely = dataclasses.replace(game.constants, strong_monotonicity=0.0)

    class Merely:
        name, dimension, num_workers, constants, prox = "merely", 20, 4, merely, staticmethod(game.prox)

    with pytest.raises(ConfigError, match="no proven step for a merely monotone problem"):
        innovations(Merely(), up=Grid(), down=Grid())  # type: ignore[arg-type]
