"""Compressors in the methods they are for: at the proven step size the proven rate, over the real wire."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, masha1, masha2, simulate
from saddlebag.algorithms.methods.masha.masha1 import masha1_noise
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import (
    Bernoulli,
    BlockInt4,
    BlockTopK,
    Cast,
    Compressor,
    Dithering,
    GreedyBlocks,
    Identity,
    Natural,
    NaturalDithering,
    NearestInt4,
    NearestInt8,
    PermK,
    RandK,
    Rule,
    SampledTopK,
    ScaledSign,
    StochasticBfloat16,
    Tensor,
    Ternary,
    TopK,
    UnscaledRandK,
    compose,
    induced,
    per_tensor,
    scaled,
)
from saddlebag.proto.codec import LoopbackWire

WORKERS, N = 4, 4
TENSORS = [Tensor("x", (N,)), Tensor("y", (N,))]
UNBIASED: list[tuple[Compressor, Compressor]] = [
    (RandK(k=2, draw="strata"), Identity()),
    (RandK(k=3, draw="strata", support="common"), Natural()),
    (PermK(workers=WORKERS), Identity()),
    (compose(sparsifier=PermK(workers=WORKERS), values=Natural()), Natural()),
    (compose(sparsifier=RandK(k=3, support="common"), values=Dithering(levels=3)), BlockInt4(block=4)),
    (induced(contractive=TopK(k=2), unbiased=RandK(k=2)), Identity()),
    (Bernoulli(probability=0.5), Identity()),
    (Ternary(block=4), Identity()),
    (Dithering(levels=2), Dithering(levels=7, norm="max")),
    (NaturalDithering(levels=3), StochasticBfloat16()),
    (per_tensor(tensors=TENSORS, rules=[Rule(match="x", use=Natural()), Rule(use=RandK(k=2))]), Identity()),
]
CONTRACTIVE: list[tuple[Compressor, Compressor]] = [
    (compose(sparsifier=TopK(k=4), values=NearestInt8()), Identity()),
    (compose(sparsifier=TopK(k=6), values=Natural()), Identity()),
    (BlockTopK(block=4, k=3), Identity()),
    (GreedyBlocks(block=3, k=2, lipschitz=(1.0, 2.0, 4.0)), Identity()),
    (SampledTopK(k=6, sample=6), Identity()),
    (UnscaledRandK(k=7, draw="strata"), Identity()),
    (ScaledSign(block=2), Identity()),
    (NearestInt4(block=8), Identity()),
    (Cast(), Identity()),
    (scaled(unbiased=Ternary(block=2)), Identity()),
    (per_tensor(tensors=TENSORS, rules=[Rule(match="x", use=Identity()), Rule(use=TopK(k=2))]), Identity()),
]


def both(pair: tuple[Compressor, Compressor]) -> str:
    return " ".join(type(compressor).__name__ for compressor in pair)


def game() -> BilinearGame:
    return BilinearGame(n=N, num_workers=WORKERS, regularisation=0.5, heterogeneity=0.5)


def meets_its_rate(problem: BilinearGame, method: Any, factor: float) -> None:
    """|z - z*|^2 <= factor (1 - gamma mu / 2)^K 2 |z0 - z*|^2 after K iterations that should bring it down by 1e-3."""
    rate = 1.0 - method.step_size * problem.constants.strong_monotonicity / 2.0
    iterations = math.ceil(math.log(1e-3) / math.log(rate))
    outcome = simulate(problem, method, seed=3, stop=Stop(max_iterations=iterations, every=iterations), wire=LoopbackWire())
    solution_D = problem.solution
    start2 = float(((problem.start() - solution_D) ** 2).sum())
    error2 = float(((outcome.replica.z_D - solution_D) ** 2).sum())
    assert error2 <= factor * rate**iterations * 2.0 * start2


@pytest.mark.parametrize("pair", UNBIASED, ids=both)
def test_masha1_meets_its_proven_rate(pair: tuple[Compressor, Compressor]) -> None:
    problem = game()
    method = masha1(problem, up=pair[0], down=pair[1], probability=0.25)
    meets_its_rate(problem, method, 1.0)  # in the mean; one run is about the square of the bound below it


@pytest.mark.parametrize("pair", CONTRACTIVE, ids=both)
def test_masha2_meets_its_proven_rate(pair: tuple[Compressor, Compressor]) -> None:
    problem = game()
    method = masha2(problem, up=pair[0], down=pair[1], probability=0.25)
    meets_its_rate(problem, method, 2.0)  # |z - z*|^2 <= 2 Psi


def test_perm_k_steps_further_than_rand_k_of_as_many_bits() -> None:
    """Its noise constant is L~ (section 9.1), whatever M."""
    problem = game()
    dealt, own = PermK(workers=WORKERS), RandK(k=2 * N // WORKERS)
    assert dealt.bits(2 * N) == own.bits(2 * N)
    assert masha1_noise(problem, dealt, Identity()) == pytest.approx(problem.constants.lipschitz_rms)
    steps = [masha1(problem, up=up, down=Identity(), probability=0.25).step_size for up in (dealt, own)]
    assert steps[0] > steps[1]


def test_perm_k_is_exact_where_the_workers_are_equal() -> None:
    """Then the run with Perm-k is the run without compression, to the rounding of float32."""
    problem = BilinearGame(n=N, num_workers=WORKERS, regularisation=0.5, heterogeneity=0.0)
    stop = Stop(max_iterations=60, every=60)
    runs = [
        simulate(
            problem,
            masha1(problem, up=up, down=Identity(), probability=0.25, step_size=0.2),
            seed=0,
            stop=stop,
            wire=LoopbackWire(),
        )
        for up in (PermK(workers=WORKERS), Identity())
    ]
    assert np.allclose(runs[0].replica.z_D, runs[1].replica.z_D, rtol=0, atol=1e-5 * np.abs(runs[1].replica.z_D).max())
