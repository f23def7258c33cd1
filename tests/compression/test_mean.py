from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.compression import (
    BlockInt8,
    BlockTopK,
    Compressor,
    Concat,
    Dense,
    Dithering,
    Draws,
    Half,
    HardThreshold,
    Identity,
    Levels,
    Mean,
    Natural,
    NaturalDithering,
    Payload,
    PowersOfTwo,
    RandK,
    Rule,
    SampledTopK,
    ScaledSign,
    Seeded,
    Sparse,
    StochasticBfloat16,
    Sum,
    Tensor,
    Ternary,
    TopK,
    Total,
    UnscaledRandK,
    compose,
    induced,
    per_tensor,
    scaled,
)
from saddlebag.compression import mean as mean_module

D, NUM_WORKERS = 40, 6
SPARSIFIERS = {
    "top_k": TopK(k=7),
    "own": RandK(k=7),
    "common": RandK(k=7, support="common"),
    "other": RandK(k=3, support="common"),
}
ALL: dict[str, Compressor] = {"float32": Identity(), "float64": Identity(dtype="float64"), "natural": Natural(), **SPARSIFIERS}


def message(name: str, worker: int) -> Payload:
    """Different magnitudes, so that the order of a sum shows in its last bits."""
    x_D = np.random.default_rng(worker).standard_normal(D) * 10.0**worker
    draws = Draws(1, 4, worker)
    if name == "concat":
        return Concat(
            (ALL["top_k"].encode(x_D[:15], draws), ALL["float32"].encode(x_D[15:22], draws), TopK(k=3).encode(x_D[22:], draws))
        )
    if name == "total":
        return Total((ALL["top_k"].encode(x_D, draws), ALL["own"].encode(x_D, draws)))
    return ALL[name].encode(x_D, draws)


def summed(payloads: list[Payload]) -> np.ndarray:
    out_D = np.zeros(D)
    for payload in payloads:
        out_D += payload.dense()
    return out_D


def total_of(payloads: list[Payload]) -> Sum:
    total = Sum(D)
    for payload in payloads:
        total.add(payload)
    return total


@pytest.mark.parametrize("cached", [0, D])
@given(st.lists(st.sampled_from([*sorted(ALL), "concat", "total"]), max_size=NUM_WORKERS))
def test_a_sum_is_the_plain_sum_in_the_given_order(cached: int, names: list[str]) -> None:
    payloads = [message(name, worker) for worker, name in enumerate(names)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mean_module, "_CACHED", cached)  # whether sparse payloads wait
        mean = total_of(payloads).mean(max(len(names), 1))
    assert np.array_equal(mean.dense(), summed(payloads) / max(len(names), 1))  # bit for bit, but for the sign of zeros
    common = len(set(names)) == 1 and names[0] in ("common", "other")
    assert (mean.support is not None) == common


def test_the_order_of_a_sum_matters_to_its_last_bits() -> None:
    payloads = [message("float64", worker) for worker in range(NUM_WORKERS)]
    assert not np.array_equal(summed(payloads), summed(payloads[::-1]))  # or the test above would prove nothing


@given(st.lists(st.lists(st.integers(0, D)), min_size=1, max_size=4), st.sampled_from(["float32", "float64"]))
def test_slices_give_the_whole_wherever_they_are_cut(cuts: list[list[int]], name: str) -> None:
    total, payloads = Sum(D), []
    for worker, inner in enumerate(cuts):
        payload = message(name, worker)
        assert isinstance(payload, Dense)
        payloads.append(payload)
        edges = [0, *sorted(inner), D]
        for start, end in itertools.pairwise(edges):
            total.add(Dense(payload.value_D[start:end]), start)
    assert total.mean(3).dense().tobytes() == (summed(payloads) / 3).tobytes()


def test_a_common_support_is_kept() -> None:
    payloads = [message("common", worker) for worker in range(NUM_WORKERS)]
    mean = total_of(payloads).mean(NUM_WORKERS)
    assert isinstance(payloads[0], Seeded)
    assert mean.support == payloads[0].support
    assert mean.value.shape == (7,)
    assert np.array_equal(mean.index_K, payloads[0].index_K)
    assert mean.dense().tobytes() == (summed(payloads) / NUM_WORKERS).tobytes()


def test_few_entries_wait_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mean_module, "_CACHED", 0)
    buffer_D = np.full(D, np.nan)  # memory of any content
    total, payloads = Sum(D, buffer_D), [message("top_k", worker) for worker in range(NUM_WORKERS)]
    for payload in payloads:
        total.add(payload)
        assert sum(len(piece.index_K) for piece in total._waiting) <= D // 4
    value_D = total.mean(NUM_WORKERS).value
    assert value_D is buffer_D
    assert value_D.tobytes() == (summed(payloads) / NUM_WORKERS).tobytes()


