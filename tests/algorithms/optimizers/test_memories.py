"""The two memories: what is applied and what is kept add up to what came in, on the server's side alone."""

from __future__ import annotations

import numpy as np
import pytest

from saddlebag.algorithms.optimizers.memories import MEMORIES
from saddlebag.compression import Draws, TopK

TOP = TopK(k=2)


@pytest.mark.parametrize("name", sorted(MEMORIES))
def test_what_replicas_hear_and_what_the_server_keeps_add_up(name: str) -> None:
    """Feedback: the sum of the gradients and what is owed are the sum of the means. Innovations: g follows that sum."""
    memory, rng = MEMORIES[name], np.random.default_rng(0)
    known_D, kept_D = memory.known(6), np.zeros(6)
    came_D, applied_D, gradient_D = np.zeros(6), np.zeros(6), np.zeros(6)
    for round_ in range(12):
        mean_D = rng.standard_normal(6)
        came_D = came_D + mean_D
        payload, kept_D = memory.answer(TOP, kept_D, mean_D, known_D, Draws(0, round_))
        gradient_D, known_D = memory.heard(known_D, payload)
        applied_D = applied_D + gradient_D
    if known_D is None:
        assert np.allclose(applied_D + kept_D, came_D, rtol=0, atol=1e-13)
        return
    assert np.allclose(kept_D, came_D, rtol=0, atol=1e-13), "the server knows the mean exactly"
    assert np.array_equal(gradient_D, known_D)
    for round_ in range(12, 16):  # nothing new comes: K coordinates a round are brought up to date
        payload, kept_D = memory.answer(TOP, kept_D, np.zeros(6), known_D, Draws(0, round_))
        gradient_D, known_D = memory.heard(known_D, payload)
    assert known_D is not None
    rounding = 2.0**-23 * float(np.abs(came_D).max())  # differences travel as float32
    assert np.allclose(known_D, came_D, rtol=0, atol=rounding)


@pytest.mark.parametrize("name", sorted(MEMORIES))
def test_what_was_known_is_left_alone(name: str) -> None:
    memory = MEMORIES[name]
    known_D = memory.known(3)
    memory.heard(known_D, TOP.encode(np.ones(3), Draws(0, 0)))
    assert known_D is None or not known_D.any()
