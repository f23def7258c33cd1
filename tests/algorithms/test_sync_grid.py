"""Synchronisations sent as compressed innovations: what is exact, what converges, and what is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, check_method, masha1, masha2, simulate
from saddlebag.algorithms.problems import FiniteBilinearGame
from saddlebag.compression import Draws, Grid, Identity, Natural, RandK, TopK
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from saddlebag.algorithms.problems import BilinearGame, RobustLogisticRegression

EXACT = Identity(dtype="float64")


def make(name: str, game: BilinearGame, sync_grid: float | None, step_size: Any = "auto") -> Any:
    if name == "masha1":
        return masha1(game, up=Natural(), down=Natural(), step_size=step_size, probability=0.2, sync_grid=sync_grid)
    return masha2(game, up=Grid(), down=Grid(step=0.5), step_size=step_size, probability=0.2, sync_grid=sync_grid)


@pytest.mark.parametrize("factory", [masha1, masha2])
def test_with_exact_differences_the_slope_is_the_operator_whatever_the_memories_lack(
    factory: Any, game: BilinearGame, play: Any
) -> None:
    method = factory(game, up=EXACT, down=EXACT, step_size=0.2, probability=0.3, sync_grid=1.0)
    lacked = 0.0
    for turn in play(game, method, seed=0, num_rounds=60):
        if turn.replica.syncing:
            continue
        half_D = method._half(turn.replica)
        exact_D = np.mean([game.operator(worker)(half_D, Draws(0, 0)) for worker in range(game.num_workers)], axis=0)
        moved_D = method._pulled(turn.replica) - turn.next_replica.z_D
        assert np.allclose(moved_D, 0.2 * exact_D, rtol=0, atol=1e-12 * np.abs(exact_D).max())
        lacked = max(lacked, float(np.linalg.norm(turn.server.operator_w_D - turn.replica.operator_w_D)))
    assert lacked > 0.1, "or the test would show nothing"


def test_the_first_synchronisation_is_exact(game: BilinearGame, play: Any) -> None:
    first = next(iter(play(game, make("masha1", game, 1.0), seed=0, num_rounds=1)))
    exact_D = np.mean([game.operator(worker)(game.start(), Draws(0, 0)) for worker in range(game.num_workers)], axis=0)
    assert np.allclose(first.next_replica.state.operator_w_D, exact_D, rtol=1e-6)


@pytest.mark.parametrize("name", ["masha1", "masha2"])
@pytest.mark.parametrize("rule", ["current", "next"])
def test_it_keeps_the_laws_of_a_method(name: str, rule: Any, game: BilinearGame) -> None:
    factory, sides = (masha1, RandK(k=3)) if name == "masha1" else (masha2, TopK(k=3))
    method = factory(game, up=sides, down=sides, step_size=0.05, rule=rule, sync_grid=0.5)  # type: ignore[operator]
    check_method(method, game, wire=LoopbackWire())


def test_it_keeps_the_laws_with_a_prox(robust: RobustLogisticRegression) -> None:
    method = masha1(robust, up=Natural(), down=Natural(), step_size="auto", sync_grid=0.5)
    check_method(method, robust, wire=LoopbackWire())


@pytest.mark.parametrize("name", ["masha1", "masha2"])
def test_it_converges_to_the_float64_floor_and_saves_bytes(name: str, game: BilinearGame, wire: LoopbackWire) -> None:
    stop = Stop(merit=1e-6, max_iterations=5000)
    ends = [simulate(game, make(name, game, grid), seed=0, stop=stop, wire=wire, keep_history=False) for grid in (None, 0.5)]
    assert [end.reason for end in ends] == ["merit", "merit"]
    full, small = (end.up_bytes + end.down_bytes for end in ends)
    assert small <= 0.8 * full  # D = 20, where headers weigh most; at D = 40 a half and less
    far = simulate(game, make(name, game, 0.5), seed=0, stop=Stop(merit=1e-12, max_iterations=9000), wire=wire)
    assert far.reason == "merit"


def test_what_does_not_go_together_is_refused(game: BilinearGame) -> None:
    finite = FiniteBilinearGame(n=4, num_workers=2)
    with pytest.raises(ConfigError, match=r"grid\.step must lie in"):
        make("masha1", game, 5.0)
    with pytest.raises(ConfigError, match="masha1's theory has exact synchronisations"):
        make("masha1", game, 0.5, None)
    with pytest.raises(ConfigError, match="sync_grid does not go with batches"):
        masha1(finite, up=Natural(), down=Natural(), step_size=0.1, batch=1, sync_grid=0.5)
