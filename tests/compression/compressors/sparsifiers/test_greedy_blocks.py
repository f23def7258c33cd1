from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.compression import Draws, GreedyBlocks, check_compressor, make_compressor
from saddlebag.errors import ConfigError

DRAWS = Draws(0, 0)
SPREAD = (1.0, 100.0, 7.0, 7.0)  # of blocks of 3, 3, 3 and 1 of ten coordinates
ELEMENTS = st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([0.0, 1.0, -1.0, 2.0])


def chosen(x_D: np.ndarray, constants: tuple[float, ...], block: int, k: int) -> list[int]:
    """By definition: stable sorting leaves ties to the first block."""
    starts = range(0, len(x_D), block)
    gain = [float(np.sum(np.square(x_D[s : s + block], dtype=float))) / c for s, c in zip(starts, constants, strict=True)]
    best = sorted(sorted(range(len(gain)), key=lambda b: -gain[b])[:k])
    return [i for b in best for i in range(b * block, min((b + 1) * block, len(x_D)))]


@given(hnp.arrays(np.float32, 10, elements=ELEMENTS), st.integers(1, 4))
def test_it_keeps_the_blocks_of_largest_gain(x_D: np.ndarray, k: int) -> None:
    constants = (1.0, 128.0, 8.0, 8.0)  # powers of two, so that gains are exact and ties are ties
    plain = GreedyBlocks(block=3, k=k, lipschitz=constants).encode(x_D, DRAWS)
    assert plain.index_K.tolist() == chosen(x_D, constants, 3, k)
    assert np.array_equal(plain.dense()[plain.index_K], x_D[plain.index_K])
    damped = GreedyBlocks(block=3, k=k, lipschitz=constants, damped=True).encode(x_D, DRAWS)
    factor_K = 1.0 / np.repeat(constants, 3)[plain.index_K]
    assert np.array_equal(damped.dense()[plain.index_K], (x_D[plain.index_K] * factor_K).astype(np.float32))


@pytest.mark.parametrize("damped", [False, True])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_law_holds(k: int, damped: bool) -> None:
    check_compressor(GreedyBlocks(block=3, k=k, lipschitz=SPREAD, damped=damped), dimensions=(10, 11, 12), num_draws=50)


def remains(compressor: GreedyBlocks, x_D: np.ndarray) -> float:
    error_D = x_D - compressor.encode(x_D, DRAWS).dense()
    return float(error_D @ error_D) / float(x_D @ x_D)


