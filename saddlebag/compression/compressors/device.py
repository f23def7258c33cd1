"""Compressors for torch tensors where they lie: only what travels leaves the device.

The payloads are those of the numpy compressors for the same numbers, bit for bit. Tensors on a GPU need Triton (the extra
`gpu`, and part of torch's builds for CUDA); tensors on the CPU take the numpy kernels.

Shapes: D = coordinates, K = kept ones, N = candidates.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from saddlebag.compression.compressors.sparsifiers.rand_k import rand_k_at
from saddlebag.compression.compressors.sparsifiers.top_k import TopK
from saddlebag.compression.draws import Draws
from saddlebag.compression.kernels.magnitude import infinity_of
from saddlebag.compression.payload import Dense, Seeded, Sparse
from saddlebag.compression.stream import Purpose
from saddlebag.compression.support import Scheme, Scope, Support
from saddlebag.compression.values import cast
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from torch import Tensor

_SAMPLE = 1 << 16
_SIGMAS = 4.0  # as in kernels/select.py
_STRATA_BLOCK = 256
_EXACT: dict[str, Any] = {"enable_fp_fusion": False}  # every operation rounds by itself, as on the CPU
_INFINITY = infinity_of(np.dtype(np.int32))


@functools.cache
def _triton() -> Any | None:
    if importlib.util.find_spec("triton") is None:
        return None
    return importlib.import_module("saddlebag.compression.kernels.fused")


def _fused_for(x_D: Tensor) -> Any | None:
    """The Triton kernels for a tensor on a GPU, or anywhere where they are interpreted; None for the CPU.

    Raises:
        ConfigError: the tensor is on a GPU and Triton is not installed.
    """
    fused = _triton()
    if x_D.is_cuda and fused is None:
        raise ConfigError("compression on a GPU needs Triton; install saddlebag[gpu]")
    interpreted = fused is not None and fused.triton.knobs.runtime.interpret
    return fused if x_D.is_cuda or interpreted else None


def top_k_feedback(x_D: Tensor, memory_D: Tensor, k: int) -> Sparse:
    """Top-k with error feedback: add `x_D` to the memory, take the k largest magnitudes out of it, return them.

    Two passes: one reads both vectors, writes the memory and counts; one reads it and collects in order what a sample's
    quantile lets through. What is left is as in `kernels/select.py`: an exact choice among a little more than k candidates.

    Args:
        x_D: any float type.
        memory_D: float32, changed in place: afterwards what is still owed.
        k: 1 <= k <= D.

    Raises:
        NotFiniteError: the sum is not finite; the memory then holds it.
    """
    fused = _fused_for(memory_D)
    if memory_D.dtype != torch.float32 or x_D.shape != memory_D.shape or not (x_D.is_contiguous() and memory_D.is_contiguous()):
        raise ConfigError(f"top_k_feedback needs contiguous vectors and a float32 memory, got {x_D.shape} and {memory_D.dtype}")
    if fused is None or not len(memory_D):
        memory_D += x_D
        payload = TopK(k=k).encode(memory_D.cpu().numpy(), Draws(0, 0))
        memory_D[torch.from_numpy(payload.index_K).to(memory_D.device)] = 0.0
        return payload
    d = len(memory_D)
    low, grid = _threshold(x_D, memory_D, k), fused.runs(d, fused.BLOCK)
    count_P = torch.empty(grid, dtype=torch.int32, device=memory_D.device)
    fused.add_and_count[grid](x_D, memory_D, low, count_P, d, BLOCK=fused.BLOCK, **_EXACT)
    end_P = torch.cumsum(count_P, 0)
    room = int(end_P[-1])
    if not k <= room <= k + d // 4:  # a sample that misleads, or a tie
        low = int(torch.topk(_magnitude(memory_D), k, sorted=False).values.min())
        end_P, room = _recount(memory_D, low, fused.BLOCK)
    index_N = torch.empty(room, dtype=torch.int64, device=memory_D.device)
    value_N = torch.empty(room, dtype=torch.float32, device=memory_D.device)
    fused.collect[grid](memory_D, low, end_P, index_N, value_N, room, d, BLOCK=fused.BLOCK, **_EXACT)
    kept_N = _cut(_magnitude(value_N), k)
    index_K, value_K = index_N[kept_N], value_N[kept_N]
    memory_D[index_K] = 0.0
    return Sparse(d, index_K.cpu().numpy(), Dense(cast(value_K.cpu().numpy())))


def _magnitude(value_N: Tensor) -> Tensor:
    """Floats ordered by magnitude, as whole numbers; whatever is not finite comes last."""
    return value_N.view(torch.int32) & 0x7FFF_FFFF


def _threshold(x_D: Tensor, memory_D: Tensor, k: int) -> int:
    """A magnitude that a little more than k entries of the sum reach almost surely."""
    d = len(memory_D)
    size = min(_SAMPLE, max(1, d // 64))
    place = torch.arange(size, device=memory_D.device) * (d // size)
    place += (torch.arange(size, device=memory_D.device) * 0x9E37_79B1 % 2**32) * (d // size) >> 32
    sample_N = _magnitude(memory_D[place] + x_D[place].to(torch.float32))
    share = k / d
    rank = math.ceil(size * share + _SIGMAS * math.sqrt(size * share * (1.0 - share)) + 1.0)
    return 0 if rank >= size else int(torch.topk(sample_N, rank, sorted=False).values.min())


def _recount(memory_D: Tensor, low: int, block: int) -> tuple[Tensor, int]:
    hit_D = _magnitude(memory_D) >= low
    padded = torch.nn.functional.pad(hit_D, (0, -len(hit_D) % block))
    end_P = torch.cumsum(padded.view(-1, block).sum(1, dtype=torch.int32), 0)
    return end_P, int(end_P[-1])


def _cut(magnitude_N: Tensor, k: int) -> Tensor:
    """Which candidates are the k largest; of equal magnitudes the first ones."""
    if int(magnitude_N.max()) >= _INFINITY:
        raise NotFiniteError("a compressor's input must be finite")
    threshold = torch.topk(magnitude_N, k, sorted=False).values.min()
    above_N, equal_N = magnitude_N > threshold, magnitude_N == threshold
    return above_N | (equal_N & (torch.cumsum(equal_N, 0) <= k - above_N.sum()))


def rand_k(x_D: Tensor, k: int, draws: Draws, *, scaled: bool = True) -> Seeded:
    """Rand-k on a stratified support of the worker's own: the device draws the same coordinates as every other machine.

    Args:
        x_D: any float type.
        k: 1 <= k <= D; of an empty vector nothing is kept, whatever k.
        draws: whose support it is.
        scaled: times D / K, which makes it unbiased where K divides D.

    Raises:
        NotFiniteError: a kept value is not finite, or overflows float32.
    """
    d, fused = len(x_D), _fused_for(x_D)
    k = k if d else 0
    support = Support(d, k, Scope.OWN, Scheme.STRATA)
    index_K = support.index_K(draws)
    if fused is None or d == 0:
        return Seeded(support, index_K, Dense(rand_k_at(x_D.cpu().numpy(), index_K, d / k if scaled and k else 1.0)))
    key, counter = draws.own(Purpose.SUPPORT).skip(0)
    place_K = torch.empty(k, dtype=torch.int64, device=x_D.device)
    value_K = torch.empty(k, dtype=torch.float32, device=x_D.device)
    words = [word - 2**64 if word >= 2**63 else word for word in (*counter, *key)]  # Triton takes signed arguments
    grid = fused.runs(-(-k // 8), _STRATA_BLOCK)
    fused.strata[grid](x_D, place_K, value_K, scaled, *words, d, k, BLOCK=_STRATA_BLOCK, **_EXACT)
    return Seeded(support, index_K, Dense(cast(value_K.cpu().numpy())))
