"""Quantisers give the same bits with compiled loops as without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.compression import Draws, make_compressor
from saddlebag.compression.compressors.quantisers.rounding import peaks
from saddlebag.compression.kernels import loader
from saddlebag.errors import NotFiniteError

pytestmark = pytest.mark.skipif(loader.compiled_rounding() is None, reason="no numba")

QUANTISERS: list[tuple[str, dict[str, Any]]] = [
    ("block_int8", {}),
    ("block_int4", {"block": 7}),
    ("nearest_int8", {"block": 100}),
    ("dithering", {"levels": 3}),
    ("dithering", {"levels": 30_000, "norm": "max", "block": 1000}),
    ("ternary", {}),
    ("natural_dithering", {"levels": 7}),
    ("natural_dithering", {"levels": 30, "norm": "l2"}),
    ("natural", {}),
    ("stochastic_bfloat16", {}),
]


def vector(d: int, dtype: type[np.floating], kind: str) -> np.ndarray:
    rng = np.random.default_rng(d)
    x_D = rng.standard_normal(d) * {"normal": 1.0, "tiny": 1e-38, "zeros": 0.0}[kind] * 10.0 ** rng.integers(-3, 3, d)
    x_D[rng.random(d) < 0.1] = rng.choice([0.0, -0.0, 2.0**-126, -(2.0**-133), 5e-324, 2.0**10])
    return x_D.astype(dtype)


def fields(payload: Any) -> list[bytes]:
    return [value.tobytes() for value in vars(payload).values() if isinstance(value, np.ndarray)]


@pytest.mark.parametrize(("name", "parameters"), QUANTISERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["normal", "tiny", "zeros"])
def test_the_same_bits(name: str, parameters: dict[str, Any], dtype: type, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compressor = make_compressor(name, **parameters)
    for d in (1, 7, 511, 512, 513, 40_000):
        x_D, encoded = vector(d, dtype, kind), []
        for large in (1, 1 << 40):
            monkeypatch.setattr(loader, "LARGE", large)
            assert (loader.rounding_for(x_D) is not None) == (large == 1)
            encoded.append(fields(compressor.encode(x_D, Draws(3, d, 1))))
        assert len(encoded[0]) >= 1
        assert encoded[0] == encoded[1]


@pytest.mark.parametrize("name", ["natural", "stochastic_bfloat16"])
def test_what_is_too_large_is_refused_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x_D, messages = np.array([1.0, 3.4e38], np.float32), []
    for large in (1, 1 << 40):
        monkeypatch.setattr(loader, "LARGE", large)
        with pytest.raises(NotFiniteError) as caught:
            make_compressor(name).encode(x_D, Draws(0, 0, 0))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("view", [slice(None, None, 2), slice(None, None, -1)])
def test_other_vectors_take_the_plain_loops(view: slice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "LARGE", 1)
    x_D = np.random.default_rng(0).standard_normal(100)
    assert loader.rounding_for(x_D[view]) is None
    assert loader.rounding_for(x_D.astype(np.float16)) is None
    assert np.array_equal(peaks(x_D[view].copy(), 8), peaks(x_D[view], 8))
