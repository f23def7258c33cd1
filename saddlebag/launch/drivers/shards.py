"""The body of a worker's process where several servers carry the run: a stream and a core for each."""

from __future__ import annotations

import asyncio
import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.method_capabilities import Clips
from saddlebag.client.account import Phases
from saddlebag.client.shards import Meeting, SliceCore
from saddlebag.client.shell import WorkerShell
from saddlebag.errors import BrokenStream, ConfigError
from saddlebag.launch.drivers.lead import Cost, Lead
from saddlebag.launch.drivers.process import tune_process
from saddlebag.launch.drivers.supervisor import PHASES
from saddlebag.launch.job import Job
from saddlebag.launch.ownership import owned
from saddlebag.launch.sharding import Agreement, shards_of
from saddlebag.proto.address import parse_address
from saddlebag.proto.checkpoint import WORKER_KEEPS, CheckpointStore, write_atomically
from saddlebag.proto.endpoint import ClientSecurity
from saddlebag.proto.handshake import LEAD, require_same_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from saddlebag.algorithms import Operator, Problem
    from saddlebag.launch.recipe.recipe import Recipe

__all__ = ["run_shard_worker"]

_COST_S = 30.0  # for all shards to say what the run has cost
_SPARE_THREADS = 8  # beside one for the step of each slice


def run_shard_worker(
    recipe: Recipe,
    rank: int,
    addresses: Sequence[str],
    *,
    out: Path | None = None,
    token: str = "",
    security: ClientSecurity | None = None,
    give_up_s: float = 60.0,
    note: Callable[[str], None] = lambda text: None,
    problem: Problem | None = None,
    operator: Operator | None = None,
) -> None:
    """Take part in a sharded run as one worker until its end; worker 0 is the lead, and keeps the run's results under `out`.

    `addresses` are those of the servers, in the order of their shards; the rest is as of `run_worker`.

    Raises:
        ConfigError: a server refuses the worker, and why, the addresses are others, or the lead has no folder.
        PeerLost: there is no server at an address.
    """
    if len(addresses) != recipe.server.shards:
        raise ConfigError(f"--server must name {recipe.server.shards} addresses, for server.shards, got {len(addresses)}")
    for address in addresses:
        parse_address(address, "the server's address")
    if rank == LEAD and out is None:
        raise ConfigError("worker 0 leads a sharded run and keeps its results: give it a folder with --out")
    with contextlib.ExitStack() as stack:
        if out is not None:
            stack.enter_context(owned(out, f"worker {rank}", name=f"worker-{rank}"))
        tune_process()
        worker = _ShardWorker(Job.join(recipe, problem=problem, out=out), rank, out, note, operator)
        if worker.lead is not None:
            stack.enter_context(worker.lead)
        ways: dict[str, Any] = {"token": token, "give_up_s": give_up_s, "note": note}
        asyncio.run(worker.run(addresses, security or ClientSecurity(), ways))
        worker.tell()


