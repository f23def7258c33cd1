"""The parameter server as a state machine: events and the time go in, effects come out; no socket, clock or file here.

    event                      effects
    join                       an answer: where to continue, or a refusal (an exception); perhaps NewEpoch
    frame                      RoundReady when it was the last one missing
    finish_round               Save at a checkpoint boundary, Observe when merits were due, Broadcast, Finished at the end
    lost, leave, tick          Note, or NewEpoch where the policy is to go on without a lost worker

An *epoch* is a stretch of rounds with one membership. It starts from method.init_replica(z), that is, with a full exchange:
at the start of a run, when a worker is dropped or comes back, and when a worker returns without its state.
"""

from __future__ import annotations

import dataclasses
import hmac
import itertools
import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms import AnyMethod, Judge, Record, digest, pack, unpack
from saddlebag.compression import SERVER, Draws, Vector
from saddlebag.errors import ConfigError, RemoteProtocolError, StateError
from saddlebag.proto.codec import encode
from saddlebag.proto.frames import frames_of, read_frame
from saddlebag.proto.handshake import JoinAnswer, JoinAsk, require_same_recipe
from saddlebag.server.gather import Gather
from saddlebag.server.ledger import Ledger

__all__ = ["Broadcast", "Close", "Effect", "Finished", "NewEpoch", "Note", "Observe", "RoundReady", "Save", "ServerCore", "ServerSettings"]

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What the server decides by.

    Attributes:
        num_workers: ranks 0 to num_workers - 1 take part.
        seed: run seed.
        recipe, resolved: canonical JSON; every worker must hold the same recipe, and takes the resolved numbers.
        token: shared secret, or empty.
        lease_s: a worker that is silent for longer is lost.
        round_deadline_s: a worker that is later with an uplink is lost, even if it is alive.
        on_lost: "pause" waits for a lost worker, "drop" goes on without it.
        checkpoint_every: rounds between checkpoints of all processes; 0 for none.
        log_bytes: memory for downlinks kept for workers that come back.
    """

    num_workers: int
    seed: int
    recipe: str = "{}"
    resolved: str = "{}"
    token: str = ""
    lease_s: float = 30.0
    round_deadline_s: float = 3600.0
    on_lost: Literal["pause", "drop"] = "pause"
    checkpoint_every: int = 0
    log_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.num_workers}")
        if not 0 < self.lease_s <= self.round_deadline_s:
            raise ConfigError(f"needs 0 < lease_s <= round_deadline_s, got {self.lease_s} and {self.round_deadline_s}")
        if self.on_lost not in ("pause", "drop"):
            raise ConfigError(f"on_lost must be 'pause' or 'drop', got {self.on_lost!r}")
        if self.checkpoint_every < 0:
            raise ConfigError(f"checkpoint.every must be 0 or more, got {self.checkpoint_every}")


@dataclasses.dataclass(frozen=True)
class RoundReady:
    """All uplinks are there: call `finish_round`."""


@dataclasses.dataclass(frozen=True)
class Broadcast:
    """A downlink is in the log for every member."""


@dataclasses.dataclass(frozen=True)
class Save:
    """A checkpoint to write; it must be on disk before the next one is due, and before the end is announced."""

    round: int
    arrays: Arrays
    meta: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Observe:
    """A line for the run's history."""

    record: Record


@dataclasses.dataclass(frozen=True)
class NewEpoch:
    """Every open stream ends; workers join again."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Close:
    """One worker's stream ends; `superseded` when another process took its rank."""

    worker: int
    reason: str
    superseded: bool = False


