"""The driver without a server: the trajectory and bytes of simulate, resumed from checkpoints, refused where ranks differ."""

from __future__ import annotations

import collections
import dataclasses
import json
import pkgutil
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch.distributed as dist

from saddlebag.algorithms import digest, simulate
from saddlebag.errors import ConfigError, PeerLost
from saddlebag.launch.build import build_method, build_problem
from saddlebag.launch.drivers.collective import run_rank, take_part
from saddlebag.launch.drivers.talk import Talk
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from pathlib import Path

Run = Callable[[int, Callable[[dist.ProcessGroup], Any]], list[Any]]
WORKERS = 3
MASHA1 = {
    "name": "masha1",
    "step_size": 0.1,
    "probability": 0.2,
    "up": {"name": "rand_k", "fraction": 0.25},
    "down": {"name": "natural"},
}
MASHA2 = {
    "name": "masha2",
    "step_size": 0.05,
    "probability": 0.1,
    "up": {"name": "top_k", "fraction": 0.25},
    "down": {"name": "top_k", "fraction": 0.25},
}
ADAM = {"name": "compressed_adamw", "step_size": 0.01, "up": {"name": "nearest_int8"}, "down": {"name": "nearest_int8"}}


def recipe(method: dict[str, Any], rounds: int = 90, **more: Any) -> Recipe:
    return recipe_from_dict(
        {
            "workers": WORKERS,
            "seed": 5,
            "driver": "collective",
            "problem": {"name": "finite_bilinear", "n": 6, "regularisation": 0.2},
            "method": method,
            "stop": {"max_rounds": rounds, "every": 3},
            "checkpoint": {"every": 20},
            **more,
        }
    )


def expected(job: Recipe) -> Any:
    problem = build_problem(job)
    method, rule = build_method(job, problem), job.server.rule
    return simulate(problem, method, seed=job.seed, stop=job.stop, wire=LoopbackWire(), rule=rule)


def body(job: Recipe, out: Path) -> Callable[[dist.ProcessGroup], Any]:
    return lambda group: take_part(job, build_problem(job), Talk(group), out)


def history(out: Path) -> list[Any]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["round"], line["iteration"], line["merits"], line["up_bytes"], line["down_bytes"]) for line in lines]


@pytest.mark.parametrize("more", [{}, {"ranks": 2}], ids=["whole", "in parts"])
@pytest.mark.parametrize("method", [MASHA1, MASHA2, ADAM], ids=lambda method: str(method["name"]))
def test_trajectory_history_and_bytes_are_those_of_simulate(
    tmp_path: Path, on_ranks: Run, method: dict[str, Any], more: dict[str, Any]
) -> None:
    job = recipe(method, **more)
    result, *others = on_ranks(WORKERS, body(job, tmp_path))
    reference = expected(job)
    assert others == [None, None]
    assert result["digest"] == f"{digest(reference.replica):016x}"
    facts = (reference.reason, reference.rounds, reference.up_bytes, reference.down_bytes)
    assert (result["reason"], result["rounds"], result["up_bytes"], result["down_bytes"]) == facts
    assert history(tmp_path) == [(r.round, r.iteration, dict(r.merits), r.up_bytes, r.down_bytes) for r in reference.history]
    assert result == json.loads((tmp_path / "result.json").read_text())
    own = 32 * (WORKERS - 1) * job.stop.max_rounds  # type: ignore[operator]
    assert result["transport"]["up"] == pytest.approx(own + result["up_bytes"] * (WORKERS - 1) / WORKERS, rel=0.01)


@pytest.mark.parametrize("mean", ["coordinate_median", "geometric_median"])
def test_a_rule_in_place_of_the_mean_has_the_bits_of_simulate(tmp_path: Path, on_ranks: Run, mean: str) -> None:
    job = recipe(ADAM, rounds=20, server={"mean": mean})
    result = on_ranks(WORKERS, body(job, tmp_path))[0]
    assert result["digest"] == f"{digest(expected(job).replica):016x}"
    assert result["digest"] != f"{digest(expected(recipe(ADAM, rounds=20)).replica):016x}"


def test_idle_workers_hear_every_downlink(tmp_path: Path, on_ranks: Run) -> None:
    job = recipe({**MASHA1, "participants": 1})
    result = on_ranks(WORKERS, body(job, tmp_path))[0]
    reference = expected(job)
    assert result["digest"] == f"{digest(reference.replica):016x}"
    assert result["up_bytes"] == reference.up_bytes
    assert result["down_bytes"] > reference.down_bytes


def test_a_run_that_diverges_ends_on_all_ranks(tmp_path: Path, on_ranks: Run) -> None:
    job = recipe({**MASHA1, "step_size": 1e200})
    result, *others = on_ranks(WORKERS, body(job, tmp_path))
    reference = expected(job)
    facts = ("diverged", reference.rounds, reference.up_bytes, reference.down_bytes)
    assert (result["reason"], result["rounds"], result["up_bytes"], result["down_bytes"]) == facts
    assert len(history(tmp_path)) == len(reference.history) > 0
    assert others == [None, None]


