"""Error feedback: what was not sent is owed, and is added to the next message.

Seide et al. 2014; Karimireddy et al. 2019. The memory subtracts the payload itself, after every rounding, so
sent + carried = sum of the inputs holds to the last bit of the arithmetic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saddlebag.compression.base import Compressor
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Payload, Vector

__all__ = ["feed_back"]


def feed_back(compressor: Compressor, x_D: Vector, memory_D: Vector, draws: Draws) -> tuple[Payload, Vector]:
    """Compress `memory_D + x_D` and return the payload with the new memory, float64 (D,); the arguments stay as they are.

    Raises:
        NotFiniteError: the sum is not finite, or overflows the type it travels in.
    """
    owed_D = memory_D + x_D
    payload = compressor.encode(owed_D, draws)
    return payload, owed_D - payload.dense()