@pytest.mark.parametrize("run", [1, 7, D])
@given(st.lists(st.tuples(st.integers(0, D), st.integers(0, D)), min_size=1, max_size=4), st.integers(1, 5))
def test_a_narrow_mean_of_few_entries_is_added_without_being_formed(run: int, cuts: list[tuple[int, int]], count: int) -> None:
    rng, room_D = np.random.default_rng(len(cuts)), np.full(D, np.nan, np.float32)
    means = []
    for cached, buffer_D in ((D, None), (0, room_D)):  # added at once, and waiting
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mean_module, "_CACHED", cached)
            total = Sum(D, buffer_D, np.float32)
            for number, (start, end) in enumerate(map(sorted, cuts)):
                x_B = np.random.default_rng(number).standard_normal(end - start).astype(np.float32)
                few_K = np.arange(0, end - start, 20)
                total.add(Sparse(end - start, few_K, Dense(x_B[few_K])), start)
            means.append(total.mean(count))
    formed, waiting = means
    memory_D = rng.standard_normal(D).astype(np.float32)
    memory_D[::3] = -0.0
    expected_D = memory_D + formed.dense()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mean_module, "_RUN", run)
        waiting.add_to(memory_D)
    assert memory_D.tobytes() == expected_D.tobytes()
    assert np.isnan(room_D).all()  # nothing was written where a sum would be
    assert waiting.dense().tobytes() == formed.dense().tobytes()


@given(st.lists(st.tuples(st.integers(0, D), st.integers(0, D), st.booleans()), max_size=8))
def test_in_memory_of_any_content_slices_with_gaps_and_overlaps_add_up(slices: list[tuple[int, int, bool]]) -> None:
    total, out_D = Sum(D, np.full(D, np.nan)), np.zeros(D)
    for number, (one, other, sparse) in enumerate(slices):
        start, end = sorted((one, other))
        x_D = np.random.default_rng(number).standard_normal(end - start).astype(np.float32)
        x_D[::4] = -0.0
        total.add(Sparse(len(x_D), np.arange(len(x_D)), Dense(x_D)) if sparse else Dense(x_D), start)
        out_D[start:end] += x_D
    assert total.mean(3).dense().tobytes() == (out_D / 3).tobytes()


def test_no_payload_leaves_zeros() -> None:
    assert Sum(3).mean(1).dense().tolist() == [0.0, 0.0, 0.0]


def common_mean() -> Mean:
    return total_of([message("common", worker) for worker in range(3)]).mean(3)


FLAT: list[tuple[Compressor, type]] = [
    (Identity(), Dense),
    (Identity(dtype="float64"), Dense),
    (Natural(), PowersOfTwo),
    (BlockInt8(), Levels),
    (Dithering(levels=3), Levels),
    (NaturalDithering(), Levels),
    (ScaledSign(block=3), Levels),
    (StochasticBfloat16(), Half),
    (scaled(unbiased=Ternary()), Levels),
]


@pytest.mark.parametrize(("down", "flat"), FLAT)
def test_on_a_common_support_only_its_values_are_compressed(down: Compressor, flat: type) -> None:
    mean, draws = common_mean(), Draws(1, 4)
    payload = mean.compress(down, draws)
    assert isinstance(payload, Seeded)
    assert isinstance(payload.value, flat)
    assert payload.support == mean.support
    assert np.array_equal(payload.index_K, mean.support.index_K(draws))
    assert np.array_equal(payload.value.value_D, down.encode(mean.value, draws).value_D)


CHOOSING: list[Compressor] = [
    *(kind(k=k) for kind in (TopK, RandK, UnscaledRandK) for k in (5, 20)),
    BlockTopK(block=10, k=2),
    SampledTopK(k=5),
    HardThreshold(threshold=1.0),
    compose(sparsifier=TopK(k=20), values=Ternary()),
    induced(contractive=TopK(k=2), unbiased=Natural()),
    per_tensor(tensors=[Tensor("all", (D,))], rules=[Rule(use=Natural())]),
]


@pytest.mark.parametrize("down", CHOOSING, ids=repr)
def test_a_sparsifier_compresses_the_whole_mean(down: Compressor) -> None:
    """Also one that keeps more coordinates than the common support has."""
    mean, draws = common_mean(), Draws(1, 4)
    payload = mean.compress(down, draws)
    assert payload.dimension == D
    assert type(payload) is type(down.encode(mean.dense(), draws))
    assert np.array_equal(payload.dense(), down.encode(mean.dense(), draws).dense())


def test_without_a_common_support_the_mean_is_compressed_as_it_is() -> None:
    mean = total_of([message("float32", 0)]).mean(1)
    assert isinstance(mean.compress(Natural(), Draws(1, 4)), PowersOfTwo)
    assert isinstance(mean.compress(TopK(k=3), Draws(1, 4)), Sparse)