def test_ranks_resume_at_the_newest_round_that_all_hold(tmp_path: Path, on_ranks: Run) -> None:
    job, reference = recipe(MASHA2), expected(recipe(MASHA2))
    short = dataclasses.replace(job, stop=dataclasses.replace(job.stop, max_rounds=70))

    class Dies(Exception):
        pass

    def dying(group: dist.ProcessGroup) -> Any:
        """Rank 2 dies in round 70, as if by SIGKILL; the others find out."""
        problem: Any = build_problem(job)
        inner = problem.operator(group.rank())

        def operator(z_D: Any, draws: Any) -> Any:
            if group.rank() == 2 and draws.round == 70:
                raise Dies
            return inner(z_D, draws)

        return take_part(job, _With(problem, operator), Talk(group), tmp_path)

    class _With:
        def __init__(self, problem: Any, operator: Any) -> None:
            self._problem, self._operator = problem, operator

        def __getattr__(self, name: str) -> Any:
            return getattr(self._problem, name)

        def operator(self, worker: int) -> Any:
            return self._operator

    ends = on_ranks(WORKERS, dying)
    assert [type(end) for end in ends] == [PeerLost, PeerLost, Dies]
    (tmp_path / "checkpoints" / "rank-1-000000000060.safetensors").unlink()  # as if it had died before the others
    result = on_ranks(WORKERS, body(job, tmp_path))[0]
    assert result["digest"] == f"{digest(reference.replica):016x}"
    assert (result["up_bytes"], result["down_bytes"]) == (reference.up_bytes, reference.down_bytes)
    assert [line[0] for line in history(tmp_path)] == [record.round for record in reference.history]
    again = on_ranks(WORKERS, body(job, tmp_path))[0]  # over already: nothing is computed
    own = ("elapsed_s", "transport")  # of this start: there is a greeting again
    assert {k: v for k, v in again.items() if k not in own} == {k: v for k, v in result.items() if k not in own}
    other = on_ranks(WORKERS, body(short, tmp_path))
    assert all(isinstance(end, ConfigError) and "stop.max_rounds" in str(end) for end in other)


def test_ranks_with_different_recipes_are_refused(tmp_path: Path, on_ranks: Run) -> None:
    jobs = [recipe(MASHA1), recipe(MASHA1), recipe({**MASHA1, "probability": 0.3})]
    ends = on_ranks(WORKERS, lambda group: body(jobs[group.rank()], tmp_path)(group))
    assert isinstance(ends[2], ConfigError)
    assert "the recipes differ: method.probability is 0.2 there and 0.3 here" in str(ends[2])
    assert isinstance(ends[0], PeerLost)


def test_every_rank_is_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0, "GROUP_WORLD_SIZE": 1}
    for name, value in {**numbers, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ConfigError, match="3 workers and torchrun started 2 ranks"):
        run_rank(recipe(MASHA1), tmp_path)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("boom")], ids=["full", "defect"])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    "place",
    [
        "saddlebag.proto.checkpoint.CheckpointStore.save",
        "saddlebag.client.core.WorkerCore.step",
        "saddlebag.client.core.WorkerCore.apply",
        "saddlebag.launch.results.history.History.write",
    ],
)
def test_an_error_on_a_rank_ends_all_and_they_resume_on_the_same_bits(
    tmp_path: Path, on_ranks: Run, monkeypatch: pytest.MonkeyPatch, place: str, rank: int, error: Exception
) -> None:
    if rank and place.endswith("History.write"):
        pytest.skip("rank 0 alone writes the history")
    job, here = recipe(MASHA1), threading.local()
    owner: Any = pkgutil.resolve_name(place.rpartition(".")[0])
    name = place.rpartition(".")[2]
    call, calls = getattr(owner, name), collections.Counter[int]()

    def fail(*arguments: Any, **rest: Any) -> Any:
        calls[here.rank] += 1
        if here.rank == rank and calls[rank] > 2:
            raise type(error)(*error.args)  # without the frames of another case: they would keep connections open
        return call(*arguments, **rest)

    def one(group: dist.ProcessGroup) -> Any:
        here.rank = group.rank()
        return take_part(job, build_problem(job), Talk(group), tmp_path)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        ends = on_ranks(WORKERS, one)
    told = [str(end) for end in ends]
    assert all(isinstance(end, Exception) for end in ends), ends
    assert "No space left on device" in told[rank] or "boom" in told[rank]
    assert all(isinstance(end, PeerLost) for other, end in enumerate(ends) if other != rank), ends
    result, *_ = on_ranks(WORKERS, body(job, tmp_path))
    reference = expected(job)
    assert result["digest"] == f"{digest(reference.replica):016x}"
    assert (result["up_bytes"], result["down_bytes"]) == (reference.up_bytes, reference.down_bytes)
