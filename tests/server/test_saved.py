"""A server's checkpoint whose facts somebody has edited is damaged, and said to be: nothing else is raised."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.algorithms import Judge, Stop
from saddlebag.errors import ConfigError, StateError
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings
from saddlebag.server.saved import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saddlebag.algorithms import AnyMethod
    from saddlebag.algorithms.problems import BilinearGame

ODD: list[Any] = [None, "x", -1, 0.5, True, [], {}, [[]], 10**30, [7], [1, 0]]


def places(facts: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in facts if isinstance(facts, dict) else range(len(facts)) if isinstance(facts, list) else ():
        yield (*path, key)
        yield from places(facts[key], (*path, key))


def test_edited_facts_are_a_damaged_checkpoint(game: BilinearGame, game_method: AnyMethod) -> None:
    def core() -> ServerCore:
        settings = ServerSettings(num_workers=4, seed=7, checkpoint_every=5)
        return ServerCore(game_method, Judge(game, Stop(max_rounds=3)), game.start(), settings, time.monotonic())

    saved = capture(core())
    core().restore(saved.arrays, saved.meta, 0.0)
    refused = 0
    for path in places(dict(saved.meta)):
        for value in [*ODD, "missing"]:
            meta = copy.deepcopy(dict(saved.meta))
            owner: Any = meta
            for key in path[:-1]:
                owner = owner[key]
            if value == "missing":
                del owner[path[-1]]
            else:
                owner[path[-1]] = value
            try:
                core().restore(saved.arrays, meta, 0.0)
            except (ConfigError, StateError):  # and nothing else
                refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    "name", ["version", "recipe", "epoch", "epoch_start", "round", "members", "ledger", "log", "arrears", "down_bytes"]
)
@pytest.mark.parametrize("value", [None, "x", -1, 0.5, [], 10**30])
def test_the_main_facts_are_refused(game: BilinearGame, game_method: AnyMethod, name: str, value: Any) -> None:
    settings = ServerSettings(num_workers=4, seed=7, checkpoint_every=5)
    core = ServerCore(game_method, Judge(game, Stop(max_rounds=3)), game.start(), settings, time.monotonic())
    saved = capture(core)
    with pytest.raises((ConfigError, StateError)):
        core.restore(saved.arrays, {**saved.meta, name: value}, 0.0)


def test_contributions_cannot_begin_in_mid_run(game: BilinearGame, game_method: AnyMethod) -> None:
    def core(**more: Any) -> ServerCore:
        settings = ServerSettings(num_workers=4, seed=7, checkpoint_every=5, **more)
        return ServerCore(game_method, Judge(game, Stop(max_rounds=3)), game.start(), settings, time.monotonic())

    saved = capture(core())
    with pytest.raises(ConfigError, match=r"server\.contributions was false when the run began"):
        core(contributions=True).restore(saved.arrays, saved.meta, 0.0)
