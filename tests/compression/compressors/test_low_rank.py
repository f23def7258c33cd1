from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.compression import Draws, LowRank, Purpose, check_compressor, make_compressor
from saddlebag.compression.compressors.low_rank import RankR, start_matrix
from saddlebag.errors import ConfigError, NotFiniteError


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def relative_error2(compressor: RankR, x_D: np.ndarray, round_: int = 0) -> float:
    return float(((x_D - compressor.encode(x_D, Draws(0, round_, 1)).dense()) ** 2).sum() / (x_D @ x_D))


@pytest.mark.parametrize(
    "compressor", [RankR(rank=1), RankR(rank=2, columns=3), RankR(rank=1, iterations=3), RankR(rank=1, columns=40)], ids=str
)
def test_laws(compressor: RankR) -> None:
    smallest = compressor.rank * (compressor.columns or 1)
    check_compressor(compressor, dimensions=tuple(d for d in (1, 2, 7, 64) if d >= smallest), num_draws=1000)


@pytest.mark.parametrize(("rows", "columns"), [(20, 30), (30, 20), (1, 8), (8, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_matrix_of_that_rank_is_reproduced(rows: int, columns: int, dtype: type) -> None:
    rank = min(rows, columns, 3)
    x_D = (normal(rows, rank) @ normal(rank, columns, seed=1)).reshape(-1).astype(dtype)
    assert relative_error2(RankR(rank=rank, columns=columns), x_D) < 1e-12  # float32 factors: (1e-7)^2 with room


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
@pytest.mark.parametrize("iterations", [1, 2])
def test_equal_singular_values_attain_the_constant(shape: tuple[int, int], iterations: int) -> None:
    """Every projection of rank K keeps exactly K / min(R, C) of the energy of such a matrix."""
    u, _, v = np.linalg.svd(normal(*shape), full_matrices=False)
    compressor = RankR(rank=2, columns=shape[1], iterations=iterations)
    assert compressor.alpha(math.prod(shape)) == 2 / min(shape)
    assert relative_error2(compressor, (u @ v).reshape(-1)) == pytest.approx(1 - 2 / min(shape), abs=1e-6)


def test_iterations_approach_the_truncated_singular_value_decomposition() -> None:
    u, _, v = np.linalg.svd(normal(40, 50), full_matrices=False)
    s = 0.7 ** np.arange(40)
    x_D = ((u * s) @ v).reshape(-1)
    best = (s[4:] ** 2).sum() / (s**2).sum()
    error = [np.mean([relative_error2(RankR(rank=4, iterations=n, columns=50), x_D, r) for r in range(20)]) for n in (1, 2, 16)]
    assert best * (1 - 1e-6) <= error[2] < error[1] < error[0]
    assert error[2] < 1.001 * best  # what is missing shrinks by 0.7^4 with each iteration


def test_two_exact_power_steps_are_two_iterations() -> None:
    """Against plain linear algebra: the projector on the span of (X X')^(n-1) X S."""
    x_RC, draws = normal(9, 7), Draws(3, 5, 2)
    s_CK = start_matrix(draws.own(Purpose.SUPPORT), 7, 2)
    for iterations in (1, 2, 3):
        y_RK = np.linalg.matrix_power(x_RC @ x_RC.T, iterations - 1) @ x_RC @ s_CK
        expected = y_RK @ np.linalg.solve(y_RK.T @ y_RK, y_RK.T @ x_RC)
        got = RankR(rank=2, iterations=iterations, columns=7).encode(x_RC.reshape(-1), draws).dense()
        np.testing.assert_allclose(got.reshape(9, 7), expected, atol=1e-5)


def test_the_start_is_isotropic() -> None:
    """The mean projector is (rank / rows) times the identity: what the constant rests on."""
    projectors = []
    for round_ in range(4000):
        q, _ = np.linalg.qr(start_matrix(Draws(0, round_).common(Purpose.SUPPORT), 5, 2))
        projectors.append(q @ q.T)
    spread = np.std(projectors, axis=0) / math.sqrt(4000)
    assert (np.abs(np.mean(projectors, axis=0) - 0.4 * np.eye(5)) < 6 * spread + 1e-12).all()
    start = start_matrix(Draws(0, 0).common(Purpose.SUPPORT), 1000, 3)
    assert np.abs(start).max() < 1
    assert (start != 0).all()


@given(
    d=st.integers(1, 60),
    rank=st.integers(1, 3),
    exponent=st.integers(-1070, 240),
    seed=st.integers(0, 2**32),
    zeros=st.floats(0, 1),
)
def test_contraction_for_all_scales(d: int, rank: int, exponent: int, seed: int, zeros: float) -> None:
    rng = np.random.default_rng(seed)
    x_D = np.ldexp(rng.standard_normal(d) * (rng.random(d) >= zeros), exponent)
    compressor = RankR(rank=rank)
    if rank > math.isqrt(d - 1) + 1 or rank > -(-d // (math.isqrt(d - 1) + 1)):
        with pytest.raises(ConfigError, match=f"low_rank needs rank <= min.rows, columns., got rank={rank} for d={d}"):
            compressor.encode(x_D, Draws(0, 0, 0))
        return
    payload = compressor.encode(x_D, Draws(seed, 0, 0))
    assert isinstance(payload, LowRank)
    assert payload.dimension == d
    assert (payload.p_RK.shape[1], payload.p_RK.dtype, payload.q_CK.dtype) == (rank, np.float32, np.float32)
    unit_D, error_D = np.ldexp(x_D, -exponent), np.ldexp(x_D - payload.dense(), -exponent)
    if exponent > -200:  # both factors keep float32's normal range down to here
        assert error_D @ error_D <= unit_D @ unit_D * (1 + 1e-6)
    else:
        assert np.abs(payload.dense()).max() <= 2 * np.linalg.norm(x_D) + 1e-60


def test_bits_are_the_factors() -> None:
    payload = RankR(rank=3).encode(normal(1000), Draws(0, 0, 0))
    assert (payload.p_RK.shape, payload.q_CK.shape) == ((32, 3), (32, 3))
    assert 8 * (payload.p_RK.nbytes + payload.q_CK.nbytes) == RankR(rank=3).bits(1000)


def test_refusals() -> None:
    with pytest.raises(NotFiniteError, match=r"low_rank needs magnitudes up to 2\^250, got 1e\+80"):
        RankR(rank=1).encode(np.full(4, 1e80), Draws(0, 0, 0))
    for name, value in (("rank", 0), ("rank", 1.5), ("iterations", 0), ("columns", 0)):
        with pytest.raises(ConfigError, match=f"low_rank.{name} must be a whole number of at least 1, got {value}"):
            make_compressor("low_rank", **({"rank": 1} | {name: value}))
