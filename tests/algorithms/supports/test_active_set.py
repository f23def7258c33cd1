"""A method on the coordinates that still move: the inner one's steps there, and nothing elsewhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import saddlebag as sb
from saddlebag.algorithms import METHODS, Stop, check_method, digest, simulate
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.algorithms.state import pack
from saddlebag.compression import Grid, TopK
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

D = 16


@dataclasses.dataclass(frozen=True)
class Partly(BilinearGame):
    """A game of whose coordinates only some move, by what z_0 says at the start."""

    kept: tuple[int, ...] = ()

    def active(self, z_D: np.ndarray) -> np.ndarray:
        del z_D
        return np.array(self.kept, np.int64)


def partly(*kept: int) -> Partly:
    return Partly(n=D // 2, num_workers=2, regularisation=0.3, kept=kept)


def method(problem: Any, name: str = "innovations", up: Any = None, every: int = 0, **keys: Any) -> Any:
    up = up or Grid()
    return METHODS["active_set"](problem, up=up, down=up, of={"name": name, **keys}, every=every, step_size=0.1)


def run(problem: Any, way: Any, rounds: int = 12) -> Any:
    return simulate(problem, way, seed=3, stop=Stop(max_rounds=rounds), wire=LoopbackWire())


@pytest.mark.parametrize("name", ["innovations", "compressed_adamw", "diana_sgda"])
def test_where_all_move_it_is_the_inner_method(name: str) -> None:
    problem = partly(*range(D))
    up: Any = sb.make_compressor("natural" if name == "diana_sgda" else "grid")
    inner = METHODS[name](problem, up=up, down=up, step_size=0.1)
    ends = [run(problem, way) for way in (inner, method(problem, name, up))]
    assert digest(ends[0].replica) == digest(ends[1].replica)
    assert (ends[0].up_bytes, ends[0].down_bytes) == (ends[1].up_bytes, ends[1].down_bytes)
    every = run(problem, dataclasses.replace(method(partly(0), name, up), every=1))
    assert digest(every.replica) == digest(ends[0].replica), "every = 1 leaves nothing out"


def test_what_does_not_move_stays_and_does_not_travel() -> None:
    kept = (1, 4, 5, 11)
    problem, way = partly(*kept), method(partly(*kept), "compressed_adamw", memory="innovations", weight_decay=0.1)
    end = run(problem, way)
    outside_D = np.setdiff1d(np.arange(D), kept)
    start = way.init_replica(problem.start())
    for name, array in pack(end.replica).items():
        if array.shape == (D,):
            assert np.array_equal(array[outside_D], pack(start)[name][outside_D]), name
            assert not np.array_equal(array[list(kept)], pack(start)[name][list(kept)]), name
    assert way.uplink_sizes(end.replica, sb.compression.Draws(0, 0)) == (len(kept),)
    whole = run(problem, METHODS["compressed_adamw"](problem, up=Grid(), down=Grid(), step_size=0.1))
    assert end.up_bytes < whole.up_bytes


def test_on_a_support_it_is_the_inner_method_of_the_smaller_problem() -> None:
    """Freeze y at its start: what is left is a problem in x alone."""
    kept = tuple(range(D // 2))
    problem = partly(*kept)
    start_D = problem.start()

    class Half:
        name, dimension, num_workers, unconstrained, constants = "half", D // 2, 2, True, None

        def start(self) -> Any:
            return start_D[: D // 2]

        def prox(self, v_D: Any, step_size: float) -> Any:
            del step_size
            return v_D

        def operator(self, worker: int) -> Any:
            ask = problem.operator(worker)
            return lambda z_D, draws: ask(np.concatenate([z_D, start_D[D // 2 :]]), draws)[: D // 2]

        def merits(self, z_D: Any) -> Any:
            return {"size": float(abs(z_D).max())}

    small: Any = Half()
    ends = [run(problem, method(problem)), run(small, METHODS["innovations"](small, up=Grid(), down=Grid(), step_size=0.1))]
    assert np.array_equal(ends[0].replica.z_D[: D // 2], ends[1].replica.z_D)
    assert ends[0].up_bytes == ends[1].up_bytes


@pytest.mark.parametrize("every", [0, 3])
@pytest.mark.parametrize("kept", [(), (0, 7, 9)])
def test_it_is_a_method(every: int, kept: tuple[int, ...]) -> None:
    problem = partly(*kept)
    check_method(method(problem, every=every, up=TopK(fraction=0.5)), problem)


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (3, "active_set.of must be a table with the name of a method, got 3"),
        ({"name": "ogda"}, "active_set.of.name must be a method with compressors, got 'ogda'; known: "),
        ({"name": "active_set"}, "active_set.of.name must be a method with compressors, got 'active_set'"),
        ({"name": "innovations", "step_size": 1.0}, "active_set.of takes no step_size; write it beside the table"),
        ({"name": "innovations", "warm": 1.0}, "method 'innovations' has no parameter 'warm'"),
        ({"name": "compressed_lamb"}, "compressed_lamb looks at whole tensors"),
    ],
)
def test_bad_inner_methods_are_named(of: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        METHODS["active_set"](partly(0), up=Grid(), down=Grid(), of=of, step_size=0.1)


def test_problems_and_periods_that_do_not_fit_are_named() -> None:
    game = BilinearGame(n=3, num_workers=2)
    with pytest.raises(ConfigError, match="active_set needs a problem that says which coordinates move"):
        METHODS["active_set"](game, up=Grid(), down=Grid(), step_size=0.1)
    with pytest.raises(ConfigError, match=r"active_set\.every must be a whole number of at least 0, got -1"):
        method(partly(0), every=-1)
