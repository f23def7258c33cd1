"""The noise of MASHA1's messages: masha.md, section 9.1, over every outcome of the draws at small D."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from saddlebag.algorithms import Masha1, Message, form_means, masha1
from saddlebag.algorithms.methods.masha.anchor import AnchoredReplica
from saddlebag.algorithms.methods.masha.masha1 import Masha1Worker, masha1_noise
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import SERVER, Draws, Identity, RandK

FULL = Identity()


def noise_matrix(game: BilinearGame, *, common: bool, two_sided: bool) -> npt.NDArray[np.float64]:
    """G with E|Delta|^2 = u'Gu for u = zh - w: the F_m are affine."""
    zero_D, eye_DD = np.zeros(game.dimension), np.eye(game.dimension)
    slopes = [
        np.array([operator(u_D, Draws(0, 0)) - operator(zero_D, Draws(0, 0)) for u_D in eye_DD]).T
        for operator in map(game.operator, range(game.num_workers))
    ]
    masks = [4.0 * np.diag(u_D) for u_D in eye_DD]  # Rand-1 of D = 4
    outcomes = []
    for chosen in itertools.product(masks, repeat=1 if common else game.num_workers):
        sparse = itertools.repeat(chosen[0]) if common else chosen
        mean_DD = sum(mask @ slope for mask, slope in zip(sparse, slopes, strict=not common)) / game.num_workers
        outcomes += [mask @ mean_DD for mask in masks] if two_sided else [mean_DD]
    gram_DD: npt.NDArray[np.float64] = sum(a.T @ a for a in outcomes) / len(outcomes)
    return gram_DD


@pytest.mark.parametrize("two_sided", [False, True], ids=["one_sided", "two_sided"])
@pytest.mark.parametrize("support", ["own", "common"])
@pytest.mark.parametrize(("heterogeneity", "attained"), [(0.0, 1 - 1e-12), (0.5, 0.7), (1.5, 0.6)])
def test_noise_constant_holds_and_is_nearly_attained(
    two_sided: bool, support: Any, heterogeneity: float, attained: float
) -> None:
    game = BilinearGame(n=2, num_workers=3, regularisation=0.05, heterogeneity=heterogeneity)
    bound = masha1_noise(game, RandK(k=1, support=support), RandK(k=1) if two_sided else FULL) ** 2
    worst = float(np.linalg.eigvalsh(noise_matrix(game, common=support == "common", two_sided=two_sided))[-1])
    assert attained * bound <= worst <= bound * (1 + 1e-12)


def seen_noise(game: BilinearGame, method: Masha1, num_draws: int) -> tuple[float, float]:
    """The mean of |Delta|^2 / |zh - w|^2 as the method itself draws it, in the worst direction, and its standard error."""
    common = method.up.support == "common"  # type: ignore[attr-defined]
    gram_DD = noise_matrix(game, common=common, two_sided=method.down != FULL)
    u_D = np.linalg.eigh(gram_DD).eigenvectors[:, -1]
    operators = [game.operator(worker) for worker in range(game.num_workers)]
    w_D = np.zeros(game.dimension)
    known = [operator(w_D, Draws(0, 0)) for operator in operators]
    # zh = zbar - gamma F(w) = w + u
    z_D = w_D + (u_D + method.step_size * np.mean(known, axis=0)) / (1 - method.probability)
    replica = AnchoredReplica(z_D, w_D, np.mean(known, axis=0), iteration=0, syncing=False)
    values = []
    for round_ in range(num_draws):
        draws = Draws(9, round_, SERVER)
        ups = [
            Message(method.worker_step(replica, Masha1Worker(known[m]), operators[m], draws.of(m))[1].parts[-1:])
            for m in range(len(operators))
        ]
        means = form_means((game.dimension,), iter(ups), len(ups))
        values.append(float(np.sum(means[0].compress(method.down, draws).dense() ** 2)))
    return float(np.mean(values)), float(np.std(values) / math.sqrt(num_draws))


@pytest.mark.parametrize("two_sided", [False, True], ids=["one_sided", "two_sided"])
@pytest.mark.parametrize("support", ["own", "common"])
def test_noise_of_the_method_is_the_enumerated_one(two_sided: bool, support: Any) -> None:
    game = BilinearGame(n=2, num_workers=3, regularisation=0.05)
    method = masha1(game, up=RandK(k=1, support=support), down=RandK(k=1) if two_sided else FULL, probability=0.25)
    enumerated = float(np.linalg.eigvalsh(noise_matrix(game, common=support == "common", two_sided=two_sided))[-1])
    seen, error = seen_noise(game, method, 3000)
    assert abs(seen - enumerated) <= 6 * error  # six standard errors
