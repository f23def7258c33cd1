"""Rounds that count what has come: weights, what is late, and which methods allow it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import Stop, digest, simulate
from saddlebag.algorithms.merging import Arrivals, Counted, merged, replayed, require_mergeable
from saddlebag.compression import Dense, Sparse
from saddlebag.errors import ConfigError, StateError
from saddlebag.launch.job import Job
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.proto.codec import LoopbackWire

METHOD = {
    "name": "diloco",
    "step_size": 0.7,
    "momentum": 0.6,
    "local_steps": 3,
    "local_step_size": 0.02,
    "up": {"name": "top_k", "k": 2},
    "down": {"name": "grid"},
}
GIVEN: dict[str, Any] = {"seed": 7, "weights": "equal", "wire": LoopbackWire()}


def job(method: dict[str, Any] = METHOD) -> Job:
    problem = {"name": "bilinear", "n": 4, "regularisation": 0.2}
    return Job.lead(recipe_from_dict({"workers": 3, "seed": 7, "problem": problem, "method": method}), "grpc")


def log_of(*rounds: list[tuple[int, int, int]]) -> list[Arrivals]:
    return [
        Arrivals(round=number, counted=tuple(Counted(worker=rank, age=age, samples=samples) for rank, age, samples in entries))
        for number, entries in enumerate(rounds)
    ]


def test_a_run_in_which_nobody_is_late_is_the_one_that_waits_for_all() -> None:
    led = job()
    outcome = simulate(led.problem, led.method, seed=7, stop=Stop(max_rounds=5), wire=LoopbackWire())
    everybody = [(rank, 0, 1) for rank in range(3)]
    assert digest(replayed(led.problem, led.method, log_of(*[everybody] * 5), **GIVEN)) == digest(outcome.replica)


def test_the_mean_weighs_samples_and_discounts_age_without_normalising_it_away() -> None:
    method: Any = job().method
    said = [
        (Counted(worker=0, samples=1), [(0, 0, Dense(np.array([2.0, 0.0]))), (0, 2, Dense(np.array([4.0])))]),
        (Counted(worker=2, samples=3, age=3), [(0, 0, Sparse(3, np.array([2]), Dense(np.array([8.0]))))]),
    ]
    (mean,) = merged(method, (3,), said, "samples")
    assert mean.dense().tolist() == [0.5, 0.0, (4.0 + 3 * 8.0 / 2) / 4]
    (mean,) = merged(method, (3,), said, "equal")
    assert mean.dense().tolist() == [1.0, 0.0, (4.0 + 8.0 / 2) / 2]
    (alone,) = merged(method, (3,), said[1:], "equal")
    assert alone.dense().tolist() == [0.0, 0.0, 4.0], "a late one moves the point less, also alone"


def test_a_late_uplink_is_of_the_point_at_which_it_was_made() -> None:
    led = job()
    late = log_of([(0, 0, 1), (1, 0, 1)], [(0, 0, 1), (2, 1, 1)], [(0, 0, 1), (1, 1, 1), (2, 0, 1)])
    end = replayed(led.problem, led.method, late, **GIVEN)
    assert digest(end) == digest(replayed(led.problem, led.method, late, **GIVEN))
    joined = [*late[:2], dataclasses.replace(late[2], counted=late[2].counted[:1], joined=(1,))]
    assert digest(replayed(led.problem, led.method, joined, **GIVEN)) != digest(end)


@pytest.mark.parametrize(
    ("rounds", "message"),
    [
        ([[(0, 1, 1)]], "round 0 counts worker 0 of round -1, not 0"),
        ([[(0, 0, 1)], [(0, 1, 1)]], "round 1 counts worker 0 of round 0, not 1"),
    ],
)
def test_a_log_that_does_not_add_up_is_refused(rounds: Any, message: str) -> None:
    led = job()
    with pytest.raises(StateError, match=message):
        replayed(led.problem, led.method, log_of(*rounds), **GIVEN)
    with pytest.raises(StateError, match="has round 1 where 0 is due"):
        replayed(led.problem, led.method, log_of([], [(0, 0, 1)])[1:], **GIVEN)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ({"name": "ogda", "step_size": 0.1}, "Ogda: its server knows what every worker has sent"),
        (
            {**METHOD, "name": "compressed_sgd", "local_steps": 1, "memory": "innovations"},
            "the server knows the mean of all workers",
        ),
        ({**METHOD, "name": "compressed_sgd", "local_steps": 1, "late": True}, "late = true a worker has said beforehand"),
        (
            {
                "name": "masha1",
                "step_size": 0.1,
                "participants": 1,
                "up": {"name": "rand_k", "k": 2},
                "down": {"name": "identity"},
            },
            "it draws beforehand who takes part",
        ),
    ],
)
def test_other_methods_are_refused_with_the_reason(method: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=f"server.quorum = 2 cannot be kept by .*{reason}"):
        job(method).server_core(0.0, quorum=2)
    with pytest.raises(ConfigError, match=reason):
        require_mergeable(job(method).method, "weights")


def test_settings_that_a_recipe_cannot_keep_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"server.balance is for programs with steps of their own"):
        job().server_core(0.0, balance=True)
    for key, value in (("quorum", 2), ("weights", "samples"), ("grace_s", 1.0), ("balance", True)):
        table = {"problem": {"name": "bilinear", "n": 4}, "method": METHOD, "workers": 3, "server": {key: value}}
        with pytest.raises(ConfigError, match=rf"server.{key} = .* cannot be kept by driver 'simulate'"):
            Job.lead(recipe_from_dict(table), "simulate")
    table["server"] = {"quorum": 2, "grace_s": 0.5}
    core = Job.lead(recipe_from_dict(table), "grpc").server_core(0.0)
    assert (core.settings.quorum, core.settings.grace_s, core.settings.merging) == (2, 0.5, True)
    table["server"] = {"weights": "samples"}
    with pytest.raises(ConfigError, match=r"bilinear.* is no sum over samples"):
        Job.lead(recipe_from_dict(table), "grpc").worker_core(0)
