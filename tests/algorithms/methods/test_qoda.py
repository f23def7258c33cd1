"""Quantised optimistic dual averaging: the regret of every path, the step that sets itself, gaps with noise and without."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, make_method, simulate
from saddlebag.algorithms.methods.qoda import Qoda, qoda
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws, Identity, Natural, RandK, TopK, Vector
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.proto.codec import LoopbackWire

FULL, RAND = Identity(), RandK(k=2)


@dataclasses.dataclass(frozen=True)
class Path:
    """z_t, V_t and x_t of a run, (T, D), and z_1."""

    z_TD: Any
    value_TD: Any
    plain_TD: Any
    start_D: Vector

    def excess(self, z_D: Vector, step_size: float) -> float:
        """Left side of the theorem less its right side, at z."""
        before_TD = np.vstack([np.zeros_like(z_D), self.value_TD[:-1]])
        change_T = np.sum((self.value_TD - before_TD) ** 2, axis=1)
        total, gamma_T = 1 + change_T.sum(), step_size / np.sqrt(1 + np.cumsum(change_T) - change_T)
        regret = np.sum(self.value_TD * (self.z_TD - z_D))
        right = np.sum((z_D - self.start_D) ** 2) * np.sqrt(total) / (2 * step_size)
        right += step_size * (np.sqrt(total) - 1 + change_T.max() / 2)
        right -= np.sum(np.sum((self.z_TD - self.plain_TD) ** 2, axis=1) / (2 * gamma_T))
        return float((regret - right) / (abs(right) + abs(regret)))


def path_of(problem: Any, method: Any, play: Any, count: int) -> Path:
    z, values, plain = [], [], []
    for turn in play(problem, method, seed=3, num_rounds=count):
        z.append(turn.replica.z_D)
        values.append(turn.down.parts[0].dense())
        gamma = method.step_size / np.sqrt(1 + turn.replica.changes)
        plain.append(turn.replica.start_D - gamma * turn.replica.sum_D)
    return Path(*map(np.array, (z, values, plain)), problem.start())


@pytest.mark.parametrize("step_size", [0.02, 1.0, 30.0])
@pytest.mark.parametrize(("up", "down"), [(FULL, FULL), (RAND, FULL), (RAND, Natural())], ids=["none", "up", "both"])
@pytest.mark.parametrize("regularisation", [1e-6, 0.2])
def test_the_regret_is_as_proven_on_every_path(regularisation: float, up: Any, down: Any, step_size: float, play: Any) -> None:
    game = BilinearGame(n=4, num_workers=2, regularisation=regularisation, heterogeneity=0.5)
    path = path_of(game, qoda(game, up=up, down=down, step_size=step_size), play, 80)
    rng = np.random.default_rng(0)
    # the worst z: what the linear left side and the quadratic right side differ most at
    total = 1 + np.sum(np.diff(path.value_TD, axis=0, prepend=0) ** 2)
    worst_D = path.start_D - step_size / np.sqrt(total) * path.value_TD.sum(axis=0)
    others = [game.solution, *(path.start_D + 10.0 ** rng.uniform(-3, 2) * rng.standard_normal(8) for _ in range(50))]
    assert max(path.excess(z_D, step_size) for z_D in (worst_D, *others)) <= 1e-9


def test_the_regret_holds_for_values_of_an_enemy() -> None:
    """No operator at all: jumps by factors of a million, repeated signs, silence."""
    rng, count, d = np.random.default_rng(1), 40, 3
    for _ in range(200):
        method = Qoda(step_size=float(10.0 ** rng.uniform(-2, 2)), up=FULL, down=FULL)
        scale_T = 10.0 ** rng.uniform(-3, 3, count) * (rng.random(count) < 0.8)
        value_TD = scale_T[:, None] * (
            rng.standard_normal((count, d)) if rng.random() < 0.5 else rng.choice([-1, 1], (count, d))
        )
        replica, z, plain = method.init_replica(rng.standard_normal(d)), [], []
        start_D = replica.z_D
        for number, value_D in enumerate(value_TD):
            z.append(replica.z_D)
            plain.append(start_D - method.step_size / np.sqrt(1 + replica.changes) * replica.sum_D)
            draws = Draws(0, number)
            _, down = method.server_step(replica, method.init_server(replica), (Exactly(value_D),), draws)  # type: ignore[arg-type]
            replica = method.replay(replica, down, draws)
        path = Path(np.array(z), value_TD.astype(np.float32).astype(float), np.array(plain), start_D)
        total = 1 + np.sum(np.diff(path.value_TD, axis=0, prepend=0) ** 2)
        worst_D = start_D - method.step_size / np.sqrt(total) * path.value_TD.sum(axis=0)
        assert path.excess(worst_D, method.step_size) <= 1e-6


@dataclasses.dataclass(frozen=True)
class Exactly:
    """A mean of the workers' values."""

    value_D: Vector

    def compress(self, down: Any, draws: Draws) -> Any:
        return down.encode(self.value_D, draws)


class Bold(Qoda):
    """A step that does not shrink."""

    def replay(self, replica: Any, down: Any, draws: Draws) -> Any:
        after = super().replay(replica, down, draws)
        z_D = replica.start_D - self.step_size * (after.sum_D + after.before_D)
        return dataclasses.replace(after, z_D=z_D)


def test_the_inequality_tells_right_from_wrong(play: Any) -> None:
    game = BilinearGame(n=4, num_workers=2, regularisation=1e-6, heterogeneity=0.5)
    path = path_of(game, Bold(step_size=1.0, up=FULL, down=FULL), play, 60)
    total = 1 + np.sum(np.diff(path.value_TD, axis=0, prepend=0) ** 2)
    worst_D = path.start_D - 1.0 / np.sqrt(total) * path.value_TD.sum(axis=0)
    assert path.excess(worst_D, 1.0) > 1e-2


def test_without_noise_steps_stay_and_the_solution_is_reached(wire: LoopbackWire) -> None:
    game = BilinearGame(n=10, num_workers=4, regularisation=0.2)
    run = simulate(
        game, make_method("qoda", game, up=FULL, down=FULL), seed=0, stop=Stop(merit=1e-5, max_iterations=4000), wire=wire
    )
    assert run.reason == "merit"
    assert run.replica.changes < 1e3  # so gamma stays above a thirtieth of its start, for ever


def test_the_gap_of_a_rotation_falls_as_one_over_the_root_of_rounds_under_noise(play: Any) -> None:
    """mu is nothing; sixteen times the rounds at least halve |F| at the mean of the points (a quarter, but for luck)."""
    game = BilinearGame(n=4, num_workers=2, regularisation=1e-9, heterogeneity=0.5)
    path = path_of(game, qoda(game, up=RAND, down=FULL), play, 3200)

    def residual(count: int) -> float:
        mean_D = path.z_TD[:count].mean(axis=0)
        return float(np.linalg.norm(np.mean([game.operator(m)(mean_D, Draws(0, 0)) for m in range(2)], axis=0)))

    assert residual(3200) < 0.5 * residual(200)


def test_what_does_not_fit_is_refused(tiny_robust: Any) -> None:
    game = BilinearGame(n=4, num_workers=2)
    with pytest.raises(ConfigError, match=r"qoda needs an unbiased compressor up, got .*TopK"):
        qoda(game, up=TopK(k=2), down=FULL)
    with pytest.raises(ConfigError, match="has no prox"):
        qoda(tiny_robust, up=RAND, down=FULL)
