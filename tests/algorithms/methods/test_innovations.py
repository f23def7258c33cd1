"""The method beside its own recursion, and what it needs on the reference problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, innovations, ogda, simulate
from saddlebag.algorithms.problems import BilinearGame, RobustLogisticRegression
from saddlebag.compression import Grid, Identity, RandK, TopK
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.proto.codec import LoopbackWire

EXACT = Identity(dtype="float64")
GAMES = {
    "balanced": BilinearGame(n=2, num_workers=2, regularisation=0.5),
    "rotation": BilinearGame(n=2, num_workers=3, regularisation=0.02, heterogeneity=0.1),
    "mixed": BilinearGame(n=2, num_workers=2, regularisation=0.1, heterogeneity=1.5, seed=4),
}


@pytest.mark.parametrize("name", ["game", "robust"])
def test_uncompressed_it_is_ogda(name: str, request: pytest.FixtureRequest, play: Any) -> None:
    problem = request.getfixturevalue(name)
    step_size = 0.3 / problem.constants.lipschitz
    method = innovations(problem, up=EXACT, down=EXACT, step_size=step_size)
    pairs = zip(
        play(problem, method, seed=0, num_rounds=100),
        play(problem, ogda(problem, step_size=step_size, wire="float64"), seed=0, num_rounds=100),
        strict=True,
    )
    for ours, theirs in pairs:
        assert np.allclose(ours.next_replica.z_D, theirs.next_replica.z_D, rtol=0, atol=1e-12)
        assert ours.next_replica.iteration == ours.draws.round + 1


def test_memories_are_what_the_other_side_knows(game: BilinearGame, play: Any) -> None:
    method = innovations(game, up=Grid(), down=TopK(k=3), step_size=0.2)
    for turn in play(game, method, seed=0, num_rounds=40):
        mean_D = np.mean([own.known_D for own in turn.next_workers], axis=0)
        assert np.allclose(turn.next_server.mean_D, mean_D, rtol=0, atol=1e-13 * np.abs(mean_D).max())
        for own, after, up in zip(turn.workers, turn.next_workers, turn.ups, strict=True):
            assert np.array_equal(after.known_D, own.known_D + up.parts[0].dense())
        assert np.array_equal(turn.next_replica.known_D, turn.replica.known_D + turn.down.parts[0].dense())


def test_grids_reach_the_float64_floor_as_fast_as_ogda(game: BilinearGame, wire: LoopbackWire) -> None:
    """F_m(z*) is not zero, so a compressor without memories would stop at a floor; here 1e-13 is passed."""
    step_size = 0.45 / game.constants.lipschitz
    grid = innovations(game, up=Grid(), down=Grid(step=0.5), step_size=step_size)
    stop = Stop(merit=1e-6, max_iterations=2000)
    counts = [
        simulate(game, method, seed=0, stop=stop, wire=wire).replica.iteration
        for method in (grid, ogda(game, step_size=step_size))
    ]
    assert counts[0] == pytest.approx(counts[1], rel=0.05)
    far = simulate(game, grid, seed=0, stop=Stop(merit=1e-13, max_iterations=3000), wire=wire)
    assert far.reason == "merit"


def test_with_a_prox_the_residual_vanishes(robust: RobustLogisticRegression, wire: LoopbackWire) -> None:
    method = innovations(robust, up=Grid(), down=Grid(step=0.5), step_size=0.5 / robust.constants.lipschitz)
    assert simulate(robust, method, seed=0, stop=Stop(merit=1e-9, max_iterations=20000), wire=wire).reason == "merit"


@pytest.mark.parametrize(("up", "down"), [(RandK(k=1), EXACT), (EXACT, RandK(k=1))])
def test_unbiased_compressors_are_refused(up: Any, down: Any, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=r"innovations needs a contractive compressor (up|down), got RandK"):
        innovations(game, up=up, down=down, step_size=0.1)


@pytest.mark.slow
def test_bytes_on_the_reference_problem(wire: LoopbackWire) -> None:
    """masha.md, section 11: OGDA needs 1,384 iterations and 8.86 Mbit for each worker at its best step; asked: 0.6."""
    game = BilinearGame()
    method = innovations(game, up=Grid(), down=Grid(step=0.5), step_size="auto")
    outcome = simulate(game, method, seed=0, stop=Stop(merit=1e-6, max_iterations=2000), wire=wire, keep_history=False)
    assert outcome.reason == "merit"
    assert 8 * (outcome.up_bytes + outcome.down_bytes) / game.num_workers <= 8.86e6 / 20
