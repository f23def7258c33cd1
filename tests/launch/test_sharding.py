"""Jobs of several servers: what each of them is, what is refused by name, and what the lead judges."""

from __future__ import annotations

import json
import types
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.algorithms.problems import BilinearGame
from saddlebag.errors import BrokenStream, ConfigError, RemoteProtocolError
from saddlebag.launch.build import build_problem, resolve
from saddlebag.launch.drivers.lead import Cost, Lead
from saddlebag.launch.drivers.server import run_server
from saddlebag.launch.drivers.shards import run_shard_worker
from saddlebag.launch.job import Job
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.launch.results.history import read_history
from saddlebag.launch.sharding import Agreement, require_shards, shard_of, shards_of
from saddlebag.server.effects import ServerSettings

if TYPE_CHECKING:
    from pathlib import Path


def recipe_with(**values: Any) -> Recipe:
    tables: dict[str, Any] = {
        "workers": 2,
        "problem": {"name": "bilinear", "n": 4, "regularisation": 0.2},
        "method": {"name": "compressed_sgd", "step_size": 0.1, "up": {"name": "top_k", "k": 2}},
        "stop": {"max_rounds": 8, "every": 2},
        "server": {"shards": 2},
    }
    for key, value in values.items():
        table, _, field = key.partition(".")
        tables.setdefault(table, {})[field] = value
    return recipe_from_dict(tables)


def required(recipe: Recipe) -> list[str]:
    problem = build_problem(recipe)
    return require_shards(resolve(recipe, problem), problem)


def test_a_shard_is_a_server_of_its_slice_and_the_recipes_of_shards_differ_from_that_of_one() -> None:
    job = Job.lead(recipe_with(), "grpc")
    first, second = (part.server_core(0.0) for part in shards_of(job))
    assert [len(core.replica.z_D) for core in (first, second)] == [4, 4]
    assert (*first.replica.z_D, *second.replica.z_D) == tuple(job.problem.start())
    assert json.loads(second.settings.resolved) == {"step_size": 0.1, "shard": [1, 2]}
    assert recipe_with().canonical() != recipe_with(**{"server.shards": 1}).canonical()
    with pytest.raises(ConfigError, match=r"--shard must lie in \[0, 2\), for server.shards = 2; got 2"):
        shard_of(job, 2)


def test_what_differs_from_one_server_is_said() -> None:
    [said] = required(recipe_with())
    assert said.startswith("compressed_sgd: each shard has a compressor 'up' of its own")
    assert required(recipe_with(**{"server.shards": 1})) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"server.on_lost": "drop"}, "server.shards = 2 needs server.on_lost = 'pause', got 'drop'"),
        ({"server.quorum": 1}, "server.shards = 2: each would close rounds on its own"),
        ({"server.contributions": True}, "server.contributions are of whole uplinks"),
        ({"server.mean": "geometric_median"}, "server.mean = GeometricMedian.* looks at whole uplinks"),
        ({"server.shards": 9}, "server.shards = 9 needs as many slices, and bilinear has 8 coordinates"),
        ({"method.up": {"name": "top_k", "k": 5}}, "the slice of coordinates 0 to 3: top_k needs"),
        ({"method.clip_estimate": 1.0, "method.memory": "innovations"}, "clip_estimate is a norm of the whole downlink"),
    ],
)
def test_what_cannot_be_divided_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        required(recipe_with(**values))


def test_shards_take_no_secure_sums() -> None:
    with pytest.raises(ConfigError, match=r"server.secure masks whole uplinks, server.shards = 2 knows slices of them"):
        ServerSettings(num_workers=3, seed=0, shards=2, secure=2)


def test_shards_must_be_in_order_and_agree() -> None:
    job = Job.lead(recipe_with(), "grpc")
    said = [part.agreed for part in shards_of(job)]
    agreement = Agreement(Job.join(job.recipe))
    with pytest.raises(ConfigError, match=r"the server for slice 0 is shard \[1, 2\], expected \[0, 2\]; give the servers'"):
        agreement.take(0, said[1])
    with pytest.raises(RemoteProtocolError, match="malformed"):
        agreement.take(0, "[]")
    assert [agreement.take(number, text) for number, text in enumerate(said)] == [part.method for part in shards_of(job)]
    other = json.dumps({"step_size": 0.2, "shard": [1, 2]})
    with pytest.raises(ConfigError, match=r"the shards have agreed on different numbers: .*0.1.* and .*0.2.*, of shard 1"):
        agreement.take(1, other)


