"""Every key of the tables about the driver, through every driver: kept, or refused by name."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from saddlebag.algorithms import Spent, Stop
from saddlebag.algorithms.averages.robust import TrimmedMean
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
    "server.secure": 2,
    "server.noise": 1.0,
    "server.delta": 1e-6,
    "server.signers": ("01" * 32, "02" * 32),
    "server.mean": {"name": "trimmed_mean", "fraction": 0.3},
    "server.shards": 2,
    "server.address": "127.0.0.1:7070",
    "checkpoint.every": 3,
    "output.directory": "elsewhere/of/this",
    "output.tensorboard": True,
    "output.pictures": 2,
    "output.trackers": ("wandb",),
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
    "server.shards": "shards",
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
        with pytest.raises(
            ConfigError, match=f"^{key} = {re.escape(repr(OTHER[key]))} cannot be kept by {what}: .*; leave it at"
        ):
            Job.lead(recipe, driver)
        return
    if key == "server.balance":
        with pytest.raises(ConfigError, match=r"^server.balance is for programs with steps of their own"):
            Job.lead(recipe, driver).server_core(0.0)
        return
    if key == "server.secure":
        with pytest.raises(ConfigError, match=r"^server.secure cannot be kept by CompressedOptimizer: .* and common_range$"):
            Job.lead(recipe, driver)
        return
    if key == "server.noise":
        with pytest.raises(ConfigError, match=r"^server.noise cannot be kept by CompressedOptimizer: .* and common_range$"):
            Job.lead(recipe, driver).server_core(0.0)
        return
    if key == "server.signers":
        with pytest.raises(ConfigError, match=r"^server.signers is for server.secure"):
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


SECURE: dict[str, Any] = {
    "workers": 4,
    "problem": {"name": "bilinear", "n": 4, "regularisation": 0.2},
    "method": {
        "name": "compressed_sgd",
        "step_size": 0.1,
        "common_range": 1.0,
        "up": {"name": "nearest_int8"},
        "down": {"name": "nearest_int8"},
    },
    "stop": {"max_rounds": 8},
}


@pytest.mark.parametrize(("said", "threshold"), [(True, 3), (2, 2), (4, 4), (False, 0), (0, 0)])
def test_secure_aggregation_takes_more_than_half_of_the_workers_or_as_many_as_said(said: bool | int, threshold: int) -> None:
    job = Job.lead(recipe_from_dict({**SECURE, "server": {"secure": said}}), "grpc")
    assert job.server_core(0.0).settings.secure == threshold
    assert (job.securing() is not None) == bool(threshold)
    assert ("secure" in job.recipe.canonical()) == bool(threshold)


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ({"secure": 5}, r"^server.secure must be true, false or a number of workers from 2 to 4, got 5$"),
        ({"secure": -1}, r"^server.secure must be .* from 2 to 4, got -1$"),
        (
            {"secure": True, "mean": "coordinate_median"},
            r"^server.mean = .* cannot be kept with server.secure: the server sees no",
        ),
        ({"secure": True, "contributions": True}, r"^server.contributions = True cannot be kept with server.secure"),
        ({"secure": True, "quorum": 2}, r"^server.quorum = 2 cannot be kept with server.secure"),
        ({"secure": True, "weights": "samples"}, r"^server.weights = samples cannot be kept with server.secure"),
    ],
)
def test_what_needs_a_single_uplink_is_refused_with_secure_aggregation(server: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Job.lead(recipe_from_dict({**SECURE, "server": server}), "grpc").server_core(0.0)


def test_secure_aggregation_needs_three_workers_and_uplinks_on_one_grid() -> None:
    with pytest.raises(ConfigError, match=r"^server.secure needs at least 3 workers, for each of 2 knows the other's, got 2$"):
        Job.lead(recipe_from_dict({**SECURE, "workers": 2, "server": {"secure": True}}), "grpc").server_core(0.0)
    for name in ("qsgda", "innovations", "masha1"):
        plain = {**SECURE, "method": {"name": name, "step_size": 0.1}, "server": {"secure": True}}
        with pytest.raises(
            ConfigError, match=r"^server.secure cannot be kept by .*: its workers' uplinks are no whole numbers"
        ):
            Job.lead(recipe_from_dict(plain), "grpc")


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
