"""Compression of torch tensors equals that of numpy arrays: on a GPU, or in Triton's interpreter on the CPU.

Triton is no part of the development install: `pip install triton`, then `pytest tests/compression/compressors/test_device.py`.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from saddlebag.compression import Draws, TopK, Vector, feed_back
from saddlebag.compression.compressors import device
from saddlebag.compression.compressors.sparsifiers.rand_k import rand_k_at
from saddlebag.compression.support import Scheme, Scope, Support
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from pathlib import Path

HAS_TRITON = importlib.util.find_spec("triton") is not None
HAS_GPU = torch.cuda.is_available()
if HAS_TRITON and not HAS_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are first imported

WHY = "a GPU compiles the kernels" if HAS_GPU else "no triton: pip install triton"
ON = pytest.mark.parametrize(
    "on",
    [
        "numpy",
        pytest.param("interpreter", marks=pytest.mark.skipif(not HAS_TRITON or HAS_GPU, reason=WHY)),
        pytest.param("gpu", marks=pytest.mark.skipif(not HAS_GPU, reason="no GPU")),
    ],
)


@pytest.fixture
def to(on: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The device of the tensors."""
    if on == "numpy":
        monkeypatch.setattr(device, "_triton", lambda: None)
    return "cuda" if on == "gpu" else "cpu"


def vectors(kind: str, d: int) -> tuple[Vector, Vector]:
    rng = np.random.default_rng(d)
    x_D, memory_D = rng.standard_normal(d, np.float32), 0.5 * rng.standard_normal(d, np.float32)
    match kind:
        case "ties":
            x_D, memory_D = np.round(x_D), np.round(memory_D)
        case "zeros":
            x_D[rng.random(d) < 0.99], memory_D = 0.0, memory_D * 0
        case "constant":
            x_D, memory_D = np.full(d, -3.0, np.float32), np.zeros(d, np.float32)
        case "misleading":  # only a few entries, none of them in the sample
            x_D, memory_D = x_D * 1e-3, memory_D * 0
            x_D[-5:] = 7.0
        case "tiny":
            x_D, memory_D = x_D * np.float32(1e-41), memory_D * np.float32(1e-41)
    return x_D, memory_D


@ON
@pytest.mark.parametrize("kind", ["noise", "ties", "zeros", "constant", "misleading", "tiny"])
@pytest.mark.parametrize("d", [1, 100, 4096, 9001])
def test_top_k_with_feedback_is_that_of_numpy(on: str, to: str, kind: str, d: int) -> None:
    x_D, memory_D = vectors(kind, d)
    for k in sorted({1, max(1, d // 100), max(1, d // 3), d}):
        owed = torch.from_numpy(memory_D.copy()).to(to)
        payload = device.top_k_feedback(torch.from_numpy(x_D).to(to), owed, k)
        expected = TopK(k=k).encode(memory_D + x_D, Draws(0, 0))
        assert payload.index_K.tolist() == expected.index_K.tolist()
        assert payload.index_K.dtype == np.int64
        assert payload.value.value_D.tobytes() == expected.value.value_D.tobytes()
        _, left_D = feed_back(TopK(k=k), x_D, memory_D, Draws(0, 0))
        assert np.array_equal(owed.cpu().numpy(), left_D)


@ON
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_gradients_of_other_types_are_added_to_the_memory(on: str, to: str, dtype: torch.dtype) -> None:
    x_D, memory_D = vectors("noise", 5000)
    x = torch.from_numpy(x_D).to(dtype)
    owed = torch.from_numpy(memory_D.copy()).to(to)
    payload = device.top_k_feedback(x.to(to), owed, 50)
    expected = TopK(k=50).encode((torch.from_numpy(memory_D) + x.to(torch.float32)).numpy(), Draws(0, 0))
    assert payload.value.value_D.tobytes() == expected.value.value_D.tobytes()


@ON
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(on: str, to: str, bad: float) -> None:
    x_D, memory_D = vectors("noise", 9000)
    x_D[8000] = bad
    for k in (1, 500, 9000):
        with pytest.raises(NotFiniteError):
            device.top_k_feedback(torch.from_numpy(x_D).to(to), torch.from_numpy(memory_D.copy()).to(to), k)


@ON
@pytest.mark.parametrize(("d", "k"), [(1, 1), (100, 7), (9001, 90), (5000, 5000), (100_000, 3001)])
def test_rand_k_draws_what_every_machine_draws(on: str, to: str, d: int, k: int) -> None:
    x_D, _ = vectors("noise", d)
    for draws in (Draws(3, 9, 4), Draws(2**64 - 1, 2**40, 2**64 - 2)):
        payload = device.rand_k(torch.from_numpy(x_D).to(to), k, draws)
        index_K = Support(d, k, Scope.OWN, Scheme.STRATA).index_K(draws)
        assert np.array_equal(payload.index_K, index_K)
        assert payload.value.value_D.tobytes() == rand_k_at(x_D, index_K, d / k).tobytes()
        plain = device.rand_k(torch.from_numpy(x_D).to(to), k, draws, scaled=False)
        assert plain.value.value_D.tobytes() == x_D[index_K].tobytes()


def test_shapes_and_types_are_checked() -> None:
    with pytest.raises(ConfigError, match="float32 memory"):
        device.top_k_feedback(torch.zeros(4), torch.zeros(4, dtype=torch.float64), 1)
    with pytest.raises(ConfigError, match="contiguous vectors"):
        device.top_k_feedback(torch.zeros(8)[::2], torch.zeros(4), 1)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from saddlebag.compression.kernels import fused

D, K, P = "*fp32", "*i64", "*i32"
common = {"d": "i64", "BLOCK": "constexpr"}
words = dict.fromkeys(("counter", "round_", "worker", "purpose", "seed", "tag"), "i64")
for kernel, signature, constants in (
    (fused.add_and_count, {"x_D": "*bf16", "memory_D": D, "low": "i32", "count_P": P}, {}),
    (fused.collect, {"memory_D": D, "low": "i32", "end_P": K, "index_N": K, "value_N": D, "room": "i32"}, {}),
    (fused.strata, {"x_D": D, "index_K": K, "value_K": D, "scaled": "constexpr", **words, "k": "i32"}, {"scaled": True}),
):
    source = ASTSource(fn=kernel, signature=signature | common, constexprs=constants | {"BLOCK": 256})
    options = {"enable_fp_fusion": False}
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["cubin"]
print("compiled")
"""


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TRITON, reason=WHY)
def test_the_kernels_compile_for_a_gpu_without_one(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-c", COMPILE],
        capture_output=True,
        text=True,
        env={**kept, "TRITON_CACHE_DIR": str(tmp_path)},
        check=False,
    )
    assert run.stdout == "compiled\n", run.stderr
