"""Every limit of [stop] through every driver: bytes end all of them at one round, seconds only cut a trajectory short."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.algorithms import Stop, digest
from saddlebag.algorithms.simulate import simulate
from saddlebag.errors import ConfigError
from saddlebag.launch.build import build_method, build_problem
from saddlebag.launch.drivers import collective as collective_driver
from saddlebag.launch.drivers.collective import _First, take_part
from saddlebag.launch.drivers.simulated import run_simulated
from saddlebag.launch.drivers.supervisor import run_grpc
from saddlebag.launch.drivers.talk import Talk
from saddlebag.launch.job import Job
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.launch.recipe.sections import CheckpointSection
from saddlebag.proto.checkpoint import CheckpointStore
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from pathlib import Path

WORKERS = 3
METHOD = {
    "name": "masha1",
    "step_size": 0.1,
    "probability": 0.2,
    "up": {"name": "rand_k", "fraction": 0.25},
    "down": {"name": "natural"},
}


def recipe(**stop: Any) -> Recipe:
    table: dict[str, Any] = {
        "workers": WORKERS,
        "problem": {"name": "bilinear", "n": 6, "regularisation": 0.2},
        "method": METHOD,
        "stop": {"max_rounds": 5_000, "every": 7, **stop},
        "checkpoint": {"every": 10},
    }
    return recipe_from_dict(table)


def reference(job: Recipe, **limits: Any) -> Any:
    problem = build_problem(job)
    return simulate(problem, build_method(job, problem), seed=job.seed, stop=Stop(every=1, **limits), wire=LoopbackWire())


def ended(result: Any) -> tuple[Any, ...]:
    return tuple(result[key] for key in ("reason", "rounds", "up_bytes", "down_bytes", "digest"))


def by_simulate(job: Recipe, out: Path, on_ranks: Any) -> tuple[Any, ...]:
    return ended(run_simulated(job, out))


def by_collective(job: Recipe, out: Path, on_ranks: Any) -> tuple[Any, ...]:
    return ended(on_ranks(WORKERS, lambda group: take_part(job, build_problem(job), Talk(group), out))[0])


def by_grpc(job: Recipe, out: Path, on_ranks: Any) -> tuple[Any, ...]:
    return ended(run_grpc(job, out))


def by_messages(job: Recipe, out: Path, on_ranks: Any) -> tuple[Any, ...]:
    pytest.importorskip("flwr", reason="Flower is an extra")
    from saddlebag.flower import InProcessGrid, MethodStrategy, method_app

    strategy = MethodStrategy(dataclasses.replace(job, checkpoint=CheckpointSection()))
    strategy.start(grid=InProcessGrid(method_app(), WORKERS))
    core = strategy.core
    return core.finished, core.round, core.ledger.up.payload, core.down_bytes, f"{digest(core.replica):016x}"


Carry = Callable[["Recipe", "Path", Any], tuple[Any, ...]]
DRIVERS = [
    by_simulate,
    by_collective,
    by_messages,
    pytest.param(by_grpc, marks=pytest.mark.e2e),
]


@pytest.mark.parametrize("carry", DRIVERS)
def test_the_bytes_of_a_worker_end_every_driver_at_the_same_round(tmp_path: Path, on_ranks: Any, carry: Carry) -> None:
    limit = 2_500
    counts = [(line.round, (line.up_bytes + line.down_bytes) / WORKERS) for line in reference(recipe(), max_rounds=80).history]
    rounds = next(round_ for round_, num_bytes in counts if num_bytes >= limit)
    assert 10 < rounds < 80
    same = reference(recipe(), max_rounds=rounds)
    expected = ("max_bytes", rounds, same.up_bytes, same.down_bytes, f"{digest(same.replica):016x}")
    assert carry(recipe(max_bytes=limit), tmp_path, on_ranks) == expected


@pytest.mark.parametrize("carry", DRIVERS)
def test_seconds_cut_a_trajectory_short_and_change_none_of_its_bits(tmp_path: Path, on_ranks: Any, carry: Carry) -> None:
    reason, rounds, up_bytes, down_bytes, end = carry(recipe(max_rounds=10**8, max_seconds=0.3), tmp_path, on_ranks)
    same = reference(recipe(), max_rounds=rounds)
    assert (reason, up_bytes, down_bytes, end) == (
        "max_seconds",
        same.up_bytes,
        same.down_bytes,
        f"{digest(same.replica):016x}",
    )


def test_a_clock_that_ticks_once_a_round_stops_where_it_should(network: Any) -> None:
    problem = build_problem(recipe())
    wires = {"rng": random.Random(3), "checkpoint_every": 4}
    net = network(problem, build_method(recipe(), problem), Stop(max_rounds=100, max_seconds=9.0, every=5), **wires)
    finish, opened = net.server.finish_round, itertools.count(1)

    def a_second_later(now: float, announce: Any = lambda: None) -> Any:
        net.now = float(next(opened))
        return finish(net.now, announce)

    net.server.finish_round = a_second_later
    net.run()
    assert (net.server.finished, net.server.round) == ("max_seconds", 10), "the first second is over before a frame comes"


def test_what_was_spent_before_a_resumption_counts(network: Any) -> None:
    problem = build_problem(recipe())
    method = build_method(recipe(), problem)
    net = network(problem, method, Stop(max_rounds=10_000, max_seconds=3.0), rng=random.Random(3), checkpoint_every=4)
    net.run(kill=[("server", 200)])
    spent_s = net.server.spent_s
    assert net.server.finished == "max_seconds"
    assert 3.0 <= spent_s < 3.1
    _, meta = net.saves["server"][max(net.saves["server"])]
    assert meta["spent_s"] == spent_s
    never_killed = network(problem, method, Stop(max_rounds=10_000, max_seconds=3.0), rng=random.Random(3))
    never_killed.run()
    assert abs(net.server.round - never_killed.server.round) < 0.2 * never_killed.server.round


def test_rank_0_counts_what_was_spent_before_it_resumed(tmp_path: Path, on_ranks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock advances a tenth of a second whenever it is read: twice a round, of which one counts."""
    ticks = itertools.count()
    monkeypatch.setattr(collective_driver.time, "monotonic", lambda: next(ticks) / 10)
    job = dataclasses.replace(recipe(max_rounds=10_000, max_seconds=5.0), workers=1)

    def body(group: Any) -> list[tuple[int, str | None]]:
        leading, ends = Job.lead(job, "collective"), []
        first = _First(leading, Talk(group), CheckpointStore(tmp_path, "rank-0"), print)
        for spent_s in (0.0, 4.05):
            arrays, meta = first.capture()
            again = _First(leading, Talk(group), CheckpointStore(tmp_path, "rank-0"), print)
            again.restore(arrays, {**meta, "spent_s": spent_s})
            list(again.rounds(leading.judge()))
            ends.append((again.core.round, again.reason))
        return ends

    assert on_ranks(1, body) == [[(50, "max_seconds"), (10, "max_seconds")]]


