"""Memories beside a compressor: what is owed (error feedback), or what the other side knows (innovations, EF21).

Error feedback: Seide et al. 2014; Karimireddy et al. 2019. The memory subtracts the payload itself, after every rounding,
so sent + carried = sum of the inputs holds to the last bit of the arithmetic. EF21: Richtarik, Sokolov, Fatkhullin 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression.payload import Seeded, Sparse
from saddlebag.compression.slices import Slices, runs_of

if TYPE_CHECKING:
    from saddlebag.compression.base import Compressor
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Payload, Vector

__all__ = ["feed_back", "feed_back_in_place", "track"]


def feed_back(compressor: Compressor, x_D: Vector, memory_D: Vector, draws: Draws) -> tuple[Payload, Vector]:
    """Compress `memory_D + x_D` and return the payload with the new memory, float64 (D,); the arguments stay as they are.

    With a contractive compressor |memory|^2 <= 4 (1 - alpha) / alpha^2 max|x|^2 (Karimireddy et al. 2019, Lemma 3).

    Raises:
        NotFiniteError: the sum is not finite, or overflows the type it travels in.

    Example:
        >>> from saddlebag.compression import Draws, TopK
        >>> payload, memory_D = feed_back(TopK(k=1), np.array([3.0, 1.0]), np.zeros(2), Draws(0, 0))
        >>> payload.dense().tolist(), memory_D.tolist()
        ([3.0, 0.0], [0.0, 1.0])
    """
    owed_D = memory_D + x_D
    payload = compressor.encode(owed_D, draws)
    return payload, _less(owed_D, payload)


def feed_back_in_place(compressor: Compressor, owed_D: Vector, draws: Draws) -> Payload:
    """Compress `owed_D`, what was owed and what came, and leave there what is owed after it, float32 (D,).

    The payload's values are rounded to the type of the memory first, as a receiver of that type rounds them.

    Raises:
        NotFiniteError: the vector is not finite, or overflows the type it travels in.

    Example:
        >>> from saddlebag.compression import Draws, TopK
        >>> memory_D = np.array([3.0, 1.0], np.float32)
        >>> payload = feed_back_in_place(TopK(k=1), memory_D, Draws(0, 0))
        >>> payload.dense().tolist(), memory_D.tolist()
        ([3.0, 0.0], [0.0, 1.0])
    """
    payload = compressor.encode(owed_D, draws)
    if isinstance(payload, Sparse | Seeded):
        owed_D[payload.index_K] -= payload.value.value_D.astype(owed_D.dtype, copy=False)
        return payload
    slices = Slices(payload)
    for here in runs_of(len(owed_D)):
        sent_B = np.zeros(here.stop - here.start, owed_D.dtype)
        slices.add(here.start, sent_B)
        owed_D[here] -= sent_B
    return payload


def _less(owed_D: Vector, payload: Payload) -> Vector:
    """The bits of `owed_D - payload.dense()`; where only few coordinates were sent, in the memory of `owed_D`."""
    if isinstance(payload, Sparse | Seeded) and owed_D.dtype == np.float64:
        value_K = payload.value.value_D
        if not np.may_share_memory(owed_D, value_K):
            owed_D[payload.index_K] -= value_K
            return owed_D
    return owed_D - payload.dense()


def track(compressor: Compressor, x_D: Vector, known_D: Vector, draws: Draws) -> tuple[Payload, Vector]:
    """Compress the innovation `x_D - known_D` and return the payload with what is known after it, float64 (D,).

    With a contractive compressor |known' - x|^2 <= (1 - alpha)|known - x|^2 (Richtarik et al. 2021, section 3).

    The other side adds the payload to its own copy of `known_D`, so both copies stay equal bit for bit.

    Raises:
        NotFiniteError: the difference is not finite, or overflows the type it travels in.

    Example:
        >>> from saddlebag.compression import Draws, TopK
        >>> payload, known_D = track(TopK(k=1), np.array([3.0, 1.0]), np.array([0.0, 0.5]), Draws(0, 0))
        >>> known_D.tolist()
        [3.0, 0.5]
    """
    payload = compressor.encode(x_D - known_D, draws)
    known_D = known_D.copy()
    payload.add_to(known_D)
    return payload, known_D
