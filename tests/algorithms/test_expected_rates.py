"""Whole runs at the proven steps: the proven contraction holds in expectation, by a one-sided bound over many seeds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import (
    Stop,
    diana_sgda,
    masha1,
    masha2,
    optimistic_masha,
    qsgda,
    simulate,
    three_pillars,
    vr_diana_sgda,
)
from saddlebag.algorithms.problems import FiniteBilinearGame
from saddlebag.compression import Draws, Identity, Natural, PermK, RandK, TopK, UnscaledRandK

SEEDS, SIGMAS, DECAY = 12, 3.0, 2.0  # the proven bound falls by e^-2 in each run
FULL, RAND = Identity(), RandK(fraction=0.25)
GAME = FiniteBilinearGame(n=4, num_workers=4, regularisation=0.3, heterogeneity=0.3, num_samples=3, sample_heterogeneity=0.2)
MU = GAME.constants.strong_monotonicity
AT_STAR = [GAME.operator(m)(GAME.solution, Draws(0, 0)) for m in range(4)]
R2 = float(np.sum(GAME.solution**2))  # z^0 = 0
SPREAD = float(np.mean([np.sum(value**2) for value in AT_STAR]))

MASHA1: dict[str, Any] = {
    "masha1": masha1(GAME, up=RAND, down=FULL),
    "masha1_next": masha1(GAME, up=RAND, down=FULL, rule="next"),
    "masha1_two_sided": masha1(GAME, up=RAND, down=Natural()),
    "masha1_perm": masha1(GAME, up=PermK(workers=4), down=FULL),
    "vr_masha1": masha1(GAME, up=RAND, down=FULL, batch=1),
    "pp_masha1": masha1(GAME, up=RAND, down=FULL, participants=2),
    "pp_vr_masha1": masha1(GAME, up=RAND, down=FULL, participants=2, batch=1),
}
MASHA2: dict[str, Any] = {
    "masha2_top": masha2(GAME, up=TopK(fraction=0.75), down=FULL),
    "masha2_rand": masha2(GAME, up=UnscaledRandK(fraction=0.75), down=FULL),
    "vr_masha2": masha2(GAME, up=TopK(fraction=0.75), down=FULL, batch=1),
}
OPTIMISTIC: dict[str, Any] = {
    "optimistic_masha": optimistic_masha(GAME, up=PermK(workers=4), down=FULL),
    "optimistic_masha_rand": optimistic_masha(GAME, up=RAND, down=Natural()),
    "three_pillars": three_pillars(GAME, up=PermK(workers=4), down=FULL),
    "pp_three_pillars": three_pillars(GAME, up=FULL, down=FULL, participants=1),
}


class Straight:
    """Hands messages over as they are: the reference tests show that encoding changes no bit."""

    def carry(self, message: Any, sizes: Any, draws: Any) -> Any:
        del sizes, draws
        return message, 0


def check(method: Any, rate: float, bound: float, *, anchored: bool = False, floor: float = 0.0) -> None:
    """E(|z^K - z*|^2 (+ |w^K - z*|^2)) <= exp(-rate K) bound + floor, with K such that the exponential is e^-DECAY."""
    count = math.ceil(DECAY / rate)
    assert count <= 4000, "a test of its own size"
    squares = []
    for seed in range(SEEDS):
        stop = Stop(max_iterations=count, every=count)
        replica = simulate(GAME, method, seed=seed, stop=stop, wire=Straight()).replica
        square = float(np.sum((replica.z_D - GAME.solution) ** 2))
        squares.append(square + float(np.sum((replica.w_D - GAME.solution) ** 2)) if anchored else square)
    upper = np.mean(squares) + SIGMAS * np.std(squares, ddof=1) / math.sqrt(SEEDS)
    assert upper <= math.exp(-rate * count) * bound + floor


@pytest.mark.parametrize("name", sorted(MASHA1))
def test_masha1(name: str) -> None:
    method = MASHA1[name]
    weight = 2.0 if method.rule == "current" else 2.0 / (1.0 - method.probability)  # tau |z|^2 + |w|^2 under "next"
    check(method, -math.log(1 - method.step_size * MU / 2), weight * R2, anchored=True)


@pytest.mark.slow  # error feedback's proven steps are tiny
@pytest.mark.parametrize("name", sorted(MASHA2))
def test_masha2(name: str) -> None:
    method = MASHA2[name]
    check(method, -math.log(1 - method.step_size * MU / 2), 4 * R2)


@pytest.mark.parametrize("name", sorted(OPTIMISTIC))
def test_optimistic(name: str) -> None:
    method = OPTIMISTIC[name]
    check(method, -math.log(method.momentum), 16 / 7 * R2)


@pytest.mark.parametrize("reduced", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["diana", "vr_diana"])
def test_diana(reduced: bool) -> None:
    method = vr_diana_sgda(GAME, up=RAND, down=FULL, batch=1) if reduced else diana_sgda(GAME, up=RAND, down=FULL)
    omega, gamma = 3.0, method.step_size  # M = 4, K = 1, a = 1/4, and h_m = 0 at the start
    bound = R2 + gamma**2 * 4 * omega / 4 * (1 + omega) * SPREAD
    if reduced:
        sampling = float(np.mean([GAME.operator(m).lipschitz ** 2 for m in range(4)]))
        bound += gamma**2 * 4 / method.probability * (1 + 5 * omega) / 4 * sampling * R2  # type: ignore[attr-defined]
    check(method, -math.log(1 - gamma * MU), bound)


def test_qsgda_up_to_its_ball() -> None:
    method = qsgda(GAME, up=RAND, down=FULL)
    check(method, -math.log(1 - method.step_size * MU), R2, floor=method.step_size / MU * 2 * 3.0 / 4 * SPREAD)
