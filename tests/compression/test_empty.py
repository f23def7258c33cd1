"""d = 0 is a dimension like others: every compressor, kernel, memory and sum takes a vector without entries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.compression import (
    COMPRESSORS,
    Compressor,
    Draws,
    PowerSGD,
    Purpose,
    Scheme,
    Scope,
    Sum,
    Support,
    check_compressor,
    feed_back,
    in_lockstep,
    make_compressor,
    mean_noise,
    per_tensor,
    stratified_subset,
    track,
    uniform_subset,
)
from saddlebag.compression.compressors.quantisers import rounding
from saddlebag.compression.kernels import plain
from saddlebag.compression.kernels.loader import Kernels, compiled, compiled_rounding
from saddlebag.compression.kernels.select import largest
from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.codec import LoopbackWire, Message, decode

TOP = {"name": "top_k", "fraction": 0.5}
RAND = {"name": "rand_k", "k": 3}
EVERY: list[tuple[str, dict[str, Any]]] = [
    ("bernoulli", {"probability": 0.5}),
    ("bernoulli", {"probability": 0.5, "coin": "common"}),
    ("block_int4", {}),
    ("block_int8", {"block": 3}),
    ("block_top_k", {"block": 4, "k": 2}),
    ("block_top_k", {"block": 4, "fraction": 0.5}),
    ("budget", {"of": "top_k", "budget_bytes": 60}),
    ("budget", {"of": "dithering", "budget_bytes": 60}),
    ("budget", {"of": "low_rank", "budget_bytes": 600}),
    ("cast", {}),
    ("cast", {"dtype": "float16"}),
    ("chunk_top_k", {"chunk": 4, "k": 2, "group": 2}),
    ("compose", {"sparsifier": TOP, "values": {"name": "nearest_int8"}}),
    ("compose", {"sparsifier": TOP, "values": {"name": "natural"}}),
    ("compose", {"sparsifier": RAND, "values": {"name": "dithering", "levels": 4}}),
    ("compose", {"sparsifier": {"name": "perm_k", "workers": 3}, "values": {"name": "natural"}}),
    ("decay", {"of": "top_k", "parameter": "k", "first": 8, "ratio": 0.5, "every": 1, "last": 1}),
    ("dithering", {"levels": 4}),
    ("dithering", {"levels": 400, "norm": "max", "block": 3}),
    ("greedy_blocks", {"block": 3, "fraction": 0.5}),
    ("grid", {}),
    ("grid", {"step": 0.1, "block": 3}),
    ("hard_threshold", {"threshold": 0.01}),
    ("identity", {}),
    ("identity", {"dtype": "float64"}),
    ("induced", {"contractive": TOP, "unbiased": RAND}),
    ("induced", {"contractive": {"name": "nearest_int4"}, "unbiased": {"name": "natural"}}),
    ("low_rank", {"rank": 2}),
    ("low_rank", {"rank": 1, "iterations": 2, "columns": 4}),
    ("natural", {}),
    ("natural_dithering", {}),
    ("natural_dithering", {"norm": "l2"}),
    ("natural_dithering", {"block": 3}),
    ("nearest_int4", {}),
    ("nearest_int8", {}),
    ("per_tensor", {"tensors": [{"name": "a", "shape": [0, 4]}], "rules": [{"use": TOP}]}),
    ("perm_k", {"workers": 3}),
    ("rand_k", {"fraction": 0.5, "support": "common"}),
    ("rand_k", {"k": 3, "draw": "strata"}),
    ("rand_k", {"k": 3, "draw": "strata", "support": "common"}),
    ("sampled_top_k", {"k": 3}),
    ("sampled_top_k", {"fraction": 0.5, "sample": 2}),
    ("scaled", {"unbiased": RAND}),
    ("scaled_sign", {}),
    ("scaled_sign", {"block": 3}),
    ("schedule", {"pieces": [{"round": 0, **TOP}, {"round": 2, "name": "top_k", "k": 7}]}),
    ("stochastic_bfloat16", {}),
    ("ternary", {}),
    ("ternary", {"block": 3}),
    ("top_k", {"k": 9}),
    ("top_k", {"fraction": 0.01}),
    ("unscaled_rand_k", {"fraction": 0.5}),
    ("unscaled_rand_k", {"k": 2, "draw": "strata"}),
]
each = pytest.mark.parametrize(("name", "params"), EVERY, ids=lambda value: value if isinstance(value, str) else "")
KERNELS = [
    pytest.param(value, id=name, marks=pytest.mark.skipif(value is None, reason="no numba"))
    for name, value in (("plain", plain), ("compiled", compiled()))
]


def made(name: str, params: dict[str, Any]) -> Compressor:
    return make_compressor(name, **params)


def test_every_compressor_is_here() -> None:
    assert {name for name, _ in EVERY} == set(COMPRESSORS)


@each
def test_the_laws_hold_without_entries(name: str, params: dict[str, Any]) -> None:
    check_compressor(made(name, params), dimensions=(0,))


@each
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_it_travels(name: str, params: dict[str, Any], dtype: Any) -> None:
    draws = Draws(3, 1, 2)
    payload = made(name, params).encode(np.zeros(0, dtype), draws)
    message, num_bytes = LoopbackWire().carry(Message((payload,)), (0,), draws)
    assert type(message.parts[0]) is type(payload)
    assert message.parts[0].dense().shape == payload.dense().shape == (0,)
    assert message.parts[0].dense().dtype == np.float64
    assert 1 <= num_bytes <= 9  # layouts and counts, nothing else
    total = Sum(0)
    total.add(message.parts[0])
    assert total.mean(2).dense().shape == (0,)


@each
def test_memories_go_through(name: str, params: dict[str, Any]) -> None:
    empty_D, draws = np.zeros(0), Draws(0, 0, 0)
    assert feed_back(made(name, params), empty_D, empty_D, draws)[1].shape == (0,)
    assert track(made(name, params), empty_D, empty_D, draws)[1].shape == (0,)


@each
def test_an_empty_tensor_changes_nothing_of_the_others(name: str, params: dict[str, Any]) -> None:
    if name == "per_tensor" or name == "hard_threshold":
        return  # no part of another; of no kind that parts need
    rules = [{"match": "empty*", "use": {"name": name, **params}}, {"use": {"name": name, **params}}]
    size = 16  # enough for every rank and k here
    tensors = [("empty", [0, 4]), ("full", [size]), ("empty.too", [4, 0])]
    mixed = per_tensor(tensors=[{"name": key, "shape": shape} for key, shape in tensors], rules=rules)
    alone = per_tensor(tensors=[{"name": "full", "shape": [size]}], rules=rules)
    x_D, draws = np.random.default_rng(1).standard_normal(size), Draws(1, 2, 0)
    assert np.array_equal(mixed.encode(x_D, draws).dense(), alone.encode(x_D, draws).dense())
    assert mixed.bits(size) == alone.bits(size)
    for constant in ("omega", "alpha"):
        if hasattr(alone, constant):
            assert getattr(mixed, constant)(size) == getattr(alone, constant)(size)
    if hasattr(alone, "omega"):
        assert mean_noise(mixed, size, 3) == mean_noise(alone, size, 3)  # type: ignore[arg-type]
    message, _ = LoopbackWire().carry(Message((mixed.encode(x_D, draws),)), (size,), draws)
    assert np.array_equal(message.parts[0].dense(), alone.encode(x_D, draws).dense())


@given(st.lists(st.sampled_from([0, 0, 1, 2, 5]), min_size=1, max_size=5), st.sampled_from(EVERY), st.integers(0, 2**32))
def test_any_mixture_of_sizes_travels(sizes: list[int], chosen: tuple[str, dict[str, Any]], seed: int) -> None:
    name, params = chosen
    if name in ("per_tensor", "hard_threshold") or params.get("rank") == 2:
        return
    smallest = min((size for size in sizes if size), default=9)
    if "k" in params:
        params = {**params, "k": min(params["k"], smallest)}
    if (name == "compose" and params["sparsifier"] == RAND) or name in ("scaled", "induced", "schedule", "decay", "budget"):
        sizes = [4 * size for size in sizes]  # for the k inside
    if name in ("decay", "schedule"):
        sizes = [2 * size for size in sizes]
    compressor = made(name, params)
    draws = Draws(seed, 1, 0)
    rng = np.random.default_rng(seed)
    parts = tuple(compressor.encode(rng.standard_normal(size), draws) for size in sizes)
    message, _ = LoopbackWire().carry(Message(parts), tuple(sizes), draws)
    for sent, received in zip(parts, message.parts, strict=True):
        assert np.array_equal(sent.dense(), received.dense())


@given(st.one_of(st.binary(max_size=12), st.lists(st.integers(0, 17), max_size=8).map(bytes)))
def test_any_bytes_decode_to_nothing_or_are_refused(data: bytes) -> None:
    try:
        message = decode(data, (0,), Draws(0, 0, 1))
    except RemoteProtocolError:
        return
    assert message.parts[0].dimension == 0
    assert message.parts[0].dense().shape == (0,)


@pytest.mark.parametrize("kernels", KERNELS)
def test_kernels(kernels: Kernels) -> None:
    for dtype in (np.float16, np.float32, np.float64):
        found = largest(np.zeros(0, dtype), 3, kernels)
        assert found is not None
        assert found.shape == (0,)
    assert kernels.strata(Draws(0, 0).own(Purpose.SUPPORT), 0, 0).shape == (0,)
    bits_D = np.zeros(0, np.int64)
    assert kernels.collect(bits_D, 1, np.zeros(0, np.int64), np.zeros(0, np.int64)) == 0
    assert kernels.keep(np.zeros(0, np.int64), bits_D, 1, 0) == 0
    pieces = [plain.Piece(0, np.zeros(0, np.int32), np.zeros(0))]
    kernels.add_sparse(np.zeros(0), pieces, fresh=True, divisor=3)


@pytest.mark.skipif(compiled_rounding() is None, reason="no numba")
def test_compiled_rounding() -> None:
    fast: Any = compiled_rounding()
    for dtype in (np.float32, np.float64):
        empty_D = np.zeros(0, dtype)
        assert fast.peaks(empty_D, 1).shape == (0,)
        fast.random_levels(empty_D, np.zeros(0), 1, Draws(0, 0).own(Purpose.ROUNDING), np.zeros(0, np.int8))
        fast.dyadic_levels(empty_D, 1.0, 4, Draws(0, 0).own(Purpose.ROUNDING), np.zeros(0, np.int8))
        fast.bfloat16(empty_D, Draws(0, 0).own(Purpose.ROUNDING), np.zeros(0, np.float32))
        fast.powers(empty_D, Draws(0, 0).own(Purpose.ROUNDING), np.zeros(0, np.float32))


def test_rounding() -> None:
    empty_D, none_B = np.zeros(0), np.zeros(0, np.float32)
    assert rounding.peaks(empty_D, 1).shape == (0,)
    assert rounding.scales(empty_D, 7).shape == (0,)
    assert rounding.nearest_levels(empty_D, none_B, 1).shape == (0,)
    assert rounding.ratios(empty_D, none_B, 1).shape == (0,)
    assert rounding.levels_at(empty_D, none_B, 1, np.zeros(0, np.uint32)).shape == (0,)


def test_supports() -> None:
    for scheme in (Scheme.SUBSET, Scheme.STRATA):
        for scope in Scope:
            assert Support(0, 0, scope, scheme).index_K(Draws(0, 0, 1)).shape == (0,)
    share = Support.share(0, 3, Draws(0, 0, 1))
    assert share.size == 0
    assert share.index_K(Draws(0, 0, 1)).shape == (0,)
    stream = Draws(0, 0).own(Purpose.SUPPORT)
    assert uniform_subset(stream, 0, 0).shape == stratified_subset(stream, 0, 0).shape == (0,)


def test_power_sgd_takes_empty_tensors_among_others() -> None:
    shapes = ((0, 4), (12, 20), (4, 0), (0,), (3,))
    mixed, alone = PowerSGD(shapes=shapes, rank=2), PowerSGD(shapes=((12, 20), (3,)), rank=2)
    assert mixed.exchange_sizes() == alone.exchange_sizes()
    x_D, draws = np.random.default_rng(0).standard_normal(243), Draws(5, 0)
    outcomes = [in_lockstep([power.step(x_D, power.begin(draws), draws)])[0] for power in (mixed, alone)]
    assert np.array_equal(outcomes[0][0], outcomes[1][0])
    assert np.array_equal(outcomes[0][1].memory_D, outcomes[1][1].memory_D)
    nothing = PowerSGD(shapes=((0, 4),))
    out_D, _ = in_lockstep([nothing.step(np.zeros(0), nothing.begin(draws), draws)])[0]
    assert out_D.shape == (0,)
