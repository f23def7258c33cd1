"""The two memories of a compressed exchange: what is owed, or what the other side knows; see `compressed.py`.

What differs between them stands here, on both sides and in both directions; the method holds one and asks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression import feed_back, track

if TYPE_CHECKING:
    from saddlebag.compression import Compressor, Draws, Payload, Vector


class Feedback:
    """Both sides send what they owe; what arrives is applied, and nothing is known before it arrives."""

    send = staticmethod(feed_back)

    def known(self, d: int) -> Vector | None:
        """What replicas know at the start: nothing that they would have to keep."""
        del d
        return None

    def answer(
        self, down: Compressor, memory_D: Vector, mean_D: Vector, known_D: Vector | None, draws: Draws
    ) -> tuple[Payload, Vector]:
        """The downlink, and what the server owes after it."""
        del known_D
        return feed_back(down, mean_D, memory_D, draws)

    def heard(self, known_D: Vector | None, payload: Payload) -> tuple[Vector, Vector | None]:
        """The gradient that a downlink brings, and what is known after it."""
        del known_D
        return payload.dense(), None


class _Tracking:
    """Both sides send what the other one lacks of their vector; what is known is applied."""

    send = staticmethod(track)

    def known(self, d: int) -> Vector | None:
        """G = 0."""
        return np.zeros(d)

    def answer(
        self, down: Compressor, memory_D: Vector, mean_D: Vector, known_D: Vector | None, draws: Draws
    ) -> tuple[Payload, Vector]:
        """The downlink, and the mean of what the server knows of the workers, exactly."""
        assert known_D is not None
        sum_D = memory_D + mean_D
        return down.encode(sum_D - known_D, draws), sum_D

    def heard(self, known_D: Vector | None, payload: Payload) -> tuple[Vector, Vector | None]:
        """What is known after a downlink, which is the gradient."""
        assert known_D is not None
        after_D = known_D.copy()
        payload.add_to(after_D)
        return after_D, after_D


MEMORIES: dict[str, Feedback | _Tracking] = {"feedback": Feedback(), "innovations": _Tracking()}