def test_in_process_a_clock_is_asked_for() -> None:
    problem = build_problem(recipe())
    method, seconds = build_method(recipe(), problem), itertools.count()
    stop = Stop(max_seconds=4.0)
    with pytest.raises(ConfigError, match=r"^stop\.max_seconds = 4 needs a clock$"):
        simulate(problem, method, seed=0, stop=stop, wire=LoopbackWire())
    outcome = simulate(problem, method, seed=0, stop=stop, wire=LoopbackWire(), clock=lambda: float(next(seconds)))
    assert (outcome.reason, outcome.rounds) == ("max_seconds", 4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_bytes": 0}, "stop.max_bytes must be at least 1, got 0"),
        ({"max_seconds": 0.0}, "stop.max_seconds must be positive, got 0.0"),
        ({"max_seconds": -1}, "stop.max_seconds must be positive, got -1.0"),
        ({"max_bytes": 1.5}, "stop.max_bytes must be a whole number, got 1.5"),
        ({"max_seconds": "1 h"}, "stop.max_seconds must be a number, got '1 h'"),
    ],
)
def test_limits_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe(**values)
    assert str(caught.value) == message


def test_a_million_may_be_written_as_it_is_said() -> None:
    assert recipe(max_bytes=1e6).stop.max_bytes == 1_000_000
    assert json.loads(recipe(max_bytes=1e6).canonical())["stop"]["max_bytes"] == 1_000_000
    assert "max_bytes" not in json.loads(recipe().canonical())["stop"], "recipes without it keep their digests"
