"""Optimistic MASHA: its uncompressed form, its Lyapunov function over every draw, and Perm-k on similar workers."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, check_method, form_means, ogda, optimistic_masha, simulate
from saddlebag.algorithms.methods.masha.optimistic_masha import (
    OptimisticReplica,
    OptimisticServer,
    OptimisticWorker,
    optimistic_noise,
)
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws, Identity, Natural, PermK, RandK, TopK, Vector
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

FULL, EXACT, RAND = Identity(), Identity(dtype="float64"), RandK(k=1)
GAMES = {
    "balanced": BilinearGame(n=2, num_workers=2, regularisation=0.3),
    "hard": BilinearGame(n=2, num_workers=2, regularisation=0.05, heterogeneity=1.5, seed=4),
    "similar": BilinearGame(n=2, num_workers=2, regularisation=0.1, heterogeneity=0.02),
}


def mean_operator(problem: Any, point_D: Vector) -> Vector:
    return np.asarray(np.mean([problem.operator(m)(point_D, Draws(0, 0)) for m in range(problem.num_workers)], axis=0))


@pytest.mark.parametrize("sync_grid", [None, 0.5])
@pytest.mark.parametrize("name", ["game", "robust"])
def test_without_compression_it_is_its_uncompressed_form(
    name: str, sync_grid: float | None, request: pytest.FixtureRequest, play: Any
) -> None:
    """Coarse synchronisations change nothing then: what F(w) lacks rides on the difference."""
    problem = request.getfixturevalue(name)
    method = optimistic_masha(
        problem, up=EXACT, down=EXACT, probability=0.3, step_size=0.1, wire="float64", sync_grid=sync_grid
    )
    a, eta, p = method.momentum, 0.1, 0.3
    z_D = before_D = w_D = problem.start()
    for turn in play(problem, method, seed=3, num_rounds=200):
        if turn.replica.syncing:
            continue
        anchor_D, w_D = w_D, z_D if turn.draws.coin(p) else w_D
        slope_D = mean_operator(problem, z_D) + a * (mean_operator(problem, z_D) - mean_operator(problem, before_D))
        before_D, z_D = z_D, problem.prox((1 - p) * z_D + p * w_D - eta * slope_D, eta)
        assert turn.next_replica.z_D == pytest.approx(z_D, rel=0, abs=1e-11)
        del anchor_D  # without compression F(w) cancels


def test_synchronisations_as_innovations_save_bytes_and_converge() -> None:
    game = BilinearGame(n=10, num_workers=4, regularisation=0.2)
    runs = {}
    for sync_grid in (None, 0.5):
        method = optimistic_masha(game, up=Natural(), down=Natural(), probability=0.2, step_size=0.3, sync_grid=sync_grid)
        check_method(method, game, wire=LoopbackWire())
        stop = Stop(merit=1e-6, max_rounds=4000)
        runs[sync_grid] = simulate(game, method, seed=0, stop=stop, wire=LoopbackWire(), keep_history=False)
        assert runs[sync_grid].reason == "merit"
    sent = {key: run.up_bytes + run.down_bytes for key, run in runs.items()}
    assert sent[0.5] < 0.85 * sent[None]
    with pytest.raises(ConfigError, match="exact synchronisations"):
        optimistic_masha(game, up=Natural(), down=Natural(), sync_grid=0.5)


def test_with_an_anchor_at_every_iterate_it_is_optimistic_gradient(game: BilinearGame, play: Any) -> None:
    method = optimistic_masha(game, up=EXACT, down=EXACT, probability=1.0, momentum=1.0, step_size=0.2, wire="float64")
    ones = [t.next_replica.z_D for t in play(game, method, seed=0, num_rounds=101) if not t.replica.syncing]
    others = [t.next_replica.z_D for t in play(game, ogda(game, step_size=0.2, wire="float64"), seed=0, num_rounds=100)]
    for one_D, other_D in zip(ones, others, strict=True):
        assert one_D == pytest.approx(other_D, rel=0, abs=1e-11)


# --- the theorem ------------------------------------------------------------------------------------------------------


def square(x_D: Vector) -> float:
    return float(x_D @ x_D)


def over_deals(problem: Any, method: Any, state: Any, value: Any) -> float:
    """E value over all ways to deal half of the coordinates to each of two workers, and the coin."""
    total, p = 0.0, method.probability
    deals = list(itertools.combinations(range(problem.dimension), problem.dimension // 2))
    coins = [next(d for d in (Draws(0, r) for r in range(1000)) if d.coin(p) == side) for side in (True, False)]
    for deal, (draws, weight) in itertools.product(deals, zip(coins, (p, 1 - p), strict=True)):
        fixed = dataclasses.replace(method, up=dataclasses.replace(method.up, first=deal), down=EXACT)
        steps = [fixed.worker_step(state.replica, own, problem.operator(m), draws.of(m)) for m, own in enumerate(state.workers)]
        sizes = fixed.uplink_sizes(state.replica, draws)
        server, down = fixed.server_step(state.replica, state.server, form_means(sizes, iter([u for _, u in steps]), 2), draws)
        after = type(state)(fixed.replay(state.replica, down, draws), tuple(own for own, _ in steps), server)
        total += weight * value(after) / len(deals)
    return total


def lyapunov_of(problem: Any, method: Any, noise: float) -> Any:
    eta, p, lipschitz = method.step_size, method.probability, problem.constants.lipschitz
    e = 4 * eta**2 * noise**2

    def lyapunov(found: Any) -> float:
        z_D, w_D = found.replica.z_D, found.replica.w_D
        # what the workers hold is F_m at the iterate before, whose mean is F there
        change_D = mean_operator(problem, z_D) - np.mean([own.operator_z_D for own in found.workers], axis=0)
        value = square(z_D - problem.solution) + (1 - p) * square(w_D - problem.solution) + e * square(z_D - w_D)
        value -= 2 * eta * method.momentum * float(change_D @ (z_D - problem.solution))
        return value + (eta * lipschitz + e) * square(z_D - found.before_D)

    return lyapunov


@dataclasses.dataclass(frozen=True)
class Stepped:
    """A state that remembers the iterate before."""

    replica: Any
    workers: tuple[Any, ...]
    server: Any
    before_D: Vector


@pytest.mark.parametrize("kind", ["perm", "rand", "rand_two_sided"])
@pytest.mark.parametrize("name", [*sorted(GAMES), "prox"])
@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_one_step_contracts_as_proven(
    kind: str, name: str, probability: float, tiny_robust: Any, state: Any, expectation: Any, dealt: Any
) -> None:
    problem, rng = (tiny_robust if name == "prox" else GAMES[name]), np.random.default_rng(5)
    if name == "prox" and kind == "rand_two_sided":
        pytest.skip("6^3 supports of a slow operator")
    up: Any = dealt if kind == "perm" else RAND
    down: Any = RAND if kind == "rand_two_sided" else FULL
    method = optimistic_masha(problem, up=up, down=down, probability=probability)
    lyapunov = lyapunov_of(problem, method, optimistic_noise(problem, up, down))
    for _ in range(2 if name == "prox" else 6):
        # the iterate before is what z was: build it by hand, for a state does not hold it
        size = 10.0 ** rng.uniform(-2, 1, 3)
        z_D, before_D, w_D = (
            problem.prox(problem.solution + s * rng.standard_normal(len(problem.solution)), 1.0) for s in size
        )
        values = [[problem.operator(m)(point_D, Draws(0, 0)) for m in range(2)] for point_D in (w_D, before_D)]
        workers = tuple(OptimisticWorker(*pair) for pair in zip(*values, strict=True))
        mean_D = np.mean(values[0], axis=0)
        given = state(OptimisticReplica(z_D, w_D, mean_D, 3, False), workers, OptimisticServer(mean_D))
        now = lyapunov(Stepped(given.replica, given.workers, given.server, before_D))

        def after(found: Any, z_D: Vector = z_D) -> float:
            return float(lyapunov(Stepped(found.replica, found.workers, found.server, z_D)))

        if kind == "perm":
            mean = over_deals(problem, method, given, after)
        else:
            mean = expectation(problem, method, given, after, scale=float(len(z_D)), two_sided=kind == "rand_two_sided")
        assert now >= 7 / 8 * square(z_D - problem.solution)
        assert mean <= now * method.momentum * (1 + 1e-12)


def test_noise_constants_are_the_formulas() -> None:
    game = BilinearGame()
    constants = game.constants
    square_l, s = constants.lipschitz**2, constants.similarity
    assert s is not None
    assert optimistic_noise(game, PermK(workers=10), FULL) == pytest.approx(s)
    rand = optimistic_noise(game, RandK(k=10), FULL) ** 2  # omega = 9, M = 10
    assert rand == pytest.approx(0.9 * min(s**2 + square_l, constants.lipschitz_rms**2))
    assert optimistic_noise(game, RandK(k=10, support="common"), FULL) ** 2 == pytest.approx(9 * square_l)
    natural = optimistic_noise(game, PermK(workers=10), Natural()) ** 2
    assert natural == pytest.approx(9 / 8 * s**2 + square_l / 8)
    assert optimistic_noise(game, FULL, FULL) == 0.0


# --- whole runs -------------------------------------------------------------------------------------------------------


def test_it_converges_linearly_at_the_proven_step_and_rate() -> None:
    game = BilinearGame(n=8, num_workers=4, regularisation=0.3, heterogeneity=0.2)
    method = optimistic_masha(game, up=PermK(workers=4), down=FULL)
    assert method.probability == 0.25
    count = math.ceil(40 / -math.log(method.momentum))
    stop = Stop(max_iterations=count, every=count)
    outcome = simulate(game, method, seed=0, stop=stop, wire=LoopbackWire())
    # E|z^K - z*|^2 <= (16/7) r^-K |z^0 - z*|^2: e^-40; one run, with a factor of 100 for its luck
    assert outcome.history[-1].merits["relative_error"] ** 2 <= 100 * 16 / 7 * math.exp(-40)


def test_identical_workers_have_no_noise_under_perm_k() -> None:
    game = BilinearGame(n=8, num_workers=4, regularisation=0.1, heterogeneity=0.0)
    assert optimistic_noise(game, PermK(workers=4), FULL) < 1e-12
    stop = Stop(max_iterations=300, every=1)
    params: dict[str, Any] = {"down": EXACT, "probability": 0.25, "step_size": 0.1, "wire": "float64"}
    perm, full = (
        simulate(game, optimistic_masha(game, up=up, **params), seed=0, stop=stop, wire=LoopbackWire())
        for up in (PermK(workers=4), EXACT)
    )
    # Perm-k's values travel as float32: its rounding is all the noise there is
    assert np.linalg.norm(perm.replica.z_D - full.replica.z_D) <= 1e-6 * np.linalg.norm(full.replica.z_D)


def test_similar_workers_need_far_fewer_bytes_up_than_optimistic_gradient() -> None:
    game = BilinearGame(n=50, num_workers=10, regularisation=0.02, heterogeneity=0.02)
    method = optimistic_masha(game, up=PermK(workers=10), down=FULL, step_size=0.5 / game.constants.lipschitz)
    stop = Stop(merit=1e-3, max_iterations=6000)
    one, other = (simulate(game, m, seed=0, stop=stop, wire=LoopbackWire()) for m in (method, ogda(game)))
    assert (one.reason, other.reason) == ("merit", "merit")
    assert one.up_bytes < 0.6 * other.up_bytes


@pytest.mark.parametrize(
    ("up", "down", "message"),
    [
        (TopK(k=1), FULL, "optimistic_masha needs an unbiased compressor up, got TopK"),
        (RAND, PermK(workers=4), "optimistic_masha cannot compress the downlink with PermK"),
        (PermK(workers=3), FULL, r"perm_k.workers is 3, but 4 workers take part"),
    ],
)
def test_what_does_not_fit_is_refused(up: Any, down: Any, message: str, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=message):
        optimistic_masha(game, up=up, down=down)


def test_a_large_probability_has_no_theory(game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=r"theory needs probability <= 1/2, got 0\.9"):
        optimistic_masha(game, up=RAND, down=FULL, probability=0.9)
