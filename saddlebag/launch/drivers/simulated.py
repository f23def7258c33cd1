"""The driver in one process: the reference of every other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.simulate import Record, simulate
from saddlebag.launch.job import Job
from saddlebag.launch.ownership import owned
from saddlebag.launch.results.outputs import Outputs
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.algorithms.base import Problem
    from saddlebag.launch.recipe.recipe import Recipe
    from saddlebag.launch.results.progress import Progress

__all__ = ["run_simulated"]


def run_simulated(
    recipe: Recipe,
    folder: Path,
    *,
    problem: Problem | None = None,
    observe: Callable[[Record], None] = lambda record: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Any]:
    """Run a recipe's main method in this process; returns the result.

    Raises:
        ConfigError: the recipe does not fit together, or another process owns `folder`.
    """
    job, begin = Job.lead(recipe, "simulate", problem=problem), time.monotonic()
    with owned(folder, "saddlebag run"), Outputs(recipe, job.problem, folder, progress=progress) as outputs:

        def keep(record: Record) -> None:
            outputs.record(record)
            observe(record)

        ways: dict[str, Any] = {"observe": keep, "watch": outputs.watch, "keep_history": False, "clock": time.monotonic}
        ways |= {"rule": recipe.server.rule, "scored": recipe.server.contributions}
        outcome = simulate(job.problem, job.method, seed=recipe.seed, stop=recipe.stop, wire=LoopbackWire(), **ways)
    return job.result(
        driver="simulate",
        reason=outcome.reason,
        rounds=outcome.rounds,
        replica=outcome.replica,
        up_bytes=outcome.up_bytes,
        down_bytes=outcome.down_bytes,
        elapsed_s=time.monotonic() - begin,
        **({"contributions": list(outcome.contributions)} if recipe.server.contributions else {}),
    )
