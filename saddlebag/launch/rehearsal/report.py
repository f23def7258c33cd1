"""What `saddlebag rehearse` measures, predicts and prints."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms import pack
from saddlebag.errors import ConfigError
from saddlebag.launch.advice.echo import loopback
from saddlebag.launch.job import Job
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.launch.rehearsal.costs import join_bytes, measure_server, record, save_seconds
from saddlebag.launch.rehearsal.exact import rehearse_exactly
from saddlebag.launch.rehearsal.fleet import Plan, Report, rehearse
from saddlebag.launch.results.units import format_bytes, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from saddlebag.launch.recipe.recipe import Recipe
    from saddlebag.launch.rehearsal.costs import Recording, ServerCosts
    from saddlebag.launch.rehearsal.links import Links

__all__ = ["print_report", "report"]

_RECORDED_WORKERS, _RECORDED_ROUNDS, _ROUNDS = 8, 400, 1000
_MOST_EXACT = 1_000_000  # steps of workers, each of which is computed


def report(
    path: Path,
    sets: Sequence[str],
    links: Links,
    *,
    workers: int | None,
    rounds: int | None,
    seed: int,
    exact: bool,
    few: int | None,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """The prediction, as a table of numbers.

    Raises:
        ConfigError: the recipe does not fit together, or so many workers or rounds.
    """
    recipe = load_recipe(path, [*sets])
    _require_modelled(recipe)
    count, length = workers or recipe.workers, rounds or recipe.stop.max_rounds or _ROUNDS
    if exact and count * length > _MOST_EXACT:
        raise ConfigError(f"--exact computes {count} x {length} steps, {_MOST_EXACT:,} at most; leave it out, or take fewer")
    few = count if exact else min(count, few or _few(recipe, count))
    given = [*sets, f"workers={few}", *([f"stop.max_rounds={length}"] if exact else [])]
    job = Job.lead(load_recipe(path, given), "grpc")
    tell(f"recording {few} workers")
    recording = record(job, min(length, _RECORDED_ROUNDS))
    tell(f"measuring the server's core with {count} workers, and gRPC over loopback")
    costs, grpc_s = measure_server(job, recording, count, seed), loopback().latency_s
    plan = _plan(recipe, job, recording, costs, grpc_s, workers=count, rounds=length, seed=seed)
    began = time.perf_counter()
    found = rehearse_exactly(job, plan, links) if exact else rehearse(plan, links, recording)
    about = {"how": "exact" if exact else "recorded", "recorded_workers": few, "recorded_rounds": len(recording.rounds)}
    about |= {"workers": count, "rounds": len(found.round_s), "dimension": len(job.problem.start()), "seed": seed}
    measured = {"frame_s": costs.frame_s, "round_s": costs.round_s, "server_bytes": costs.bytes} if costs else {}
    return {
        **about,
        **_numbers(found),
        "save_s": plan.save_s,
        "measured": {**measured, "grpc_message_s": grpc_s, "step_s": recording.step_s},
        "links": {key: value for key, value in dataclasses.asdict(links).items() if value != math.inf},
        "rehearsal_s": time.perf_counter() - began,
    }


def _require_modelled(recipe: Recipe) -> None:
    """Refuse settings whose rounds have no model here."""
    if recipe.server.secure:
        raise ConfigError("server.secure cannot be rehearsed: the steps of its rounds have no model here; leave it out")
    if recipe.server.shards > 1:
        raise ConfigError(f"server.shards = {recipe.server.shards} cannot be rehearsed: one server is; leave it at 1")


def _plan(recipe: Recipe, job: Job, recording: Recording, costs: ServerCosts | None, grpc_s: float, **given: int) -> Plan:
    """What is rehearsed; a message by gRPC takes `grpc_s` one way, half of it the sender's work and half the receiver's."""
    replica = job.method.init_replica(job.problem.start())
    return Plan(
        workers=given["workers"],
        rounds=given["rounds"],
        seed=given["seed"],
        drop=recipe.server.on_lost == "drop",
        every=recipe.checkpoint.every,
        save_s=save_seconds(job) if recipe.checkpoint.every else 0.0,
        frame_s=(costs.frame_s if costs else 0.0) + grpc_s,  # of an uplink and a downlink together
        round_s=costs.round_s if costs else 0.0,
        step_s=recording.step_s,
        join_bytes=join_bytes(job, given["workers"]),
        snapshot_bytes=sum(array.nbytes for array in pack(replica).values()),
    )


def _few(recipe: Recipe, count: int) -> int:
    """How many workers are recorded: a few, but enough for some to idle where not all take part."""
    participants = recipe.method.parameters.get("participants")
    most = max(_RECORDED_WORKERS, 2 * participants) if isinstance(participants, int) else _RECORDED_WORKERS
    return min(count, most)


def _numbers(found: Report) -> dict[str, Any]:
    sent = found.up_bytes + found.down_bytes
    return {
        "seconds": found.seconds,
        "rounds_per_hour": 3600 * len(found.round_s) / found.seconds,
        "round_median_s": float(np.median(found.round_s)),
        "round_95_s": float(np.quantile(found.round_s, 0.95)),
        "up_bytes": found.up_bytes,
        "down_bytes": found.down_bytes,
        "goodput": found.payload_bytes / sent,
        "failures": found.failures,
        "epochs": found.epochs,
        "replayed_rounds": found.replayed if found.replayed >= 0 else None,
        "straggling_s": None if math.isnan(found.waited) else found.waited,
        "server_busy": found.server_s / found.seconds,
    }


def print_report(values: dict[str, Any]) -> None:
    """The same for people."""
    how = (
        "every vector computed"
        if values["how"] == "exact"
        else "message sizes of {recorded_workers} real workers".format(**values)
    )
    print("{workers:,} workers, {rounds:,} rounds, d = {dimension:,}; ".format(**values) + how)
    print("  rounds an hour     {rounds_per_hour:,.0f}".format(**values) + f"   (the run: {format_time(values['seconds'])})")
    print("  a round            {round_median_s:.3g} s in the median, {round_95_s:.3g} s in one of twenty".format(**values))
    if values["straggling_s"] is not None:
        print("  the last worker    {straggling_s:.3g} s after half of them, in the mean".format(**values))
    up, down = format_bytes(values["up_bytes"]), format_bytes(values["down_bytes"])
    print(f"  bytes              {up} up, {down} down, of which {100 * values['goodput']:.1f} % messages of the trajectory")
    print("  failures           {failures:,} of workers, {epochs:,} new epochs".format(**values))
    if values["save_s"]:
        print(
            "  a checkpoint       {save_s:.3g} s, for which its round waits: steps change narrow states in place".format(
                **values
            )
        )
    measured = values["measured"]
    if "server_bytes" in measured:
        core = f"{1e6 * measured['frame_s']:.0f} us an uplink, {1e3 * measured['round_s']:.1f} ms a round"
        print(f"  server's core      {core}, {format_bytes(measured['server_bytes'])} of memory")
    grpc = f"with gRPC's {1e6 * measured['grpc_message_s']:.0f} us a worker"
    print(f"  server's processor {100 * values['server_busy']:.1f} % of one core, {grpc}")
    print("  not compared with real runs of that size")