class _ShardWorker:
    """The cores of one worker, which meet, and their shells."""

    def __init__(self, job: Job, rank: int, out: Path | None, note: Callable[[str], None], operator: Operator | None) -> None:
        parts, self._agreement, recipe = shards_of(job), Agreement(job), job.recipe
        self._recipe, self._rank, self._out, self._note, self.phases = recipe, rank, out, note, Phases()
        self.lead = Lead(job, out, self._cost) if rank == LEAD and out is not None else None
        watch = self.lead.watch if self.lead is not None else lambda round_: False
        asked = _clipping(job, self.phases.watched(operator or job.operator(rank)))
        self._meeting = Meeting([part.here for part in parts], asked, watch)
        self._stores = [self._store(number) for number in range(len(parts))]
        self._cores = [
            SliceCore(part.method, self._meeting, part.number, part.problem.start, worker=rank, seed=recipe.seed, store=store)
            for part, store in zip(parts, self._stores, strict=True)
        ]
        for core, store in zip(self._cores, self._stores, strict=True):
            if store is not None and (saved := store.newest(note)) is not None:
                require_same_recipe(saved[1].get("recipe"), recipe.canonical())
                core.restore(*saved)
        if self.lead is not None:
            self.lead.follow(self._cores)
        self._shells: list[WorkerShell] = []

    def _store(self, number: int) -> CheckpointStore | None:
        if self._out is None:
            return None
        return CheckpointStore(self._out / "checkpoints", f"worker-{self._rank}-{number}", keep=WORKER_KEEPS)

    async def run(self, addresses: Sequence[str], security: ClientSecurity, ways: dict[str, Any]) -> None:
        """Take part until the end of the run, which comes for all slices where it comes for one."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(len(addresses) + _SPARE_THREADS))
        self._shells = [self._shell(number, ways) for number in range(len(addresses))]

        async def one(shell: WorkerShell, address: str) -> None:
            try:
                await shell.run(address, security)
            finally:
                self._meeting.end()

        tasks = [asyncio.create_task(one(*pair)) for pair in zip(self._shells, addresses, strict=True)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        if self.lead is not None:
            await asyncio.to_thread(self.lead.over)

    def _shell(self, number: int, ways: dict[str, Any]) -> WorkerShell:
        core, server = self._cores[number], self._recipe.server
        fresh = True

        def configure(said: str) -> None:
            nonlocal fresh
            method, first = self._agreement.take(number, said), fresh
            fresh = False
            if first:
                core.method = method
                if (core.epoch, core.round) == (0, 0):
                    core.begin_run(0)

        return WorkerShell(
            core,
            recipe=self._recipe.canonical(),
            store=self._stores[number],
            lease_s=server.lease_s,
            progress_s=server.progress_s,
            configure=configure,
            phases=self.phases if number == 0 else None,
            leaving=lambda: self._meeting.over,
            apart=True,
            recalled=core.recalled,
            **ways,
        )

    def _cost(self, round_: int) -> Cost | None:
        """What the shards say that the run has cost; called in the thread of a step, while the loop goes on.

        None where a shard stands at a later boundary: then this one was judged before some slices went back.
        """
        asked = asyncio.run_coroutine_threadsafe(self._costs(round_), self._loop)
        try:
            return asked.result(_COST_S)
        except TimeoutError as error:
            asked.cancel()
            raise BrokenStream(f"a shard has not said for {_COST_S:g} s what the run has cost") from error

    async def _costs(self, round_: int) -> Cost | None:
        said = await asyncio.gather(*(shell.cost() for shell in self._shells))
        for number, reply in enumerate(said):
            if reply.round < round_:
                raise BrokenStream(f"shard {number} stands at round {reply.round}, not at {round_}")
        if any(reply.round > round_ for reply in said):
            return None
        ups, downs, seconds = zip(*((reply.up_bytes, reply.down_bytes, reply.spent_s) for reply in said), strict=True)
        return Cost(sum(ups), sum(downs), max(seconds))

    def tell(self) -> None:
        """Say where the time went."""
        self._note(f"worker {self._rank}: {self.phases.rounds:,} rounds, {self.phases}")
        if self._out is not None:
            ledgers = [shell.ledger for shell in self._shells]
            bytes_ = {"up_bytes": sum(each.up for each in ledgers), "down_bytes": sum(each.down for each in ledgers)}
            facts = {"worker": self._rank, **self.phases.as_dict(), **bytes_}
            write_atomically(self._out / PHASES.format(self._rank), (json.dumps(facts, indent=2) + "\n").encode())


def _clipping(job: Job, operator: Operator) -> Operator:
    """The operator, its values scaled as the method would, which on slices no longer does."""
    known: object = job.method
    if not isinstance(known, Clips):
        return operator
    clip = known.clip
    return lambda z_D, draws: clip(operator(z_D, draws))
