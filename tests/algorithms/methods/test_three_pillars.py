"""Three Pillars: its Lyapunov function over every deal and every choice of workers, and rounds that depend on s, not on L."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import ThreePillars, form_means, make_method, ogda, simulate, three_pillars
from saddlebag.algorithms.methods.three_pillars import PillarsReplica, PillarsServer, PillarsWorker, similarity_noise
from saddlebag.algorithms.problems import BilinearGame, quadratic
from saddlebag.algorithms.simulate import Stop
from saddlebag.compression import Draws, Identity, Natural, PermK, RandK, Vector
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

FULL, EXACT = Identity(), Identity(dtype="float64")
GAMES = {
    "similar": BilinearGame(n=2, num_workers=2, regularisation=0.1, heterogeneity=0.1),
    "hard": BilinearGame(n=2, num_workers=2, regularisation=0.05, heterogeneity=1.0, seed=4),
    "three": BilinearGame(n=2, num_workers=3, regularisation=0.1, heterogeneity=0.3),
}


def square(x_D: Vector) -> float:
    return float(x_D @ x_D)


def one_round(problem: Any, method: Any, state: Any, draws: Draws, active: tuple[int, ...]) -> Any:
    replica, workers, server = state
    steps = {m: method.worker_step(replica, workers[m], problem.operator(m), draws.of(m)) for m in active}
    sizes = method.uplink_sizes(replica, draws)
    means = form_means(sizes, iter([up for _, up in steps.values()]), len(steps))
    own, down = method.server_step(replica, server, means, draws)
    return method.replay(replica, down, draws), tuple(steps.get(m, (workers[m], None))[0] for m in range(len(workers))), own


def outcomes(problem: Any, method: Any, count: int | None) -> Any:
    """(weight, method, draws, participants) of every outcome: the coin, and a deal of half of the coordinates or a subset."""
    m, p = problem.num_workers, method.probability
    coins = [next(d for d in (Draws(0, r) for r in range(1000)) if d.coin(p) == side) for side in (True, False)]
    deals = list(itertools.combinations(range(problem.dimension), problem.dimension // 2))
    for draws, weight in zip(coins, (p, 1 - p), strict=True):
        if count is None:
            for deal in deals:
                yield (
                    weight / len(deals),
                    dataclasses.replace(method, up=dataclasses.replace(method.up, first=deal)),
                    draws,
                    tuple(range(m)),
                )
        else:
            subsets = list(itertools.combinations(range(m), m if draws.coin(p) else count))
            for subset in subsets:
                yield weight / len(subsets), dataclasses.replace(method, up=EXACT), draws, subset


@pytest.mark.parametrize(("name", "count"), [("similar", None), ("hard", None), ("prox", None), ("three", 1), ("three", 2)])
@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_one_round_contracts_as_proven(name: str, count: int | None, probability: float, tiny_robust: Any, dealt: Any) -> None:
    problem: Any = tiny_robust if name == "prox" else GAMES[name]
    if name == "prox":
        known = dataclasses.replace(problem.constants, similarity=max(problem.constants.lipschitz_workers) + 1.0)
        problem = WithConstants(problem, known)
    rng, m = np.random.default_rng(6), problem.num_workers
    up: Any = dealt if count is None else EXACT
    method = three_pillars(problem, up=up, down=FULL, probability=probability, participants=count, wire="float64")
    eta, p, s, star_D = method.step_size, probability, problem.constants.similarity, problem.solution
    e = 4 * eta**2 * similarity_noise(problem, up, count) ** 2

    def rest(point_D: Vector) -> Vector:  # G = F - F_1
        values = [problem.operator(worker)(point_D, Draws(0, 0)) for worker in range(m)]
        return np.asarray(np.mean(values, axis=0) - values[0])

    def lyapunov(replica: PillarsReplica) -> float:
        z_D, before_D, w_D = replica.z_D, replica.before_D, replica.w_D
        value = square(z_D - star_D) + (1 - p) * square(w_D - star_D) + e * square(z_D - w_D)
        value -= 2 * eta * method.momentum * float((rest(z_D) - rest(before_D)) @ (z_D - star_D))
        return value + (eta * s + e) * square(z_D - before_D)

    for _ in range(3 if name == "prox" else 6):
        sizes = 10.0 ** rng.uniform(-2, 1, 3)
        points = [problem.prox(star_D + size * rng.standard_normal(problem.dimension), 1.0) for size in sizes]
        at = [[problem.operator(worker)(point_D, Draws(0, 0)) for worker in range(m)] for point_D in points]
        replica = PillarsReplica(points[0], points[1], points[2], 3, False)
        workers = tuple(PillarsWorker(at[2][worker], at[1][worker], at=2) for worker in range(m))
        state = (replica, workers, PillarsServer(np.mean(at[2], axis=0), at[1][0]))
        after = sum(
            weight * lyapunov(one_round(problem, each, state, draws, active)[0])
            for weight, each, draws, active in outcomes(problem, method, count)
        )
        assert lyapunov(replica) >= 7 / 8 * square(points[0] - star_D)
        assert after <= lyapunov(replica) * method.momentum * (1 + 1e-9)


@dataclasses.dataclass(frozen=True)
class WithConstants:
    """A problem whose constants the test knows better."""

    problem: Any
    constants: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.problem, name)


def test_noise_is_that_of_similarity() -> None:
    game = GAMES["three"]
    s = game.constants.similarity
    assert s is not None
    assert similarity_noise(game, PermK(workers=3)) == pytest.approx(math.sqrt(12 / 7) * s)
    assert similarity_noise(game, FULL, 1) == pytest.approx(math.sqrt(12 / 7) * s)  # one client: (M-1)/((M-1) 1)
    assert similarity_noise(game, FULL, 2) == pytest.approx(math.sqrt(12 / 7 / 4) * s)
    assert similarity_noise(game, FULL) == 0.0


def rounds(problem: Any, method: Any, merit: float = 1e-6) -> Any:
    outcome = simulate(problem, method, seed=0, stop=Stop(merit=merit, max_iterations=8000), wire=LoopbackWire())
    assert outcome.reason == "merit"
    return outcome


def test_similar_workers_beat_optimistic_gradient_at_the_proven_step() -> None:
    game = BilinearGame(n=20, num_workers=10, regularisation=0.02, heterogeneity=0.05)
    other = rounds(game, ogda(game), 1e-4)
    perm = rounds(game, three_pillars(game, up=PermK(workers=10), down=FULL), 1e-4)
    single = rounds(game, three_pillars(game, up=FULL, down=FULL, participants=1), 1e-4)
    assert perm.up_bytes < 0.3 * other.up_bytes
    assert single.up_bytes < 0.4 * other.up_bytes
    assert single.down_bytes < perm.down_bytes


def test_rounds_depend_on_similarity_and_not_on_the_lipschitz_constant() -> None:
    def needed(lipschitz: float) -> int:
        params: dict[str, Any] = {"num_workers": 4, "strong_monotonicity": 0.5, "similarity": 0.05, "seed": 1}
        problem = quadratic(None, lipschitz=lipschitz, **params)
        return int(rounds(problem, three_pillars(problem, up=PermK(workers=4), down=FULL)).rounds)

    assert needed(50.0) <= 1.5 * needed(5.0)


def test_more_local_steps_are_not_more_rounds() -> None:
    game = BilinearGame(n=6, num_workers=3, regularisation=0.2, heterogeneity=0.1)
    base = three_pillars(game, up=PermK(workers=3), down=FULL)
    exact = dataclasses.replace(base, tolerance=1e-10)
    assert rounds(game, exact).rounds == pytest.approx(rounds(game, base).rounds, rel=0.1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"up": RandK(k=1), "down": Natural()}, "sends the iterate in full and takes no compressor down"),
        ({"up": PermK(workers=4), "down": FULL, "participants": 2}, "needs all workers in every round for PermK"),
        ({"up": FULL, "down": FULL, "participants": 0}, "participants must be at least 1, got 0"),
        ({"up": FULL, "down": FULL, "tolerance": 0.0}, "tolerance must be positive and finite, got 0.0"),
        ({"up": FULL, "down": FULL, "local_steps": 0}, "local_steps must be at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(params: dict[str, Any], message: str, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=message):
        three_pillars(game, step_size=0.1, **params)


def test_two_builds_are_equal_though_they_hold_their_own_operator(game: BilinearGame) -> None:
    one, two = (make_method("three_pillars", game, up=RandK(k=2), down=FULL, step_size=0.1) for _ in range(2))
    assert isinstance(one, ThreePillars)
    assert one == two


def test_a_local_solve_that_stops_short_says_so() -> None:
    game = BilinearGame(n=6, num_workers=3, regularisation=0.02, heterogeneity=0.1)
    method = three_pillars(game, up=PermK(workers=3), down=FULL, step_size=20.0, local_steps=2)
    with pytest.warns(RuntimeWarning, match="2 local steps ended short of the tolerance .*; raise local_steps or tolerance"):
        simulate(game, method, seed=0, stop=Stop(max_rounds=4), wire=LoopbackWire())
