"""A run in virtual time: a server, its workers, their disks and links; whoever dies is started again as a supervisor does."""

from __future__ import annotations

import dataclasses
import functools
import random
from typing import TYPE_CHECKING, Any

from saddlebag.errors import PeerLost
from saddlebag.launch.rehearsal.clock import Clock, Host
from saddlebag.launch.rehearsal.disk import Disk
from saddlebag.launch.rehearsal.network import Answered, Code, Connection, Link
from saddlebag.launch.rehearsal.promises import PromiseBroken
from saddlebag.launch.rehearsal.serving import Server
from saddlebag.launch.rehearsal.working import Worker
from saddlebag.launch.results.arrivals import joined_at, stays
from saddlebag.proto.checkpoint import WORKER_KEEPS
from saddlebag.proto.frames import FRAME_BYTES
from saddlebag.server.quorum.merging import MergingCore

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.merging import Arrivals
    from saddlebag.launch.job import Job
    from saddlebag.launch.rehearsal.promises import Promises
    from saddlebag.server.delivery import Delivery

__all__ = ["Settings", "World"]

SERVER_KEEPS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the machines and the network are like; times in seconds.

    Attributes:
        step_s, write_s: least time of a step and of writing a checkpoint; by chance up to twice that.
        latency_s, bytes_per_s: of every link, one way, both ways.
        window: bytes of a stream on their way or unread before its sender waits.
        frame_bytes: of an uplink.
        backlog_bytes: of a worker that wait for earlier ones, before it is not read any more.
        threaded_s: how long the end of a round takes in a thread; None where it takes no time.
        patience_s: a run must be over so long after the last fault is.
        server: settings of the server's core, in place of the recipe's.
        busy_s, late_writes: see `Clock` and `Link`; a fleet that is planned has neither.
    """

    step_s: float = 0.001
    write_s: float = 0.002
    latency_s: float = 0.0005
    bytes_per_s: float = 1e6
    window: int = 1 << 16
    frame_bytes: int = FRAME_BYTES
    backlog_bytes: int = 4 << 20
    threaded_s: float | None = None
    patience_s: float = 200.0
    server: tuple[tuple[str, Any], ...] = ()
    busy_s: float = 0.0
    late_writes: float = 0.0


class World:
    """One run.

    Args:
        job: what is run.
        seed: of everything that is left to chance.
        promises: what must hold.
        settings: of machines and network.
        furnish: gives links and workers of a fleet what is theirs, before anything starts.
        states: whether distinct states are counted.
    """

    def __init__(
        self,
        job: Job,
        seed: int,
        promises: Promises,
        settings: Settings,
        *,
        furnish: Callable[[World], None] = lambda world: None,
        states: bool = True,
    ) -> None:
        self._counts_states = states
        self.job, self.promises, self.settings = job, promises, settings
        self._recipe = job.recipe.canonical()
        self.rng = random.Random(seed)
        self.clock = Clock(self.rng, settings.busy_s)
        self.num_workers = job.recipe.workers
        self.names = ("server", *map(str, range(self.num_workers)))
        self.lease_s = float(dict(settings.server).get("lease_s", job.recipe.server.lease_s))
        self.clock_steps = 0.0  # of the server's machine
        self.disk_extra_s = dict.fromkeys(self.names, 0.0)
        keeps = {name: WORKER_KEEPS if name != "server" else SERVER_KEEPS for name in self.names}
        self.disks = {name: Disk(keeps[name], functools.partial(self._write_s, name)) for name in self.names}
        self.links = [self._link() for _ in range(self.num_workers)]
        self.hosts: dict[str, Host] = {}
        self.server: Server | None = None
        self.workers: dict[str, Worker] = {}
        self.took_final: set[str] = set()
        self.done: set[str] = set()
        self.broken: PromiseBroken | None = None
        self.states: set[int] = set()
        self.quiet_at = 0.0  # when the last fault so far is over
        self.rounds = 0
        self.arrivals: list[Arrivals] = []  # the log of a run whose rounds are merged; it outlives the server
        self.came_back_at_end = False  # the server died when the run was over
        self.ends: list[float] = []  # when each round ended
        self.deaths = dict.fromkeys(self.names, 0)
        self.step_s: Callable[[int], float] = self._step_s  # how long the next step of a worker takes
        furnish(self)
        for name in self.names:
            self.start(name)

    def _link(self) -> Link:
        given = self.settings
        ways: dict[str, Any] = {"jitter_s": given.latency_s, "late_writes": given.late_writes}
        return Link(self.clock, self.rng, given.latency_s, given.bytes_per_s, given.bytes_per_s, **ways)

    def _write_s(self, name: str) -> float:
        return self.settings.write_s * (1 + self.rng.random()) + self.disk_extra_s[name]

    def _step_s(self, rank: int) -> float:
        del rank
        return self.settings.step_s * (1 + self.rng.random())

    def now(self) -> float:
        """The time by the server's machine."""
        return self.clock.now + self.clock_steps

    # -- processes -------------------------------------------------------------------------------------------------------

    def alive(self, name: str) -> bool:
        host = self.hosts.get(name)
        return host is not None and host.alive

    def start(self, name: str) -> None:
        """Start a process, or start it again: it resumes from its newest checkpoint."""
        if name in self.done or self.alive(name):
            return
        host = self.hosts[name] = Host(self.clock, name, functools.partial(self._died, name))
        self._start_server(host) if name == "server" else self._start_worker(host, int(name))

    def _start_server(self, host: Host) -> None:
        core = self.job.server_core(self.now(), **dict(self.settings.server))
        disk = self.disks["server"] if core.settings.checkpoint_every else None
        if disk is not None and (rounds := disk.rounds()):
            core.restore(*disk.load(rounds[-1]), self.now())
            disk.forget_after(core.round)
        self.came_back_at_end |= core.finished is not None
        given = self.settings
        self.arrivals[:] = [entry for entry in self.arrivals if stays(entry, core.round if disk is not None else -1)]
        if isinstance(core, MergingCore):
            core.recall(joined_at(self.arrivals, core.round))
            self.promises.goes_on_from(core.round)
        ways: dict[str, Any] = {"backlog_bytes": given.backlog_bytes, "threaded_s": given.threaded_s, "arrivals": self.arrivals}
        self.server = Server(host, core, disk, now=self.now, watch=self._server_watch, sent=self._sent, **ways)
        self._server_watch("round")
        host.spawn(self._until_end("server", self.server.run()))

    def _start_worker(self, host: Host, rank: int) -> None:
        core, name = self.job.worker_core(rank), str(rank)
        core.measured = lambda made: (1 + (made + 3 * rank) % 5, 1 + rank)  # of use where rounds are merged
        disk = self.disks[name] if self.job.recipe.checkpoint.every else None
        if disk is not None and (rounds := disk.rounds()):
            core.restore(*disk.load(rounds[-1]))
        worker = self.workers[name] = Worker(
            host,
            core,
            disk,
            dial=functools.partial(self._dial, rank),
            step_s=lambda: self.step_s(rank),
            watch=functools.partial(self._worker_watch, name),
            recipe=self._recipe,
            lease_s=self.lease_s,
            progress_s=self.job.recipe.server.progress_s,
            frame_bytes=self.settings.frame_bytes,
        )
        host.spawn(self._until_end(name, worker.run()))

    def _until_end(self, name: str, work: Any) -> Any:
        yield from work
        self.done.add(name)
        self._gone(name)

    def _dial(self, rank: int) -> tuple[Server, Connection]:
        if not self.alive("server") or self.server is None or self.server.closing:
            raise Answered(Code.UNAVAILABLE, "failed to connect")
        return self.server, Connection(self.links[rank], self.settings.window)

    def _gone(self, name: str, silent_s: float = 0.0) -> None:
        """A process is no more; its peers notice at once, or after a while."""
        self.hosts[name].alive = False
        ranks = range(self.num_workers) if name == "server" else (int(name),)
        for rank in ranks:
            worker = self.workers.get(str(rank))
            if worker is not None and worker.connection is not None:
                notice = silent_s or worker.connection.link.latency_s
                worker.connection.break_(client_s=notice, server_s=notice)

    def kill(self, name: str, *, again_s: float, renamed: bool, silent_s: float = 0.0) -> bool:
        """End a process at once, and start it again later; False when there is none."""
        if not self.alive(name):
            return False
        self.deaths[name] += 1
        self.disks[name].cut(renamed)
        self._gone(name, silent_s)
        self.clock.after(again_s, functools.partial(self.start, name))
        return True

    def _died(self, name: str, error: Exception) -> None:
        """A process has ended by an error that it told."""
        self._gone(name)
        if isinstance(error, PromiseBroken):
            self.broken = self.broken or error
        elif "No space left" in str(error):  # a clear end; somebody makes room and starts it again
            self.quiet_at = max(self.quiet_at, self.clock.now + 0.5)
            self.clock.after(0.5, functools.partial(self.start, name))
        elif isinstance(error, PeerLost) and "server" in self.done and (name in self.took_final or not self._is_member(name)):
            self.done.add(name)  # it was killed when it had everything, or the run went on without it, and is over
        else:
            self.broken = self.broken or PromiseBroken(f"nobody ends without a reason: {name}: {type(error).__name__}: {error}")

    def _is_member(self, name: str) -> bool:
        """Whether the run that is over counts on a worker."""
        assert self.server is not None
        return int(name) in self.server.core.members

    # -- promises --------------------------------------------------------------------------------------------------------

    def _check(self, check: Any) -> None:
        try:
            check()
        except PromiseBroken as error:
            self.broken = self.broken or error

    def _server_watch(self, event: str) -> None:
        server = self.server
        assert server is not None
        core = server.core
        if event == "round":
            self.rounds += 1
            if core.round > 0:
                self.ends.append(self.clock.now)
            self._check(lambda: self.promises.stands("the server", core.epoch, core.round, core.replica))
        self._check(lambda: self.promises.adds_up(core.ledger))
        self._count_state()

    def _sent(self, epoch: int, delivery: Delivery) -> None:
        self._check(lambda: self.promises.published(epoch, delivery))

    def _worker_watch(self, name: str, event: str) -> None:
        core, connection = self.workers[name].core, self.workers[name].connection
        apart = connection is None or not connection.open
        if not (apart and core.merging):  # else it may hold what a server has lost that has died
            self._check(lambda: self.promises.stands(f"worker {name}", core.epoch, core.round, core.replica))
        server = self.server
        if event == "took" and server is not None and server.core.finished and core.round == server.core.round:
            self.took_final.add(name)
        self._count_state()

    def _count_state(self) -> None:
        if self._counts_states and self.server is not None:
            boundary = self.server.core.round
            workers = tuple(worker.shape(boundary) for worker in self.workers.values())
            alive = tuple(self.alive(name) for name in self.names)
            self.states.add(hash((self.server.shape(), workers, alive)))

    # -- the run ---------------------------------------------------------------------------------------------------------

    def run(self, quiet_at: float = 0.0) -> None:
        """To the end, which is to come soon after `quiet_at`, when what was planned to go wrong is over.

        Raises:
            PromiseBroken: one of the promises does not hold.
        """
        while self.broken is None and len(self.done) < len(self.names):
            if not self.clock.step() or self.clock.now > max(quiet_at, self.quiet_at) + self.settings.patience_s:
                where = {name: worker.where for name, worker in self.workers.items() if name not in self.done}
                at = self.server.core.round if self.server is not None else 0
                self.broken = PromiseBroken(f"progress: no end at {self.clock.now:.1f} s, round {at}, workers {where}")
        if self.broken is None:
            assert self.server is not None
            self._check(functools.partial(self.promises.ended, self.server.core, uncounted=self.came_back_at_end))
            if self.server.core.settings.merging:
                self._check(functools.partial(self.promises.can_be_replayed, self.job, self.server.core, self.arrivals))
        if self.broken is not None:
            raise self.broken
