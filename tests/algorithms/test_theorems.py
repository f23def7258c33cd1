"""The proven inequalities, with their own constants: masha.md, sections 9.2 and 9.4.

At small D every outcome of the draws is enumerated, so an expectation here is exact.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from saddlebag.algorithms import Masha1, Masha2, Problem, Stop, form_means, masha1, masha2, simulate
from saddlebag.algorithms.methods.masha.anchor import AnchoredReplica
from saddlebag.algorithms.methods.masha.masha1 import Masha1Server, Masha1Worker
from saddlebag.algorithms.methods.masha.masha2 import Masha2Server, Masha2Worker
from saddlebag.algorithms.problems import BilinearGame, RobustLogisticRegression
from saddlebag.compression import SERVER, Dense, Draws, Identity, Payload, RandK, TopK, UnscaledRandK, Vector
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDING = 1e-12  # relative; sums of some hundred outcomes in float64
FULL, EXACT = Identity(), Identity(dtype="float64")
RAND, UNSCALED = RandK(k=1), UnscaledRandK(k=1)


@dataclasses.dataclass(frozen=True)
class Given:
    """Rand-k (scale D/K) or its unscaled form (scale 1) at supports that the test chooses, without rounding."""

    index_K: dict[int, npt.NDArray[np.int64]]
    scale: float

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        value_D, index_K = np.zeros(len(x_D)), self.index_K[draws.worker]
        value_D[index_K] = self.scale * x_D[index_K]
        return Dense(value_D)

    def bits(self, d: int) -> float:
        raise NotImplementedError

    def omega(self, d: int) -> float:
        return RAND.omega(d)

    def alpha(self, d: int) -> float:
        return UNSCALED.alpha(d)


def every_support(dimension: int, num_senders: int) -> Iterator[tuple[npt.NDArray[np.int64], ...]]:
    """The outcomes of independent supports of one coordinate, all equally likely."""
    yield from itertools.product([np.array([i]) for i in range(dimension)], repeat=num_senders)


def flipped(method: Any, outcome: bool) -> Draws:
    """Draws in which the coin falls as asked."""
    return next(draws for draws in (Draws(0, r, SERVER) for r in range(1000)) if draws.coin(method.probability) == outcome)


@dataclasses.dataclass(frozen=True)
class State:
    replica: AnchoredReplica
    workers: tuple[Any, ...]
    server: Any


def one_round(problem: Problem, method: Any, state: State, draws: Draws) -> State:
    """An ordinary round from any state, and after it the extra round of the 'next' rule is not needed: w is known."""
    workers, ups = [], []
    for worker, own in enumerate(state.workers):
        own, up = method.worker_step(state.replica, own, problem.operator(worker), draws.of(worker))
        workers.append(own)
        ups.append(up)
    sizes = method.uplink_sizes(state.replica, draws)
    server, down = method.server_step(state.replica, state.server, form_means(sizes, iter(ups), len(ups)), draws)
    return State(method.replay(state.replica, down, draws), tuple(workers), server)


def expected(problem: Problem, method: Any, state: State, lyapunov: Any, scale: float, *, two_sided: bool) -> float:
    """E Psi after one round, over the coin and all supports of the workers (and the server)."""
    senders = [*range(problem.num_workers), SERVER]
    p, total, count = method.probability, 0.0, 0
    for chosen in every_support(problem.dimension, len(senders) if two_sided else problem.num_workers):
        given = Given(dict(zip(senders, chosen, strict=False)), scale)
        fixed = dataclasses.replace(method, up=given, down=given if two_sided else EXACT)
        for outcome, weight in ((True, p), (False, 1 - p)):
            total += weight * lyapunov(one_round(problem, fixed, state, flipped(fixed, outcome)))
        count += 1
    return total / count


def operators_at(problem: Problem, w_D: Vector) -> list[Vector]:
    return [problem.operator(worker)(w_D, Draws(0, 0)) for worker in range(problem.num_workers)]


def points(problem: Problem, rng: np.random.Generator) -> tuple[Vector, Vector]:
    """z and w, feasible, on any scale around z*; sometimes one of them is z*, or both are equal."""
    star_D = problem.solution  # type: ignore[attr-defined]
    z_D, w_D = (star_D + 10.0 ** rng.uniform(-2, 1) * rng.standard_normal(problem.dimension) for _ in range(2))
    z_D, w_D = [(z_D, w_D), (star_D, w_D), (z_D, star_D), (z_D, z_D)][rng.choice(4, p=[0.7, 0.1, 0.1, 0.1])]
    return problem.prox(z_D, 1.0), problem.prox(w_D, 1.0)


def square(x_D: Vector) -> float:
    return float(x_D @ x_D)


# --- 9.2 -------------------------------------------------------------------------------------------------------------

GAMES = {
    "balanced": BilinearGame(n=2, num_workers=2, regularisation=0.3),
    "hard": BilinearGame(n=2, num_workers=2, regularisation=0.05, heterogeneity=1.5, seed=4),
    "rotation": BilinearGame(n=2, num_workers=2, regularisation=0.005, heterogeneity=0.1),
}


def masha1_state(problem: Problem, rng: np.random.Generator) -> State:
    z_D, w_D = points(problem, rng)
    known = operators_at(problem, w_D)
    mean_D = np.mean(known, axis=0)
    replica = AnchoredReplica(z_D, w_D, mean_D, iteration=3, syncing=False)
    return State(replica, tuple(map(Masha1Worker, known)), Masha1Server(mean_D))


def masha1_excess(problem: Problem, method: Masha1, rng: np.random.Generator, scale: float, *, two_sided: bool) -> float:
    """(E Psi+ - (1 - gamma mu / 2) Psi) / Psi: at most 0 by the theorem."""
    star_D, mu = problem.solution, problem.constants.strong_monotonicity  # type: ignore[attr-defined, union-attr]
    weight = 1.0 if method.rule == "current" else 1.0 - method.probability

    def lyapunov(state: State) -> float:
        return weight * square(state.replica.z_D - star_D) + square(state.replica.w_D - star_D)

    state = masha1_state(problem, rng)
    before = lyapunov(state)
    after = expected(problem, method, state, lyapunov, scale, two_sided=two_sided)
    return (after - (1 - method.step_size * mu / 2) * before) / before


each_rule = pytest.mark.parametrize("rule", ["current", "next"])


@each_rule
@pytest.mark.parametrize("two_sided", [False, True], ids=["one_sided", "two_sided"])
@pytest.mark.parametrize("name", sorted(GAMES))
@pytest.mark.parametrize("probability", [0.05, 0.25, 0.5])
def test_masha1_contracts_in_one_step(rule: Any, two_sided: bool, name: str, probability: float) -> None:
    game, rng = GAMES[name], np.random.default_rng(0)
    method = masha1(game, up=RAND, down=RAND if two_sided else FULL, probability=probability, rule=rule)
    for _ in range(8 if two_sided else 25):
        assert masha1_excess(game, method, rng, 4.0, two_sided=two_sided) <= ROUNDING


@each_rule
def test_masha1_contracts_in_one_step_with_a_prox(rule: Any, tiny_robust: RobustLogisticRegression) -> None:
    rng = np.random.default_rng(1)
    method = masha1(tiny_robust, up=RAND, down=FULL, rule=rule)
    for _ in range(10):
        assert masha1_excess(tiny_robust, method, rng, 6.0, two_sided=False) <= ROUNDING


@each_rule
def test_masha1_inequality_tells_right_from_wrong(rule: Any) -> None:
    def worst(factor: float, scale: float) -> float:
        game, rng = GAMES["rotation"], np.random.default_rng(2)
        method = masha1(game, up=RAND, down=FULL, probability=0.5, rule=rule)
        method = dataclasses.replace(method, step_size=factor * method.step_size)
        return max(masha1_excess(game, method, rng, scale, two_sided=False) for _ in range(40))

    assert worst(1.0, 4.0) <= ROUNDING
    assert worst(4.0, 4.0) > 1e-3  # a step that is too large
    assert worst(1.0, 1.0) > 1e-3  # Rand-k without D/K


# --- 9.4 -------------------------------------------------------------------------------------------------------------


def masha2_state(problem: Problem, rng: np.random.Generator) -> State:
    """Any points, with memories on any scale beside them."""
    plain, size = masha1_state(problem, rng), 10.0 ** rng.uniform(-3, 0.5)
    memories = size * rng.standard_normal((problem.num_workers + 1, problem.dimension))
    memories[rng.random(len(memories)) < 0.2] = 0.0
    workers = tuple(Masha2Worker(own.operator_w_D, e_D) for own, e_D in zip(plain.workers, memories[:-1], strict=True))
    return State(plain.replica, workers, Masha2Server(plain.server.operator_w_D, memories[-1]))


def masha2_lyapunov(problem: Problem, delta: float, delta_down: float) -> Callable[[State], float]:
    star_D = problem.solution  # type: ignore[attr-defined]
    one_sided = delta_down == 1.0

    def lyapunov(state: State) -> float:
        memories = [own.memory_D for own in state.workers]
        shadow_D = state.replica.z_D - state.server.memory_D - np.mean(memories, axis=0)
        owed, owed_down = float(np.mean([square(e_D) for e_D in memories])), square(state.server.memory_D)
        weight = 16 * delta if one_sided else 2080 * delta * delta_down**2
        points = square(shadow_D - star_D) + square(state.replica.w_D - star_D)
        return points + weight * owed + (0.0 if one_sided else 32 * delta_down * owed_down)

    return lyapunov


def masha2_excess(game: BilinearGame, method: Masha2, rng: np.random.Generator, delta: float, delta_down: float) -> float:
    two_sided = delta_down != 1.0
    state, lyapunov = masha2_state(game, rng), masha2_lyapunov(game, delta, delta_down)
    if not two_sided:  # an uncompressed downlink never owes
        state = dataclasses.replace(state, server=Masha2Server(state.server.operator_w_D, np.zeros(game.dimension)))
    before = lyapunov(state)
    if isinstance(method.up, TopK):
        p = method.probability
        after = sum(
            weight * lyapunov(one_round(game, method, state, flipped(method, coin)))
            for coin, weight in ((True, p), (False, 1 - p))
        )
    else:
        after = expected(game, method, state, lyapunov, 1.0, two_sided=two_sided)
    return (after - (1 - method.step_size * game.constants.strong_monotonicity / 2) * before) / before


@pytest.mark.parametrize("two_sided", [False, True], ids=["one_sided", "two_sided"])
@pytest.mark.parametrize("name", sorted(GAMES))
@pytest.mark.parametrize("probability", [0.05, 0.5])
def test_masha2_contracts_in_one_step(two_sided: bool, name: str, probability: float) -> None:
    game, rng = GAMES[name], np.random.default_rng(3)
    method = masha2(game, up=UNSCALED, down=UNSCALED if two_sided else FULL, probability=probability)
    for _ in range(8 if two_sided else 25):
        assert masha2_excess(game, method, rng, 4.0, 4.0 if two_sided else 1.0) <= ROUNDING


@pytest.mark.parametrize("two_sided", [False, True], ids=["one_sided", "two_sided"])
@pytest.mark.parametrize("name", sorted(GAMES))
def test_masha2_contracts_in_one_step_with_top_k(two_sided: bool, name: str) -> None:
    game, rng = GAMES[name], np.random.default_rng(4)
    method = masha2(game, up=TopK(k=1), down=TopK(k=1) if two_sided else FULL)
    for _ in range(200):
        assert masha2_excess(game, method, rng, 4.0, 4.0 if two_sided else 1.0) <= ROUNDING


def test_masha2_inequality_tells_right_from_wrong() -> None:
    def worst(factor: float) -> float:
        game, rng = GAMES["hard"], np.random.default_rng(5)
        method = masha2(game, up=UNSCALED, down=FULL, probability=0.5)
        method = dataclasses.replace(method, step_size=factor * method.step_size)
        return max(masha2_excess(game, method, rng, 4.0, 1.0) for _ in range(60))

    assert worst(1.0) <= ROUNDING
    assert worst(20.0) > 1e-3


# --- 13 (h) ----------------------------------------------------------------------------------------------------------

EASY = BilinearGame(n=8, num_workers=4, regularisation=0.15)
RATED: dict[str, Any] = {
    "masha1_rand": masha1(EASY, up=RandK(fraction=0.25), down=FULL),
    "masha1_rand_next": masha1(EASY, up=RandK(fraction=0.25), down=FULL, rule="next"),
    "masha1_rand_two_sided": masha1(EASY, up=RandK(fraction=0.25), down=RandK(fraction=0.5)),
    "masha1_common": masha1(EASY, up=RandK(fraction=0.25, support="common"), down=FULL),
    "masha2_rand": masha2(EASY, up=UnscaledRandK(fraction=0.5), down=FULL),
    "masha2_top": masha2(EASY, up=TopK(fraction=0.5), down=FULL),
}


@pytest.mark.parametrize("name", sorted(RATED))
def test_seen_rate_is_about_twice_the_proven_one(name: str) -> None:
    method = RATED[name]
    proven = -math.log(1 - method.step_size * EASY.constants.strong_monotonicity / 2)
    count = round(30 / (2 * proven))  # enough for e^-30 of the squared error at twice the rate
    outcome = simulate(EASY, method, seed=0, stop=Stop(max_iterations=count, every=count // 2), wire=LoopbackWire())
    middle, last = (record.merits["relative_error"] for record in outcome.history[:2])
    iterations = outcome.history[1].iteration - outcome.history[0].iteration
    seen = 2 * math.log(middle / last) / iterations
    # masha.md, section 9.6: 2 in the slow direction, a little more while faster ones die out; one run's noise
    assert 1.7 <= seen / proven <= 2.4


def test_given_compressors_meet_both_definitions() -> None:
    assert Masha1(step_size=1, probability=0.5, up=Given({}, 1), down=EXACT)
    assert Masha2(step_size=1, probability=0.5, up=Given({}, 1), down=EXACT)
    with pytest.raises(ConfigError):
        Masha1(step_size=1, probability=0.5, up=UNSCALED, down=EXACT)
