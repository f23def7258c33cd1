from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from saddlebag.compression import (
    COMPRESSORS,
    Absolute,
    Compressor,
    Contractive,
    Draws,
    Identity,
    RandK,
    Unbiased,
    make_compressor,
)
from saddlebag.errors import ConfigError, NotFiniteError

PARAMETERS: dict[str, dict[str, Any]] = {
    **{key: {"k": 2} for key in ("rand_k", "top_k", "unscaled_rand_k")},
    "budget": {"of": "top_k", "budget_bytes": 64},
    "decay": {"of": "rand_k", "parameter": "k", "first": 4, "ratio": 0.5, "every": 3, "last": 1},
    "bernoulli": {"probability": 0.5},
    "block_top_k": {"block": 3, "k": 1},
    "dithering": {"levels": 4},
    "greedy_blocks": {"block": 2, "k": 1},
    "compose": {"sparsifier": {"name": "top_k", "k": 2}, "values": {"name": "natural"}},
    "induced": {"contractive": {"name": "top_k", "k": 2}, "unbiased": {"name": "natural"}},
    "per_tensor": {
        "tensors": [{"name": "weight", "shape": [3]}, {"name": "bias", "shape": []}],
        "rules": [{"match": "bias", "use": {"name": "identity"}}, {"use": {"name": "top_k", "k": 2}}],
    },
    "scaled": {"unbiased": {"name": "natural"}},
    "hard_threshold": {"threshold": 1.0},
    "perm_k": {"workers": 3},
    "sampled_top_k": {"k": 2},
    "low_rank": {"rank": 1},
    "schedule": {"pieces": [{"round": 0, "name": "identity"}, {"round": 2, "name": "top_k", "k": 1}]},
}


def example(name: str) -> Compressor:
    return make_compressor(name, **PARAMETERS.get(name, {}))


@pytest.mark.parametrize("name", sorted(COMPRESSORS))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_compressor_refuses_what_is_not_finite(name: str, bad: float, dtype: type[np.floating]) -> None:
    for place in range(4):
        x_D = np.ones(4, dtype)
        x_D[place] = bad
        with pytest.raises(NotFiniteError, match=f"got {bad} at coordinate {place} of 4"):
            example(name).encode(x_D, Draws(0, place, 0))


@pytest.mark.parametrize("name", sorted(COMPRESSORS))
def test_every_compressor_declares_a_constant_and_is_a_value(name: str) -> None:
    assert isinstance(example(name), Unbiased | Contractive | Absolute)
    assert example(name) == example(name)
    assert hash(example(name)) == hash(example(name))


@pytest.mark.parametrize("name", sorted(COMPRESSORS))
def test_every_compressor_names_its_source(name: str) -> None:
    reference = example(name).reference  # type: ignore[attr-defined]
    assert re.fullmatch(
        r"exact|of (its pieces|its parts|the compressor chosen)|[A-Z][a-z]+( et al\.| and [A-Z][a-z]+)? \d{4}", reference
    )


def test_parameters_reach_the_compressor() -> None:
    assert make_compressor("rand_k", fraction=0.5, support="common") == RandK(fraction=0.5, support="common")
    assert make_compressor("identity", dtype="float64") == Identity(dtype="float64")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=f"unknown compressor 'xyzzy'; known: {', '.join(sorted(COMPRESSORS))}"):
        make_compressor("xyzzy")


@pytest.mark.parametrize(("typed", "meant"), [("topk", "top_k"), ("randk", "rand_k"), ("Block-Int8", "block_int8")])
def test_an_unknown_name_brings_the_nearest_one(typed: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown compressor '{typed}'; did you mean '{meant}'\\? known: "):
        make_compressor(typed)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("top_k", {}, "top_k needs exactly one of k and fraction, got k=None, fraction=None"),
        ("rand_k", {"k": 1, "fraction": 0.5}, "rand_k needs exactly one of k and fraction, got k=1, fraction=0.5"),
        ("top_k", {"k": 0}, "top_k.k must be a whole number of at least 1, got 0"),
        ("top_k", {"k": 2.5}, "top_k.k must be a whole number of at least 1, got 2.5"),
        ("rand_k", {"k": "3"}, "rand_k.k must be a whole number of at least 1, got '3'"),
        ("unscaled_rand_k", {"fraction": 0.0}, r"rand_k.fraction must lie in \(0, 1\], got 0.0"),
        ("top_k", {"fraction": 1.5}, r"top_k.fraction must lie in \(0, 1\], got 1.5"),
        ("top_k", {"fraction": math.nan}, r"top_k.fraction must lie in \(0, 1\], got nan"),
        ("rand_k", {"k": 1, "support": "shared"}, "rand_k.support must be 'own' or 'common', got 'shared'"),
        ("identity", {"dtype": "int8"}, "identity.dtype must be 'float32' or 'float64', got 'int8'"),
        ("natural", {"k": 1}, "compressor 'natural' does not take these parameters: .*'k'"),
    ],
)
def test_parameters_that_do_not_fit_are_named(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_compressor(name, **params)