def test_a_command_for_one_server_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--shard says which of several servers this is: server.shards is 2, got nothing"):
        run_server(recipe_with(), tmp_path / "a")
    with pytest.raises(ConfigError, match=r"server.shards is 1, got 0"):
        run_server(recipe_with(**{"server.shards": 1}), tmp_path / "a", shard=0)
    with pytest.raises(ConfigError, match=r"--server must name 2 addresses, for server.shards, got 1"):
        run_shard_worker(recipe_with(), 1, ["127.0.0.1:1"])
    with pytest.raises(ConfigError, match="worker 0 leads a sharded run and keeps its results: give it a folder"):
        run_shard_worker(recipe_with(), 0, ["127.0.0.1:1", "127.0.0.1:2"])
    assert not (tmp_path / "a").exists()


class Run:
    """A lead whose cores are replicas of the test."""

    def __init__(self, out: Path, **values: Any) -> None:
        self.job, self.costs = Job.lead(recipe_with(**values), "grpc"), 0
        self.lead = Lead(self.job, out, self._cost)
        self.parts = shards_of(self.job)
        self.ahead = False

    def _cost(self, round_: int) -> Cost | None:
        self.costs += 1
        return None if self.ahead else Cost(100 * round_, 10 * round_, 0.5 * round_)

    def at(self, round_: int) -> bool:
        cores: list[Any] = []
        for part in self.parts:
            replica = part.method.init_replica(part.problem.start() / (1 + round_))
            object.__setattr__(replica.rule, "iteration", round_)
            cores.append(types.SimpleNamespace(round=round_, replica=replica))
        self.lead.follow(cores)
        return self.lead.watch(round_)


def test_the_lead_records_each_evaluation_once_whatever_goes_back_and_ends_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with run.lead:
        assert not any(run.at(round_) for round_ in (0, 1, 2, 3, 4, 5, 2, 3, 4, 5))
    lines = read_history(tmp_path / "metrics.jsonl")
    assert [(line["round"], line["up_bytes"], line["down_bytes"]) for line in lines] == [(2, 200, 20), (4, 400, 40)]
    game = BilinearGame(n=4, num_workers=2, regularisation=0.2)
    assert lines[0]["merits"] == dict(game.merits(game.start() / 3))
    again = Run(tmp_path)  # another process, from its checkpoint of round 4: what was recorded stands
    with again.lead:
        assert [again.at(round_) for round_ in (4, 5, 6, 7, 8)] == [False, False, False, False, True]
    assert [line["round"] for line in read_history(tmp_path / "metrics.jsonl")] == [2, 4, 6, 8]
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["reason"], result["rounds"], result["up_bytes"], result["shards"]) == ("max_rounds", 8, 800, 2)


def test_the_lead_keeps_limits_of_bytes_and_seconds(tmp_path: Path) -> None:
    for name, limit, ends in (("max_bytes", 165, 3), ("max_seconds", 2.0, 4)):
        run = Run(tmp_path / name, **{f"stop.{name}": limit})
        with run.lead:
            assert [run.at(round_) for round_ in range(ends + 1)] == [False] * ends + [True]
        assert json.loads((tmp_path / name / "result.json").read_text())["reason"] == name


def test_a_boundary_that_a_shard_has_left_was_judged_before(tmp_path: Path) -> None:
    run = Run(tmp_path, **{"stop.max_bytes": 165})
    run.ahead = True
    with run.lead:
        assert not any(run.at(round_) for round_ in range(6))
    assert read_history(tmp_path / "metrics.jsonl") == []


def test_a_run_whose_shards_end_without_the_lead_has_diverged(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with run.lead:
        for round_ in (0, 1, 2, 3):
            run.at(round_)
        run.lead.over()
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["reason"], result["rounds"]) == ("diverged", 3)
    assert [line["round"] for line in read_history(tmp_path / "metrics.jsonl")] == [2, 3]


def test_a_cost_that_nobody_says_is_a_broken_stream(tmp_path: Path) -> None:
    def silent(round_: int) -> Cost | None:
        raise BrokenStream("nothing")

    run = Run(tmp_path)
    run.lead._ask = silent
    with run.lead, pytest.raises(BrokenStream):
        run.at(2)
