"""`probability = "auto"`: how often an anchored method synchronises, from encoded bytes in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.base import Message
from saddlebag.compression import Dense, Draws, Grid
from saddlebag.proto.codec import encode

if TYPE_CHECKING:
    from saddlebag.compression import Compressor

__all__ = ["counted_probability"]


def counted_probability(up: Compressor, down: Compressor, dimension: int, sync_grid: float | None = None) -> float:
    """The p at which ordinary messages and synchronisations cost the same, at most 1/2.

    With K ~ 1/sqrt(p) iterations of c + p s bytes each, c + p s over sqrt(p) is smallest at p = c / s (Beznosikov et al. 2022
    count the uplink only and take c from a formula). Here c and s are lengths of encoded messages, up and down together,
    of a vector of normal entries: entropy coding and the downlink count.
    """
    x_D, draws = np.random.default_rng(0).standard_normal(dimension), Draws(0, 0, 0)

    def num_bytes(message: Message) -> int:
        return sum(memoryview(piece).nbytes for piece in encode(message))

    ordinary = sum(num_bytes(Message((side.encode(x_D, draws),))) for side in (up, down))
    full = Dense(x_D.astype(np.float32)) if sync_grid is None else Grid(step=sync_grid).encode(x_D, draws)
    return min(0.5, ordinary / (2 * num_bytes(Message((full,)))))