@pytest.mark.parametrize("damped", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_alpha_holds_everywhere_and_is_attained(k: int, damped: bool) -> None:
    """At all corners |x_b|^2 = L_b (1 or a little more), and along every block alone."""
    constants = (1.0, 3.0, 5.0, 40.0)
    compressor = GreedyBlocks(block=1, k=k, lipschitz=constants, damped=damped)
    corners = [np.sqrt(np.array(constants) * power) for power in itertools.product((1.0, 1.0001), repeat=4)]
    worst = max(remains(compressor, x_D) for x_D in (*corners, *np.eye(4)))
    assert worst <= 1.0 - compressor.alpha(4) + 1e-7  # values travel as float32
    assert worst == pytest.approx(1.0 - compressor.alpha(4), rel=1e-3)


def test_without_constants_alpha_is_that_of_top_k() -> None:
    assert GreedyBlocks(block=4, k=2).alpha(20) == 2 / 5
    assert GreedyBlocks(block=4, fraction=0.5).alpha(16) == 0.5
    assert GreedyBlocks(block=4, k=2, damped=True).alpha(20) == 2 / 5


def test_only_ratios_of_constants_matter() -> None:
    x_D = np.random.default_rng(0).standard_normal(10)
    for damped in (False, True):
        one = GreedyBlocks(block=3, k=2, lipschitz=SPREAD, damped=damped)
        other = GreedyBlocks(block=3, k=2, lipschitz=[1024.0 * value for value in SPREAD], damped=damped)
        assert np.array_equal(one.encode(x_D, DRAWS).dense(), other.encode(x_D, DRAWS).dense())
        assert one.alpha(10) == other.alpha(10)


def descent(matrix_DD: np.ndarray, offset_D: np.ndarray, choose: GreedyBlocks, step: float) -> int:
    """Iterations until f - f* has fallen by 1e-6, f = z'Hz/2 - c'z."""
    least_D = np.linalg.solve(matrix_DD, offset_D)
    z_D, goal = np.zeros(len(offset_D)), 1e-6 * float(least_D @ matrix_DD @ least_D)
    for iteration in range(5000):
        away_D = z_D - least_D
        if away_D @ matrix_DD @ away_D <= goal:
            return iteration
        z_D = z_D - step * choose.encode(matrix_DD @ z_D - offset_D, DRAWS).dense()
    return 5000


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_needs_fewer_iterations_where_constants_are_spread(seed: int) -> None:
    """Least squares, L_b from 1 to 100: measured 1/15 and less of block Top-k's iterations with its step 1/L_max."""
    rng = np.random.default_rng(seed)
    blocks, block = 12, 2
    scale_D = np.repeat(rng.permutation(np.geomspace(1.0, 100.0, blocks)), block) ** 0.5
    rows_ND = rng.standard_normal((100, blocks * block)) * scale_D
    matrix_DD, offset_D = rows_ND.T @ rows_ND / 100, rows_ND.T @ rng.standard_normal(100) / 100
    parts = [slice(block * b, block * (b + 1)) for b in range(blocks)]
    constants = [float(np.linalg.norm(matrix_DD[part, part], 2)) for part in parts]
    greedy = GreedyBlocks(block=block, k=1, lipschitz=constants, damped=True)
    plain = GreedyBlocks(block=block, k=1)
    taken = descent(matrix_DD, offset_D, greedy, 1.0 / min(constants))
    assert taken < descent(matrix_DD, offset_D, plain, 1.0 / max(constants)) / 3
    assert greedy.alpha(24) < plain.alpha(24)  # the price in the worst case


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"block": 0, "k": 1}, "greedy_blocks.block must be a whole number of at least 1, got 0"),
        ({"block": None, "k": 1}, "greedy_blocks.block must be a whole number of at least 1, got None"),
        ({"block": 2}, "greedy_blocks needs exactly one of k and fraction"),
        ({"block": 2, "k": 1, "lipschitz": [1.0, -1.0]}, "greedy_blocks.lipschitz must be a positive number, .* got -1.0"),
        ({"block": 2, "k": 1, "lipschitz": []}, "greedy_blocks.lipschitz must lie within a factor of 1e.30"),
        ({"block": 2, "k": 1, "lipschitz": [1e-200, 1e200]}, "greedy_blocks.lipschitz must lie within"),
        ({"block": 2, "k": 1, "lipschitz": "large"}, "greedy_blocks.lipschitz must be a positive number, .* got 'l'"),
        ({"block": 2, "k": 1, "damped": 1}, "greedy_blocks.damped must be true or false, got 1"),
    ],
)
def test_bad_parameters_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_compressor("greedy_blocks", **given)


def test_constants_must_be_as_many_as_blocks() -> None:
    compressor = GreedyBlocks(block=3, k=1, lipschitz=[1.0, 2.0])
    with pytest.raises(ConfigError, match="names 2 constants, but d=10 with block=3 makes 4 blocks"):
        compressor.encode(np.ones(10), DRAWS)
    with pytest.raises(ConfigError, match="names 2 constants"):
        compressor.alpha(10)
    with pytest.raises(ConfigError, match="greedy_blocks needs 1 <= k <= d, got k=5"):
        GreedyBlocks(block=3, k=5).encode(np.ones(10), DRAWS)