@dataclasses.dataclass(frozen=True)
class Finished:
    """The run is over."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Note:
    """Something a person should know."""

    text: str


Effect: TypeAlias = RoundReady | Broadcast | Save | Observe | NewEpoch | Close | Finished | Note


@dataclasses.dataclass(frozen=True)
class _Stored:
    """The downlink of a round as it is sent, and the message bytes in each of its frames."""

    round: int
    frames: list[bytes]
    data_bytes: list[int]

    @property
    def size(self) -> int:
        return sum(map(len, self.frames))


@dataclasses.dataclass
class _Member:
    """What the server knows of a rank."""

    session: str = ""
    seen: float = 0.0
    resume: int = 0  # where it continues after its last join
    delivered: tuple[int, int] = (0, 0)  # next (round, sequence) that has never been sent to it
    diverged: bool = False  # must take the replica from a snapshot


class ServerCore:
    """The state of a run on the server; see the module docstring for its events."""

    def __init__(self, method: AnyMethod, judge: Judge, start_D: Vector, settings: ServerSettings, now: float) -> None:
        self.method, self.settings = method, settings
        self._judge = judge
        self.epoch = self.epoch_start = self.round = 0
        self.members = tuple(range(settings.num_workers))
        self.replica = method.init_replica(start_D)
        self._own = method.init_server(self.replica)
        self.ledger = Ledger()
        self.finished: str | None = None
        self._log: deque[_Stored] = deque()
        self.down_bytes = 0  # messages of the trajectory, for each member
        self._log_size = 0
        self._boundaries: deque[int] = deque([0], maxlen=2)
        self._peers = {worker: _Member(seen=now) for worker in range(settings.num_workers)}
        self._noted: set[int] = set()
        self._open_round(now)

    # -- joining ---------------------------------------------------------------------------------------------------------

    def join(self, ask: JoinAsk, session: str, now: float) -> tuple[JoinAnswer, list[Effect]]:
        """Admit a worker and say from where it continues.

        Raises:
            ConfigError: it cannot take part: another recipe, rank, dimension, or a wrong token.
        """
        self._admit(ask)
        effects: list[Effect] = []
        peer = self._peers[ask.worker]
        if peer.session:
            self.ledger.rejoins += 1
            effects.append(Close(ask.worker, "another process joined with this rank", superseded=True))
            self._disconnect(ask.worker)
        peer.session, peer.seen = session, now
        self._noted.discard(ask.worker)
        resume = self._common_round(ask) if ask.worker in self.members else None
        heal = peer.diverged and resume is not None
        peer.diverged = False
        if heal:
            resume = self.round
        fresh = resume is None
        if resume is None:
            if not self._can_start_fresh(ask.worker):
                members = tuple(sorted({*self.members, ask.worker}))
                effects.extend(self._new_epoch(members, f"worker {ask.worker} joined without the state of this epoch", now))
            resume = self.epoch_start
        self._credit(ask.worker, resume)
        peer.resume = resume
        answer = JoinAnswer(
            epoch=self.epoch,
            round=self.round,
            resume=resume,
            fresh=fresh,
            heal=heal,
            epoch_start=self.epoch_start,
            session=session,
            resolved=self.settings.resolved,
            members=self.members,
            lease_s=self.settings.lease_s,
            checkpoint_every=self.settings.checkpoint_every,
        )
        return answer, effects

    def _admit(self, ask: JoinAsk) -> None:
        if self.settings.token and not hmac.compare_digest(ask.token.encode(), self.settings.token.encode()):
            raise ConfigError("the token is wrong; give every machine of the run the same one")
        if not 0 <= ask.worker < self.settings.num_workers:
            raise ConfigError(f"worker rank must lie in [0, {self.settings.num_workers}), got {ask.worker}")
        require_same_recipe(ask.recipe, self.settings.recipe)
        if ask.dimension != len(self.replica.z_D):
            raise ConfigError(f"dimension differs: worker {ask.worker} has {ask.dimension}, the server {len(self.replica.z_D)}")

    def _common_round(self, ask: JoinAsk) -> int | None:
        """The latest boundary whose state the worker holds and from which the log leads to the present."""
        if ask.epoch != self.epoch:
            return None
        return max((round_ for round_ in ask.rounds if self._log_start <= round_ <= self.round), default=None)

    def _can_start_fresh(self, worker: int) -> bool:
        if worker not in self.members:
            return False
        return self.round == self.epoch_start or (self.epoch == 0 and self._log_start == 0)

    @property
    def _log_start(self) -> int:
        return self._log[0].round if self._log else self.round

    def _credit(self, worker: int, resume: int) -> None:
        """A worker that continues from `resume` has received the downlinks before it, though a crash lost their count."""
        peer = self._peers[worker]
        for stored in self._log:
            for sequence in range(len(stored.frames)):
                if stored.round < resume and (stored.round, sequence) >= peer.delivered:
                    self._count_down(stored, sequence)
        peer.delivered = max(peer.delivered, (resume, 0))

    # -- rounds ----------------------------------------------------------------------------------------------------------

    def _open_round(self, now: float) -> None:
        self._draws = Draws(self.settings.seed, self.round, SERVER)
        self._gather = Gather(self.members, self.method.uplink_sizes(self.replica, self._draws), self._draws)
        self._opened = now
        self._digest: int | None = None

    def needs_uplink(self, worker: int) -> bool:
        """Whether the round still waits for (the rest of) this worker's uplink."""
        return self.finished is None and worker in self.members and not self._gather.has(worker)

    def backlog(self, worker: int) -> int:
        """Bytes held for a worker until earlier workers catch up."""
        return self._gather.backlog(worker) if worker in self.members else 0

    def frame(self, worker: int, raw: bytes, now: float) -> list[Effect]:
        """Take one frame of a worker's uplink.

        Raises:
            RemoteProtocolError: the bytes break the protocol; the worker is to be dropped.
        """
        self.ledger.up.transport += len(raw)
        try:
            frame = read_frame(raw)
        except RemoteProtocolError:
            self.ledger.up.repeated += len(raw)
            raise
        if frame.sender != worker + 1:
            self.ledger.up.repeated += len(raw)
            raise RemoteProtocolError(f"worker {worker} sent a frame of sender {frame.sender}")
        self._peers[worker].seen = now
        if (frame.epoch, frame.round) != (self.epoch, self.round) or not self.needs_uplink(worker):
            self.ledger.up.repeated += len(raw)
            self.ledger.stale_frames += 1
            if (frame.epoch, frame.round) > (self.epoch, self.round):
                raise RemoteProtocolError(f"worker {worker} is at round {frame.round}, ahead of the server's {self.round}")
            return []
        if frame.digest is not None and frame.digest != self.replica_digest:
            self.ledger.up.repeated += len(raw)
            return self._heal(worker)
        self._gather.take(worker, frame, len(raw))
        return [RoundReady()] if self._gather.complete else []

    def _heal(self, worker: int) -> list[Effect]:
        self.ledger.digest_mismatches += 1
        self._peers[worker].diverged = True
        reason = f"worker {worker}'s replica differs at round {self.round}; it continues from a snapshot"
        return [Note(reason), Close(worker, reason)]

    @property
    def replica_digest(self) -> int:
        """The digest of the replica at the current boundary."""
        if self._digest is None:
            self._digest = digest(self.replica)
        return self._digest

    def finish_round(self, now: float) -> list[Effect]:
        """Form the downlink, replay it, and open the next round."""
        data_bytes, frame_bytes = self._gather.traffic()
        self.ledger.up.payload += data_bytes
        self.ledger.up.framing += frame_bytes - data_bytes
        self._own, down = self.method.server_step(self.replica, self._own, self._gather.means(), self._draws)
        buffers = encode(down)
        before, self.replica = self.replica, self.method.replay(self.replica, down, self._draws)
        verdict = self._judge(self.round + 1, before, self.replica)
        self._append(frames_of(buffers, epoch=self.epoch, round_=self.round, sender=0, final=verdict.reason is not None))
        self.down_bytes += sum(map(len, buffers)) * len(self.members)
        self.round += 1
        self.finished = verdict.reason
        effects: list[Effect] = []
        if verdict.merits is not None:
            effects.append(Observe(self._record(verdict.merits)))
        every = self.settings.checkpoint_every
        if every and (self.round % every == 0 or self.finished):
            effects.append(self._save())
        self._open_round(now)
        effects.append(Broadcast())
        if self.finished:
            effects.append(Finished(self.finished))
        return effects

    def _record(self, merits: Mapping[str, float]) -> Record:
        return Record(self.round, self.replica.iteration, dict(merits), self.ledger.up.payload, self.down_bytes)

    # -- the log of downlinks --------------------------------------------------------------------------------------------

    def _append(self, frames: Iterator[bytes]) -> None:
        whole = list(frames)
        self._log.append(_Stored(self.round, whole, [len(read_frame(frame).data) for frame in whole]))
        self._log_size += self._log[-1].size
        oldest = self._boundaries[0] if self.settings.checkpoint_every else 0
        while len(self._log) > 1 and (self._log[0].round < oldest or self._log_size > self.settings.log_bytes):
            self._log_size -= self._log.popleft().size

    def frames(self, round_: int) -> list[bytes]:
        """The stored downlink of a round."""
        return self._log[round_ - self._log_start].frames

    def is_final(self, round_: int) -> bool:
        """Whether this round's downlink ends the run."""
        return self.finished is not None and round_ == self.round - 1

    def sent(self, worker: int, round_: int, sequence: int) -> None:
        """A frame of the log has been handed to gRPC."""
        stored, peer = self._log[round_ - self._log_start], self._peers[worker]
        if (round_, sequence) < peer.delivered:
            self.ledger.down.transport += len(stored.frames[sequence])
            self.ledger.down.repeated += len(stored.frames[sequence])
            return
        self._count_down(stored, sequence)
        peer.delivered = (round_, sequence + 1)

    def _count_down(self, stored: _Stored, sequence: int) -> None:
        frame_bytes, data_bytes = len(stored.frames[sequence]), stored.data_bytes[sequence]
        self.ledger.down.payload += data_bytes
        self.ledger.down.framing += frame_bytes - data_bytes
        self.ledger.down.transport += frame_bytes

    # -- membership ------------------------------------------------------------------------------------------------------

    def resume_of(self, worker: int) -> int:
        """The round whose downlink a worker needs first."""
        return self._peers[worker].resume

    def worker_of(self, session: str) -> int | None:
        """The rank that holds a session."""
        return next((worker for worker, peer in self._peers.items() if session and peer.session == session), None)

    def heartbeat(self, worker: int, now: float) -> None:
        """A worker is alive."""
        self._peers[worker].seen = now

    def lost(self, worker: int, session: str, now: float) -> None:
        """A worker's stream ended; its lease runs from now."""
        if self._peers[worker].session == session:
            self._peers[worker].seen = now
            self._disconnect(worker)

    def _disconnect(self, worker: int) -> None:
        if worker in self.members:
            self.ledger.up.repeated += self._gather.abandon(worker)

    def leave(self, worker: int, now: float) -> list[Effect]:
        """A worker will not come back."""
        self._peers[worker].session = ""
        return self._give_up([worker], f"worker {worker} left", now)

    def tick(self, now: float) -> list[Effect]:
        """Check leases and the round's deadline; call it about once a second."""
        if self.finished:
            return []
        late = now - self._opened > self.settings.round_deadline_s
        lost = [
            worker for worker in self._gather.missing() if late or now - self._peers[worker].seen > self.settings.lease_s
        ]
        if not lost:
            return []
        names = ", ".join(map(str, lost))
        why = f"the round's deadline of {self.settings.round_deadline_s:g} s" if late else f"a lease of {self.settings.lease_s:g} s"
        return self._give_up(lost, f"round {self.round}: no uplink from worker {names} within {why}", now)

    def _give_up(self, workers: list[int], reason: str, now: float) -> list[Effect]:
        left = tuple(worker for worker in self.members if worker not in workers)
        if self.settings.on_lost == "drop" and left:
            return self._new_epoch(left, f"{reason}; going on with {len(left)} of {self.settings.num_workers} workers", now)
        if self._noted.issuperset(workers):
            return []
        self._noted.update(workers)
        return [Note(f"{reason}; waiting for it to come back")]

    def _new_epoch(self, members: tuple[int, ...], reason: str, now: float) -> list[Effect]:
        """Start again from the present z with these members."""
        abandoned = sum(self._gather.abandon(worker) for worker in self.members)
        self.ledger.up.repeated += abandoned + self._gather.traffic()[1]  # complete uplinks are of no use either
        self.epoch += 1
        self.ledger.epochs += 1
        self.epoch_start = self.round
        self.members = members
        self.replica = self.method.init_replica(self.replica.z_D)
        self._own = self.method.init_server(self.replica)
        self._log.clear()
        self._log_size = 0
        self._boundaries.clear()
        self._boundaries.append(self.round)
        for peer in self._peers.values():
            peer.delivered = (self.round, 0)
        self._open_round(now)
        effects: list[Effect] = [NewEpoch(reason), Note(reason)]
        if self.settings.checkpoint_every:
            effects.append(self._save())
        return effects

    # -- checkpoints -----------------------------------------------------------------------------------------------------

    def _save(self) -> Save:
        if self._boundaries[-1] != self.round:
            self._boundaries.append(self.round)
        arrays: Arrays = {f"replica.{name}": array for name, array in pack(self.replica).items()}
        arrays |= {f"server.{name}": array for name, array in pack(self._own).items()}
        arrays["log"] = np.frombuffer(b"".join(frame for stored in self._log for frame in stored.frames), np.uint8)
        meta = {
            "recipe": self.settings.recipe,
            "epoch": self.epoch,
            "epoch_start": self.epoch_start,
            "round": self.round,
            "members": self.members,
            "finished": self.finished,
            "boundaries": list(self._boundaries),
            "log": [[stored.round, [len(frame) for frame in stored.frames], stored.data_bytes] for stored in self._log],
            "down_bytes": self.down_bytes,
            "delivered": [peer.delivered for peer in self._peers.values()],
            "ledger": self.ledger.as_dict(),
        }
        return Save(self.round, arrays, json.loads(json.dumps(meta)))

    def restore(self, arrays: Arrays, meta: Mapping[str, Any], now: float) -> None:
        """Continue from a checkpoint.

        Raises:
            StateError: the checkpoint does not fit this run.
        """
        require_same_recipe(meta["recipe"], self.settings.recipe)
        d = len(self.replica.z_D)
        self.replica = unpack(self.method.replica_type, _under("replica.", arrays), d)
        self._own = unpack(self.method.server_type, _under("server.", arrays), d)
        try:
            self.epoch, self.epoch_start, self.round = meta["epoch"], meta["epoch_start"], meta["round"]
            self.members = tuple(meta["members"])
            self.finished = meta["finished"]
            self._boundaries = deque(meta["boundaries"], maxlen=2)
            self.ledger = Ledger.from_dict(meta["ledger"])
            data, at = arrays["log"].tobytes(), 0
            self._log.clear()
            for round_, lengths, data_bytes in meta["log"]:
                ends = list(itertools.accumulate(lengths, initial=at))
                self._log.append(_Stored(round_, [data[a:b] for a, b in itertools.pairwise(ends)], data_bytes))
                at = ends[-1]
            self._log_size = at
            self.down_bytes = meta["down_bytes"]
            for peer, delivered in zip(self._peers.values(), meta["delivered"], strict=True):
                peer.delivered = tuple(delivered)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StateError(f"the server's checkpoint of round {meta.get('round')} is damaged: {error!r}") from error
        self._open_round(now)


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
