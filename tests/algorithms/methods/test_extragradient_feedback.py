"""Compressed extragradient with error feedback: its books, its limits, and that it is no cure where workers differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, extragradient, extragradient_feedback, simulate
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws, Identity, RandK, TopK
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

TOP = TopK(fraction=0.2)


def test_without_compression_it_is_extragradient(game: BilinearGame, play: Any) -> None:
    exact = Identity(dtype="float64")
    ones = play(game, extragradient_feedback(game, up=exact, down=exact, step_size=0.3), seed=0, num_rounds=100)
    others = play(game, extragradient(game, step_size=0.3, wire="float64"), seed=0, num_rounds=100)
    for one, other in zip(ones, others, strict=True):
        assert one.next_replica.z_D == pytest.approx(other.next_replica.z_D, rel=0, abs=1e-12)


def test_what_is_sent_and_what_is_owed_add_up(game: BilinearGame, play: Any) -> None:
    """The displacements asked for so far = those made + those owed by the workers (in the mean) and the server."""
    asked_D, moved_D, gamma = np.zeros(20), np.zeros(20), 0.05
    for turn in play(game, extragradient_feedback(game, up=TOP, down=TOP, step_size=gamma), seed=0, num_rounds=60):
        operators = [game.operator(m) for m in range(4)]
        asked_D += gamma * np.mean([operator(turn.replica.point_D, Draws(0, 0)) for operator in operators], axis=0)
        moved_D += turn.down.parts[0].dense()
        owed_D = turn.next_server.memory_D + np.mean([own.memory_D for own in turn.next_workers], axis=0)
        assert moved_D + owed_D == pytest.approx(asked_D, rel=0, abs=1e-10)


def test_it_stops_short_where_workers_differ() -> None:
    def least(heterogeneity: float) -> float:
        game = BilinearGame(n=10, num_workers=4, regularisation=0.2, heterogeneity=heterogeneity)
        method = extragradient_feedback(game, up=TOP, down=Identity(), step_size=0.02)
        outcome = simulate(game, method, seed=0, stop=Stop(max_iterations=3000, every=10), wire=LoopbackWire())
        return min(record.merits["relative_error"] for record in outcome.history)

    assert least(0.0) < 1e-4
    assert least(0.5) > 1e-2


def test_there_is_no_proven_step_and_no_unbiased_compressor(game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match="extragradient_feedback has no proven step size"):
        extragradient_feedback(game, up=TOP, down=TOP)
    with pytest.raises(ConfigError, match=r"needs a contractive compressor down, got RandK\(k=1, .*\(unbiased\)"):
        extragradient_feedback(game, up=TOP, down=RandK(k=1), step_size=0.1)
