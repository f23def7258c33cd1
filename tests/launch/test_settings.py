"""Every key of the tables about the driver, through every driver: kept, or refused by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from saddlebag.algorithms import Spent, Stop
from saddlebag.algorithms.robust import TrimmedMean
from saddlebag.errors import ConfigError
from saddlebag.launch.job import Job
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.launch.settings import DRIVERS, SECTIONS, require_kept

OTHER: dict[str, Any] = {
    "server.lease_s": 5.0,
    "server.round_deadline_s": 77.0,
    "server.on_lost": "drop",
    "server.progress_s": 4.0,
    "server.quorum": 1,
    "server.contributions": True,
    "server.grace_s": 0.5,
    "server.weights": "samples",
    "server.balance": True,
    "server.mean": {"name": "trimmed_mean", "fraction": 0.3},
    "server.address": "127.0.0.1:7070",
    "checkpoint.every": 3,
    "output.directory": "elsewhere/of/this",
    "output.tensorboard": True,
    "output.pictures": 2,
}
"""For each key a value that is not its default."""
STOPS = {
    "stop.merit": 1e-3,
    "stop.max_rounds": 4,
    "stop.max_iterations": 4,
    "stop.max_bytes": 400,
    "stop.max_seconds": 4.0,
    "stop.every": 2,
}
OF_THE_CORE = {
    "server.lease_s": "lease_s",
    "server.round_deadline_s": "round_deadline_s",
    "server.on_lost": "on_lost",
    "server.progress_s": "progress_s",
    "server.quorum": "quorum",
    "server.contributions": "contributions",
    "server.grace_s": "grace_s",
    "server.weights": "weights",
    "checkpoint.every": "checkpoint_every",
}
"""What the server's core acts on, and under which name."""


def recipe_with(**values: Any) -> Recipe:
    tables: dict[str, Any] = {
        "workers": 2,
        "problem": {"name": "bilinear", "n": 4, "regularisation": 0.2},
        "method": {"name": "qsgda", "step_size": 0.3},
        "stop": {"max_rounds": 8},
    }
    for key, value in values.items():
        table, _, field = key.partition(".")
        tables.setdefault(table, {})[field] = value
    return recipe_from_dict(tables)


def test_no_key_is_forgotten() -> None:
    keys = {f"{table}.{field.name}" for table, section in SECTIONS.items() for field in dataclasses.fields(section)}
    assert set(OTHER) == keys
    assert set(STOPS) == {f"stop.{field.name}" for field in dataclasses.fields(Stop)}
    assert all(set(refused) <= keys for _, refused in DRIVERS.values())


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("key", OTHER)
def test_a_driver_keeps_a_key_or_refuses_it_by_name(driver: str, key: str) -> None:
    recipe = recipe_with(**{key: OTHER[key], "method.name": "compressed_sgd"})
    what, refused = DRIVERS[driver]
    if key in refused:
        with pytest.raises(ConfigError, match=f"^{key} = {OTHER[key]!r} cannot be kept by {what}: .*; leave it at"):
            Job.lead(recipe, driver)
        return
    if key == "server.balance":
        with pytest.raises(ConfigError, match=r"^server.balance is for programs with steps of their own"):
            Job.lead(recipe, driver).server_core(0.0)
        return
    core = Job.lead(recipe, driver).server_core(0.0)
    if key in OF_THE_CORE:
        assert getattr(core.settings, OF_THE_CORE[key]) == OTHER[key]
    if key == "server.mean":
        assert core.settings.mean == TrimmedMean(fraction=0.3)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("key", STOPS)
def test_every_driver_s_judge_keeps_every_limit(driver: str, key: str) -> None:
    recipe = recipe_with(**{key: STOPS[key]})
    require_kept(recipe, driver)
    job = Job.lead(recipe, driver)
    assert getattr(job.recipe.stop, key.partition(".")[2]) == STOPS[key]
    judge, core = job.judge(), job.server_core(0.0)
    replica = core.replica
    assert judge(8, replica, replica, Spent(0, 0.0)).reason == "max_rounds"
    for asked in (judge, core._judge):  # the core's own, too
        reasons = {asked(1, replica, replica, spent).reason for spent in (Spent(800, 0.0), Spent(799, 4.0), Spent(799, 3.9))}
        limit = key.partition(".")[2]
        assert reasons == ({limit, None} if limit in ("max_bytes", "max_seconds") else {None})


@pytest.mark.parametrize("other", ["server.quorum", "server.weights", "server.balance"])
def test_rounds_that_weigh_their_workers_take_no_rule_in_place_of_the_mean(other: str) -> None:
    recipe = recipe_with(**{"server.mean": "coordinate_median", other: OTHER[other]})
    with pytest.raises(ConfigError, match=r"^server.mean = CoordinateMedian.* takes all workers of a round alike; leave"):
        Job.lead(recipe, "grpc").server_core(0.0)


def test_what_is_left_out_is_refused_by_nobody() -> None:
    for driver in DRIVERS:
        require_kept(recipe_with(), driver)
        require_kept(recipe_with(**{"checkpoint.every": 0}), driver)


def test_those_who_join_have_the_leader_s_numbers_and_nobody_else_works_them_out(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_with(**{"method.step_size": "theory"})
    lead = Job.lead(recipe, "grpc")
    monkeypatch.setattr("saddlebag.launch.job.resolve", lambda *_: pytest.fail("a worker works out constants"))
    waiting = Job.join(recipe, problem=lead.problem)
    assert waiting.method != lead.method
    assert waiting.agreeing(lead.agreed).method == lead.method
    assert Job.join(recipe, lead.agreed, problem=lead.problem).method == lead.method


def test_there_are_as_many_workers_as_the_recipe_says() -> None:
    with pytest.raises(ConfigError, match=r"rank must lie in \[0, 2\), got 2"):
        Job.lead(recipe_with(), "grpc").worker_core(2)
