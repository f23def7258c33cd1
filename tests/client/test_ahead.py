"""An operator that is told in advance where it will be asked gives the same values, earlier."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import METHODS
from saddlebag.algorithms.networks.local import Keeper
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.client.ahead import Ahead, looking_ahead
from saddlebag.compression import Draws, Identity
from saddlebag.errors import NotFiniteError

KEY = Draws(1, 2, 0)


class Spy:
    """Notes in which thread it is asked for what."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, Draws, str]] = []
        self.computing = threading.Event()

    def __call__(self, z_D: np.ndarray, draws: Draws) -> np.ndarray:
        self.asked.append((float(z_D[0]), draws, threading.current_thread().name))
        self.computing.set()
        if not np.isfinite(z_D).all():
            raise NotFiniteError("no value")
        return z_D * (1.0 + draws.round)


def test_a_value_is_computed_before_it_is_asked_for_and_once() -> None:
    spy = Spy()
    ahead, z_D = Ahead(spy), np.ones(3)
    ahead.begin(z_D, KEY)
    assert spy.computing.wait(10)  # nobody has asked
    np.testing.assert_array_equal(ahead(z_D, KEY), 3 * z_D)
    assert spy.asked == [(1.0, KEY, "ahead")]
    np.testing.assert_array_equal(ahead(z_D, KEY), 3 * z_D)  # it is given once
    assert spy.asked[1][2] != "ahead"


@pytest.mark.parametrize(("point", "key"), [(2.0, KEY), (1.0, Draws(1, 3, 0))])
def test_who_asks_for_something_else_gets_that(point: float, key: Draws) -> None:
    spy = Spy()
    ahead, z_D = Ahead(spy), np.full(3, point)
    ahead.begin(np.ones(3), KEY)
    np.testing.assert_array_equal(ahead(z_D, key), z_D * (1.0 + key.round))
    assert [entry[:2] for entry in spy.asked] == [(1.0, KEY), (point, key)]


def test_a_second_beginning_replaces_the_first() -> None:
    spy = Spy()
    ahead, first_D, second_D = Ahead(spy), np.ones(3), np.full(3, 2.0)
    ahead.begin(first_D, KEY)
    ahead.begin(second_D, KEY)
    np.testing.assert_array_equal(ahead(second_D, KEY), 3 * second_D)
    assert [entry[0] for entry in spy.asked] == [1.0, 2.0]


def test_an_error_comes_to_who_asks() -> None:
    ahead, z_D = Ahead(Spy()), np.full(3, np.nan)
    ahead.begin(z_D, KEY)
    with pytest.raises(NotFiniteError, match="no value"):
        ahead(z_D, KEY)
    given_up: Any = Ahead(Spy())
    given_up.begin(z_D, KEY)
    np.testing.assert_array_equal(given_up(np.ones(3), KEY), np.full(3, 3.0))


def test_only_late_methods_look_ahead_and_keepers_of_blocks_never_do() -> None:
    class Blocks:
        name = "blocks"

        def block_shape(self, worker: int) -> tuple[int, ...]:
            return (1,)

        def step(self, worker: int, z_D: Any, block_E: Any, draws: Draws) -> Any:
            return z_D, block_E

    game, spy, keeper = BilinearGame(n=2, num_workers=1), Spy(), Keeper(Blocks(), 0)
    given: dict[str, Any] = {"up": Identity(), "down": Identity(), "step_size": 0.1}
    in_time, late = (METHODS["compressed_adamw"](game, late=late, **given) for late in (False, True))
    assert looking_ahead(in_time, spy) is spy
    assert isinstance(looking_ahead(late, spy), Ahead)
    assert looking_ahead(late, keeper) is keeper
