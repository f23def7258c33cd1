"""Fixtures that several folders share: a small game, and a network in memory whose processes can be killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.algorithms import AnyMethod, Judge, Outcome, Problem, Stop, masha1, pack, simulate, unpack
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.client.core import WorkerCore
from saddlebag.client.link.memory import lasting
from saddlebag.compression import SERVER, Draws, Natural, RandK
from saddlebag.errors import PeerLost
from saddlebag.proto.codec import LoopbackWire, decode
from saddlebag.proto.frames import frames_of, read_frame
from saddlebag.proto.handshake import JoinAsk
from saddlebag.server import effects as events
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from saddlebag.server.delivery import Delivery


class Network:
    """A server core and worker cores joined in memory; uplinks arrive in any order, in frames of any size.

    `kill` lists (process, round): the process ("server" or a rank) loses its memory while that round is under way, and
    comes back from its newest checkpoints.
    """

    def __init__(
        self,
        problem: Problem,
        method: AnyMethod,
        stop: Stop,
        *,
        rng: random.Random,
        frame_bytes: int = 1 << 20,
        **settings: Any,
    ):
        self.problem, self.method, self.rng, self.frame_bytes = problem, method, rng, frame_bytes
        self.settings = ServerSettings(num_workers=problem.num_workers, seed=7, **settings)
        self._judge = Judge(problem, stop)
        self.saves: dict[str, dict[int, Any]] = {}
        self.records: list[Any] = []
        self.notes: list[str] = []
        self.jumps = self.early = 0  # catch-ups that were taken, downlinks before their round had ended on the server
        self.now = 0.0
        self.server = self._new_server()
        self.workers = {rank: self._new_worker(rank) for rank in range(problem.num_workers)}
        self.joined: dict[int, str] = {}
        self.done: set[int] = set()
        self.unsent: dict[int, list[bytes]] = {}  # rest of an uplink that is on its way

    def _new_server(self) -> ServerCore:
        return ServerCore(self.method, self._judge, self.problem.start(), self.settings, self.now)

    def _new_worker(self, rank: int) -> WorkerCore:
        worker = WorkerCore(self.method, self.problem.operator(rank), self.problem.start(), worker=rank, seed=7)
        saved = self.saves.get(str(rank), {})
        if saved:
            worker.restore(*self.saved(str(rank), max(saved)))
        return worker

    def save(self, name: str, round_: int, state: Any) -> None:
        saved, (arrays, meta) = self.saves.setdefault(name, {}), state
        saved[round_] = lasting(arrays), meta  # as a disk would
        for old in sorted(saved)[:-2]:
            del saved[old]

    def saved(self, name: str, round_: int) -> Any:
        arrays, meta = self.saves[name][round_]
        return lasting(arrays), meta

    def snapshot(self) -> Any:
        """The server's replica, as it comes over a network."""
        replica = self.server.replica
        return unpack(replica, {name: array.copy() for name, array in pack(replica).items()})

    def apply(self, effects: list[events.Effect]) -> None:
        for effect in effects:
            match effect:
                case events.RoundReady():
                    self.apply(self.server.finish_round(self.now, self.ahead))
                case events.Save(round_, arrays, meta):
                    self.save("server", round_, (arrays, meta))
                case events.Observe(record):
                    self.records.append(record)
                case events.NewEpoch():
                    self.joined.clear()
                case events.Close(worker):
                    self.joined.pop(worker, None)
                case events.Note(text):
                    self.notes.append(text)

    def ahead(self) -> None:
        """Some workers take the downlink before the server has replayed it."""
        for rank in self.server.active:
            if rank in self.joined and not self.unsent[rank] and self.rng.random() < 0.5:
                delivery = self.server.delivery(rank, self.workers[rank].round)
                assert delivery is not None
                self.receive(rank, delivery)
                self.early += 1

    def join(self, rank: int) -> None:
        worker = self.workers[rank]
        rounds = {round_ for round_, (_, meta) in self.saves.get(str(rank), {}).items() if meta["epoch"] == worker.epoch}
        ask = JoinAsk(
            worker=rank, recipe="{}", dimension=worker.dimension, rounds=tuple({*rounds, worker.round}), epoch=worker.epoch
        )
        session = f"{rank}-{self.rng.random()}"
        answer, effects = self.server.join(ask, session, self.now)
        self.apply(effects)
        self.joined[rank] = session
        self.unsent[rank] = []
        worker.members = answer.members
        if answer.heal:
            worker.heal(self.snapshot())
        elif answer.fresh:
            worker.begin(answer.epoch, answer.resume, self.snapshot()) if answer.epoch_start else worker.begin_run(answer.epoch)
        elif answer.resume != worker.round:
            worker.restore(*self.saved(str(rank), answer.resume))
        for later in [round_ for round_ in self.saves.get(str(rank), {}) if round_ > answer.resume]:
            del self.saves[str(rank)][later]

    def kill(self, name: str) -> None:
        if name == "server":
            self.server = self._new_server()
            if saved := self.saves.get("server"):
                arrays, meta = self.saved("server", max(saved))
                self.server.restore(arrays, meta, self.now)
            self.joined.clear()
        else:
            self.server.lost(int(name), self.joined.pop(int(name), "?"), self.now)
            self.workers[int(name)] = self._new_worker(int(name))

    def turn(self, rank: int, cut: int | None = None) -> None:
        """One worker does what it can: join, catch up, or send its uplink (only `cut` frames of it)."""
        worker, server = self.workers[rank], self.server
        if rank not in self.joined:
            self.join(rank)
            return
        try:
            delivery = server.delivery(rank, worker.round)
        except PeerLost:  # its stream ends
            server.lost(rank, self.joined.pop(rank), self.now)
            return
        if delivery is not None:
            self.receive(rank, delivery)
            return
        if server.finished is not None or not server.needs_uplink(rank):
            return  # waits for the others, or is idle
        if not self.unsent[rank]:
            buffers, digest = worker.step()
            here: dict[str, Any] = {"epoch": worker.epoch, "round_": worker.round, "sender": rank + 1, "digest": digest}
            self.unsent[rank] = list(frames_of(buffers, **here, frame_bytes=self.frame_bytes))
        for _ in self.unsent[rank][:cut]:
            self.apply(server.frame(rank, self.unsent[rank].pop(0), self.now))
            if rank not in self.joined:
                return

    def receive(self, rank: int, delivery: Delivery) -> None:
        """Hand a downlink, or a catch-up, to a worker."""
        worker, server, before = self.workers[rank], self.server, self.workers[rank].round
        assert delivery.start == before
        for sequence in range(len(delivery.frames)):
            server.delivered(rank, delivery, sequence)
        data = b"".join(read_frame(frame).data for frame in delivery.frames)
        if delivery.jump:
            draws = Draws(7, delivery.end, SERVER)
            worker.jump(delivery.end, decode(data, worker.catch_up_sizes(), draws))
            self.jumps += 1
        else:
            worker.ensure_stepped()
            worker.apply(decode(data, worker.downlink_sizes(), worker.draws.of(SERVER)))
        final = server.is_final(worker.round - 1)
        every = self.settings.checkpoint_every
        if every and (worker.round // every > before // every or final):
            self.save(str(rank), worker.round, worker.capture())
        if final:
            self.done.add(rank)

    def run(self, kill: list[tuple[str, int]] = [], max_turns: int = 100_000) -> None:  # noqa: B006 (never mutated)
        pending = list(kill)
        for _ in range(max_turns):
            self.now += 0.001
            due = next((event for event in pending if self.server.round >= event[1] and self.server.finished is None), None)
            if due is not None and self.rng.random() < 0.3:
                pending.remove(due)
                self.kill(due[0])
            waiting = [rank for rank in self.server.members if rank not in self.done]
            if not waiting:
                return
            self.turn(self.rng.choice(waiting), cut=self.rng.choice([None, None, 0, 1]) if pending else None)
        raise AssertionError(f"no end after {max_turns} turns; {self.notes[-3:]}")


@pytest.fixture
def game() -> BilinearGame:
    """A bilinear game of 4 heterogeneous workers in 12 dimensions."""
    return BilinearGame(n=6, num_workers=4, regularisation=0.2)


@pytest.fixture
def game_method(game: BilinearGame) -> AnyMethod:
    """MASHA1 with both directions compressed."""
    return masha1(game, up=RandK(fraction=0.25), down=Natural(), step_size=0.2)


@pytest.fixture
def network() -> Callable[..., Network]:
    """Makes networks in memory."""
    return Network


@pytest.fixture
def reference() -> Callable[..., Outcome]:
    """The in-process run that every driver must equal."""

    def run(problem: Problem, method: AnyMethod, stop: Stop) -> Outcome:
        return simulate(problem, method, seed=7, stop=stop, wire=LoopbackWire())

    return run
