"""Top-k by a threshold from a sample equals the definition, in all its branches."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.compression.kernels import plain, select
from saddlebag.compression.kernels.loader import Kernels, compiled, kernels_for
from saddlebag.compression.kernels.select import largest

KERNELS = {"plain": plain, "compiled": compiled()}
BOTH = pytest.mark.parametrize(
    "kernels",
    [
        pytest.param(value, id=name, marks=pytest.mark.skipif(value is None, reason="no numba"))
        for name, value in KERNELS.items()
    ],
)
SPECIAL = [0.0, -0.0, 1.0, -1.0, 1.5, -(2.0**-149), 2.0**-149, 2.0**-130, -65504.0, 3.0e38]


def by_definition(x_D: np.ndarray, k: int) -> np.ndarray:
    """A stable sort puts the lowest coordinate of equal magnitudes first."""
    return np.sort(np.argsort(-np.abs(x_D.astype(np.float64)), kind="stable")[:k])


@st.composite
def vectors(draw: st.DrawFn) -> np.ndarray:
    """Layers of noise, ties, zeros and extreme values, longer than the shortest vector that is sampled."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    d = draw(st.integers(1, 3000))
    x_D = rng.standard_normal(d) ** draw(st.sampled_from([1, 5])) * draw(st.sampled_from([1.0, 1e-40]))
    if levels := draw(st.sampled_from([0, 0, 1, 2, 20])):
        x_D = np.round(x_D * levels)
    special_N = np.array(draw(st.lists(st.sampled_from(SPECIAL), min_size=1)))
    where_D = rng.random(d) < draw(st.sampled_from([0.0, 0.02, 0.5, 0.99, 1.0]))
    x_D[where_D] = rng.choice(special_N, where_D.sum())
    if draw(st.booleans()):
        x_D = x_D[np.argsort(np.abs(x_D), kind="stable")]
    with np.errstate(over="ignore"):
        x_D = x_D.astype(draw(st.sampled_from([np.float16, np.float32, np.float64])))
    x_D[~np.isfinite(x_D)] = 0
    return x_D


@BOTH
@given(vectors(), st.floats(0, 1), st.sampled_from([64, 300]))
def test_the_choice_is_the_definition(kernels: Kernels, x_D: np.ndarray, share: float, small: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "_SMALL", small)
        patch.setattr(select, "_BLOCK", 100)
        patch.setattr(plain, "_BLOCK_BYTES", 1 << 10)
        for k in {1, max(1, round(share**3 * len(x_D))), len(x_D)}:
            index_K = largest(x_D, k, kernels)
            assert index_K is not None
            assert index_K.dtype == np.int64
            assert np.array_equal(index_K, by_definition(x_D, k))


@BOTH
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["noise", "zeros", "constant", "sorted"])
def test_what_is_not_finite_is_never_overlooked(kernels: Kernels, bad: float, kind: str) -> None:
    x_D = np.random.default_rng(1).standard_normal(20_000).astype(np.float32)
    x_D = {"noise": x_D, "zeros": x_D * 0, "constant": x_D * 0 + 3, "sorted": np.sort(np.abs(x_D))}[kind]
    for k in (1, 100, 2000, 15_000, 20_000):
        for place in (0, 777, 19_999):
            y_D = x_D.copy()
            y_D[place] = bad
            assert largest(y_D, k, kernels) is None
        assert largest(x_D, k, kernels) is not None


@BOTH
@pytest.mark.parametrize("k", [20, 200, 2000, 6000])
def test_a_sample_that_misleads_costs_only_time(kernels: Kernels, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x_D = np.random.default_rng(2).standard_normal(20_000)
    for answer in [(0, 5), (0, 0), (2**62, 2**62), (2**61, 2**62), (2**50, 2**51), (0, 2**62)]:
        monkeypatch.setattr(select, "_quantiles", lambda bits_D, k, answer=answer: answer)
        assert np.array_equal(largest(x_D, k, kernels), by_definition(x_D, k))


def test_strided_reversed_and_foreign_vectors() -> None:
    x_D = np.random.default_rng(3).standard_normal(30_000).astype(np.float32)
    for view_D in (x_D[::3], x_D[::-1], x_D.astype(">f4"), x_D.astype(np.longdouble)):
        assert np.array_equal(largest(view_D, 700), by_definition(view_D, 700))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
@pytest.mark.parametrize("d", [0, 1, 15, 63, 64, 65, 1000, 40_000])
def test_compiled_loops_equal_the_plain_ones(dtype: type, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "_BLOCK_BYTES", 1 << 13)
    fast = compiled()
    if fast is None:
        pytest.skip("no numba")
    bits_D = np.random.default_rng(d).integers(np.iinfo(dtype).min, np.iinfo(dtype).max, d, dtype, endpoint=True)
    for low in (0, 1, np.iinfo(dtype).max // 2, int(np.iinfo(dtype).max * 0.93), np.iinfo(dtype).max):
        for room in (d, d // 2, d // 15):
            found = [(np.zeros(room, np.int64), np.zeros(room, dtype)) for _ in range(2)]
            counts = [kernels.collect(bits_D, low, *arrays) for kernels, arrays in zip((plain, fast), found, strict=True)]
            assert counts[0] == counts[1]
            if counts[0] > 0:
                count = counts[0]
                assert all(np.array_equal(a[:count], b[:count]) for a, b in zip(*found, strict=True))
                ties = [index_N[:count].copy() for index_N, _ in found]
                threshold, magnitude_N = int(np.median(found[0][1][:count])), found[0][1][:count]
                kept = [
                    kernels.keep(index, magnitude_N, threshold, 2) for kernels, index in zip((plain, fast), ties, strict=True)
                ]
                assert kept[0] == kept[1]
                assert np.array_equal(ties[0][: kept[0]], ties[1][: kept[0]])


def test_short_vectors_do_not_load_the_compiled_kernels() -> None:
    assert kernels_for(1000) is plain
    assert kernels_for(1 << 20) in (plain, compiled())


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.25])
@pytest.mark.parametrize("kind", ["noise", "levels", "zeros", "fallback"])
def test_at_most_one_vector_of_memory_beside_the_result(kind: str, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    d = 400_000
    x_D = np.random.default_rng(0).standard_normal(d).astype(np.float32)
    match kind:
        case "levels":
            x_D = np.round(x_D)
        case "zeros":
            x_D[5:] = 0.0
        case "fallback":
            monkeypatch.setattr(select, "_SMALL", d)
    k = round(share * d)
    tracemalloc.start()
    index_K = largest(x_D, k, plain)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(index_K, by_definition(x_D, k))
    blocks = 8 * plain._BLOCK_BYTES
    assert peak <= 8 * k + x_D.nbytes + blocks
