"""The grid's constant over all inputs, its worst case, and its layout."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.compression import Draws, Grid, check_compressor
from saddlebag.compression.compressors.quantisers.grid import round_to_bfloat16
from saddlebag.errors import ConfigError, NotFiniteError

DRAWS = Draws(0, 0)
STEPS = st.one_of(st.floats(0.01, 1.5), st.integers(1, 100).map(lambda n: 1 / n))


def exact(x_D: np.ndarray) -> list[Fraction]:
    return [Fraction(x) for x in x_D.tolist()]


@pytest.mark.parametrize(
    "grid",
    [
        Grid(),
        Grid(step=0.5),
        Grid(step=1.4),
        Grid(step=0.01),
        Grid(block=3),
        Grid(step=0.25, block=5),
        Grid(fit=1.0),
        Grid(step=0.5, block=3, fit=0.4),
        Grid(step="auto"),
        Grid(step=0.5, dead=0.7),
        Grid(dead=0.65, fit=1.0, block=3),
    ],
)
def test_laws(grid: Grid) -> None:
    check_compressor(grid, num_draws=2)


@given(hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(-1, 1, width=32)), STEPS, st.integers(-80, 100), st.data())
def test_contracts_every_vector(x_D: np.ndarray, step: float, exponent: int, data: st.DataObject) -> None:
    block = data.draw(st.none() | st.integers(1, 12))
    x_D[np.abs(x_D) < 1e-6] = 0.0  # so that no scale underflows
    x_D *= 2.0**exponent
    dead = data.draw(st.just(0.5) | st.floats(0.5, min(0.75, 0.99 / step)))
    grid = Grid(step=step, block=block, fit=data.draw(st.sampled_from([0.0, 0.3, 1.0])), dead=dead)
    error = sum((a - b) ** 2 for a, b in zip(exact(x_D), exact(grid.encode(x_D, DRAWS).dense()), strict=True))
    assert error <= (1 - Fraction(grid.alpha(len(x_D)))) * sum(a**2 for a in exact(x_D)) * (1 + Fraction(1, 10**9))


def test_the_constant_is_nearly_attained() -> None:
    x_D = np.array([1.0, *[0.5] * 9])  # half a step goes to 0, the even level
    error_D = x_D - Grid().encode(x_D, DRAWS).dense()
    seen, proven = 1 - error_D @ error_D / (x_D @ x_D), Grid().alpha(10)
    assert proven <= seen <= 1.01 * proven
    assert proven == pytest.approx(4 / 13, rel=0.01)


@given(hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(2.0**-100, 2.0**100, width=32)))
def test_scales_have_eight_significant_bits(value_B: np.ndarray) -> None:
    rounded_B = round_to_bfloat16(value_B)
    assert (rounded_B.view(np.uint32) & 0xFFFF == 0).all()
    assert (np.abs(rounded_B - value_B) <= 2.0**-8 * value_B).all()


def test_levels_are_nearest_multiples() -> None:
    x_D = np.array([4.0, -3.0, 1.1, -0.9, 0.0])
    payload = Grid(step=0.5).encode(x_D, DRAWS)
    assert payload.level_D.tolist() == [2, -2, 1, 0, 0]  # -1.5 goes to the even level
    assert payload.level_D.dtype == np.int8
    assert payload.scale_B.tolist() == [2.0]
    blocked = Grid(block=2).encode(x_D, DRAWS)
    assert (blocked.scale_B.tolist(), blocked.level_D.tolist()) == ([4.0, 1.1015625, 0.0], [1, -1, 1, -1, 0])


def test_a_dead_zone_rounds_up_from_its_fraction_on() -> None:
    x_D = np.array([4.0, -3.5, 3.0, 1.5, -1.25, 1.0, 0.0])
    payload = Grid(step=0.5, dead=0.75).encode(x_D, DRAWS)
    assert (payload.scale_B.tolist(), payload.level_D.tolist()) == ([2.0], [2, -2, 1, 1, 0, 0, 0])
    blocked = Grid(step=0.5, dead=0.75, block=3).encode(x_D, DRAWS)
    assert blocked.level_D.tolist() == [2, -2, 1, 2, -1, 1, 0]


def test_a_dead_zone_costs_error_and_saves_levels() -> None:
    x_D = np.random.default_rng(0).standard_normal(1000)
    plain, wide = (Grid(step=0.5, fit=1.0, dead=dead).encode(x_D, DRAWS) for dead in (0.5, 0.7))
    assert np.count_nonzero(wide.level_D) < 0.7 * np.count_nonzero(plain.level_D)
    assert Grid(step=0.5, dead=0.7).alpha(1000) < Grid(step=0.5).alpha(1000)


@given(hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(-1, 1, width=32)), STEPS, st.none() | st.integers(1, 12))
def test_a_fitted_scale_is_the_best_of_its_levels(x_D: np.ndarray, step: float, block: int | None) -> None:
    x_D[np.abs(x_D) < 1e-6] = 0.0
    fitted = Grid(step=step, block=block, fit=1.0).encode(x_D, DRAWS)
    assert np.array_equal(fitted.level_D, Grid(step=step, block=block).encode(x_D, DRAWS).level_D)
    size = block or len(x_D)
    for start in range(0, len(x_D), size):
        own_B, level_B = x_D[start : start + size], fitted.level_D[start : start + size].astype(np.float64)
        inner, square = float(own_B @ level_B), float(level_B @ level_B)
        scale = float(fitted.scale_B[start // size])
        assert scale == pytest.approx(inner / square if square else 0.0, rel=2.0**-8)


def test_fits_in_between_are_geometric_means() -> None:
    x_D = np.array([4.0, 2.5, 2.5, -2.5, 0.5])  # all but the last go to the level 1, whose mean is 2.875
    scales = [float(Grid(fit=fit).encode(x_D, DRAWS).scale_B[0]) for fit in (0.0, 0.5, 1.0)]
    assert scales == pytest.approx([4.0, np.sqrt(4.0 * 2.875), 2.875], rel=2.0**-8)


def test_huge_and_tiny_vectors_are_fitted() -> None:
    for unit in (1e-30, 1e30):
        x_D = unit * np.array([4.0, 2.5, -2.5, 0.5])
        assert Grid(fit=1.0).encode(x_D, DRAWS).dense()[0] == pytest.approx(3.0 * unit, rel=2.0**-8)


def test_a_step_left_to_a_method_is_a_half_elsewhere() -> None:
    x_D = np.array([4.0, -3.0, 1.1, -0.9, 0.0])
    assert np.array_equal(Grid(step="auto").encode(x_D, DRAWS).dense(), Grid(step=0.5).encode(x_D, DRAWS).dense())
    assert (Grid(step="auto").alpha(7), Grid(step="auto").bits(7)) == (Grid(step=0.5).alpha(7), Grid(step=0.5).bits(7))


def test_bits_bound_the_entropy() -> None:
    assert Grid().bits(100) == pytest.approx(100 * np.log2(3) + 16)
    assert Grid(step=0.5, block=10).bits(95) == pytest.approx(95 * np.log2(5) + 160)


@pytest.mark.parametrize("step", [0.0, -1.0, 1.6, 0.005, float("nan"), "fine"])
def test_bad_steps_are_refused(step: float | str) -> None:
    with pytest.raises(ConfigError, match=r"grid\.step must lie in"):
        Grid(step=step)


@pytest.mark.parametrize("fit", [-0.1, 1.5, float("nan")])
def test_bad_fits_are_refused(fit: float) -> None:
    with pytest.raises(ConfigError, match=r"grid\.fit must lie in \[0, 1\], got"):
        Grid(fit=fit)


@pytest.mark.parametrize(("dead", "step"), [(0.4, 0.5), (0.8, 0.5), (0.7, 1.5), (float("nan"), 1.0)])
def test_bad_dead_zones_are_refused(dead: float, step: float) -> None:
    with pytest.raises(ConfigError, match=r"grid\.dead must lie in \[0\.5, 0\.\d+\], got"):
        Grid(step=step, dead=dead)


def test_bad_blocks_and_overflow_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"grid\.block must be a whole number of at least 1, got 0"):
        Grid(block=0)
    with pytest.raises(NotFiniteError, match="overflows bfloat16"):
        Grid().encode(np.array([1e39]), DRAWS)
