"""The same rehearsal with every vector: the real cores of all workers, on links and machines drawn as a fleet's are."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.launch.rehearsal.fleet import Plan, Report
from saddlebag.launch.rehearsal.network import Shared
from saddlebag.launch.rehearsal.promises import Promises
from saddlebag.launch.rehearsal.world import Settings, World

if TYPE_CHECKING:
    from saddlebag.launch.job import Job
    from saddlebag.launch.rehearsal.links import Links

__all__ = ["rehearse_exactly"]

_FOREVER_S = 1e12
_WRITE_S = 1e-3  # of a checkpoint that nobody waits for


def _furnish(world: World, plan: Plan, links: Links) -> None:
    """Give each worker its link, its speed and its failures."""
    rng = np.random.default_rng(plan.seed)
    up, down = links.up.draw(rng, plan.workers), links.down.draw(rng, plan.workers)
    latency = links.latency.draw(rng, plan.workers)
    step = links.step.draw(rng, plan.workers) if links.step else np.full(plan.workers, plan.step_s)
    shared = Shared(links.server)
    for rank, link in enumerate(world.links):
        link.up_bytes_per_s, link.down_bytes_per_s, link.latency_s = float(up[rank]), float(down[rank]), float(latency[rank])
        link.jitter_s, link.loss, link.resend_s, link.shared = 0.0, links.loss, links.resend_s, shared

    def step_s(rank: int) -> float:
        late = links.stragglers and world.rng.random() < links.stragglers
        return float(step[rank]) * (links.factor if late else 1.0)

    world.step_s = step_s

    def fail(rank: int) -> None:
        away_s = float(links.away.draw(rng, 1)[0])
        world.kill(str(rank), again_s=away_s, renamed=True)
        plan_failure(rank, away_s)

    def plan_failure(rank: int, after_s: float) -> None:
        if links.hours < np.inf:
            world.clock.after(after_s + 3600 * links.hours * rng.standard_exponential(), functools.partial(fail, rank))

    for rank in range(plan.workers):
        plan_failure(rank, 0.0)


def rehearse_exactly(job: Job, plan: Plan, links: Links) -> Report:
    """The whole run in virtual time; of `plan.rounds` the recipe's own end may leave some out.

    Raises:
        PromiseBroken: replicas differ, or a process ended with an error.
    """
    settings = Settings(
        write_s=plan.save_s or _WRITE_S,
        window=1 << 22,
        threaded_s=plan.round_s + plan.workers * plan.frame_s,
        patience_s=_FOREVER_S,
        server=(("on_lost", "drop" if plan.drop else "pause"), ("checkpoint_every", plan.every)),
    )
    world = World(job, plan.seed, Promises(None), settings, furnish=lambda world: _furnish(world, plan, links), states=False)
    world.run()
    assert world.server is not None
    ledger = world.server.core.ledger
    ends = np.array(world.ends)
    failures = sum(world.deaths.values())
    return Report(
        seconds=float(ends[-1]),
        round_s=np.diff(ends, prepend=0.0),
        up_bytes=ledger.up.transport,
        down_bytes=ledger.down.transport,
        payload_bytes=ledger.up.payload + ledger.down.payload,
        failures=failures,
        epochs=ledger.epochs - 1,
        replayed=-1,
        server_s=len(ends) * (plan.round_s + plan.workers * plan.frame_s),
        waited=float("nan"),
    )
