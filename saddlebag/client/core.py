"""A worker as a state machine: its half of the method, without a socket, clock or file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms import AnyMethod, Message, Operator, Selective, digest, pack, unpack
from saddlebag.algorithms.merging import WHOLE
from saddlebag.algorithms.method_capabilities import Foresees
from saddlebag.algorithms.participation import catch_up_sizes, caught_up
from saddlebag.algorithms.state import hollow
from saddlebag.algorithms.wrapped import is_narrow
from saddlebag.compression import SERVER, Draws, Vector
from saddlebag.errors import LocalProtocolError, StateError
from saddlebag.proto.checkpoint import STATES, count, require_version
from saddlebag.proto.codec import decode, encode
from saddlebag.proto.counted import read_counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from saddlebag.algorithms.merging import Counted
    from saddlebag.proto.reader import Buffer

__all__ = ["WorkerCore"]

Arrays = dict[str, npt.NDArray[Any]]
_SENT = "sent"  # in a checkpoint: the message of a narrow method's step in progress


class Kept(NamedTuple):
    """An uplink that is sent until a round counts it; as bytes, unless what is sent are masked numbers of it."""

    made: int
    uplink: Message | bytes
    samples: int
    steps: int

    @property
    def data(self) -> bytes:
        """As bytes."""
        return self.uplink if isinstance(self.uplink, bytes) else b"".join(encode(self.uplink))


class WorkerCore:
    """The state of one worker at a round boundary, and the step in progress.

    `step` computes the uplink of the current round, `apply` takes its downlink and moves to the next boundary. The state
    before the step is kept until then, so a step can be repeated after a fault; a narrow method has spent it, and its message
    is kept instead. `start` is where the run begins, or a function that says it and needs no memory meanwhile.
    """

    def __init__(
        self, method: AnyMethod, operator: Operator, start: Vector | Callable[[], Vector], *, worker: int, seed: int
    ) -> None:
        self.method, self.worker = method, worker
        self._operator, self._start, self._seed = operator, start, seed
        self.members: tuple[int, ...] = ()  # of the epoch, once they are known
        self.ahead: Callable[[Vector, Draws], None] | None = None
        self.starts_alike = True  # as the server; else a run's start comes from it, too
        self.merging = False  # whether rounds count what has come, in place of waiting for all
        self.keeps_uplinks = True  # where rounds are merged: what a round has not counted is sent again, or its step is undone
        self.share = 1.0  # of the steps between exchanges that this worker is to make
        self.measured: Callable[[int], tuple[int, int]] = lambda made: (1, 1)  # samples and steps behind an uplink
        self.placed = True  # whether the present boundary is one of the run's, not just where this worker would begin
        self.begin_run(0)

    @property
    def method(self) -> AnyMethod:
        """The method; what it is capable of is asked once, since asking a Protocol takes longer than a small step."""
        return self._method

    @method.setter
    def method(self, method: AnyMethod) -> None:
        self._method, self._narrow = method, is_narrow(method)
        self._selective = method if isinstance(method, Selective) else None

    @property
    def dimension(self) -> int:
        return len(self.replica.z_D)

    @property
    def draws(self) -> Draws:
        """The worker's draws in the current round."""
        return Draws(self._seed, self.round, self.worker)

    def begin(self, epoch: int, round_: int, replica: Any) -> None:
        """Start an epoch: the own half of the state is as new."""
        self.epoch, self.round, self.replica = epoch, round_, replica
        self._own = self.method.init_worker(replica)
        self._next: Any = None
        self._kept: Kept | None = None
        self._sent: list[Buffer] | None = None  # of a narrow method's step in progress

    def begin_run(self, epoch: int) -> None:
        """Start an epoch that begins with the run."""
        start_D: Vector = self._start() if callable(self._start) else self._start
        self.begin(epoch, 0, self.method.init_replica(start_D))

    def adopt(self, method: AnyMethod, seed: int) -> None:
        """Take method and seed of a server of which nothing was known; a run that has not begun begins anew."""
        self.method, self._seed = method, seed
        if (self.epoch, self.round) == (0, 0):
            self.begin_run(0)

    def heal(self, replica: Any) -> None:
        """Take the server's replica at the current boundary; what this worker has sent stays as it was."""
        self.replica, self._kept = replica, None
        if self._sent is None:
            self._next = None

    @property
    def made(self) -> int:
        """The round in which the uplink that is to be counted next is made."""
        return self.round if self._kept is None else self._kept.made

    @property
    def measures(self) -> tuple[int, int]:
        """Samples and steps behind the uplink of the last `step`; (0, 0) where nobody asks."""
        return (0, 0) if self._kept is None else (self._kept.samples, self._kept.steps)

    def step(self) -> tuple[list[Buffer], int | None]:
        """The uplink of the current round as bytes, and the digest to send with it where the round synchronises.

        No bytes where masked numbers of the uplink are sent in its place.
        """
        if self._kept is not None:  # until a round counts it
            return [self._kept.data] if self.keeps_uplinks else [], None
        check = digest(self.replica) if self.method.synchronises(self.replica, self.draws) else None
        buffers = self._sent
        if buffers is None:
            self._next, message = self.method.worker_step(self.replica, self._own, self._operator, self.draws)
            if self.merging and not self.keeps_uplinks:
                self._kept = Kept(self.round, message, *self.measured(self.round))
                return [], check
            buffers = encode(message)
            if self._narrow:
                self._own, self._sent = self._next, buffers
        if self.merging:
            self._kept = Kept(self.round, b"".join(buffers), *self.measured(self.round))
            buffers = [self._kept.data]
        return buffers, check

    def uplink(self) -> Message:
        """Of the step in progress, where masked numbers of it are sent."""
        if self._kept is None:
            raise LocalProtocolError(f"round {self.round} has no uplink: its step is not made")
        kept = self._kept.uplink
        sizes = self.method.uplink_sizes(self.replica, self.draws.of(SERVER))
        return decode(kept, sizes, self.draws) if isinstance(kept, bytes) else kept

    @property
    def idle(self) -> bool:
        """Whether this worker takes no part in the current round."""
        if not self.members or self._selective is None:
            return False
        return self.worker not in self._selective.select(self.replica, self.draws.of(SERVER), self.members)

    def ensure_stepped(self) -> None:
        """Compute the step of the current round unless it is in progress: its downlink can then be applied."""
        if self._next is None:
            if self.idle:
                self._next = self._own
            else:
                self.step()

    def look_ahead(self) -> None:
        """While the downlink is under way, tell `ahead` where the next step will ask, if the method foresees it."""
        if self.ahead is None or not isinstance(self.method, Foresees):
            return
        if (point_D := self.method.foreseen(self._next)) is not None:
            self.ahead(point_D, Draws(self._seed, self.round + 1, self.worker))

    def catch_up_sizes(self) -> tuple[int, ...]:
        """The schema of a catch-up, which brings an idle worker to a later boundary; () when the method knows none."""
        return () if self._selective is None else catch_up_sizes(self._selective, self.replica)

    def jump(self, round_: int, message: Message) -> None:
        """Take a catch-up: the replica is that of a later boundary, the own half of the state stays."""
        if self._selective is None or not self.idle or round_ <= self.round:
            raise LocalProtocolError(f"no catch-up from round {self.round} to {round_}")
        self.replica, self._next = caught_up(self._selective, self.replica, message), None
        self.round = round_

    def downlink_sizes(self) -> tuple[int, ...]:
        """The schema of the current round's downlink."""
        return self.method.downlink_sizes(self.replica, self.draws.of(SERVER))

    def apply(self, down: Message) -> None:
        """Replay the downlink: the state moves to the next boundary."""
        if self._next is None:
            raise LocalProtocolError(f"round {self.round} has a downlink but no step")
        self.replica = self.method.replay(self.replica, down, self.draws.of(SERVER))
        self._own, self._next, self._sent = self._next, None, None
        self.round += 1

    def merge(self, down: Message, counted: Iterable[Counted]) -> None:
        """Replay the downlink of a round that has counted these: the own half of the state moves where ours is among them."""
        mine = next((entry for entry in counted if entry.worker == self.worker), None)
        self.replica = self.method.replay(self.replica, down, self.draws.of(SERVER))
        if mine is not None and self._kept is not None and self.round - mine.age == self._kept.made:
            self._own, self._next, self._kept = self._next, None, None
            self.share = mine.share / WHOLE
        elif not self.keeps_uplinks:
            self._next = self._kept = None
        self.round += 1

    def awaits(self, round_: int) -> tuple[int, tuple[int, ...]]:
        """The round in the headers, and the schema, of a message that begins with a frame of `round_`.

        Of a later round only an idle worker expects one: the catch-up that leads there.
        """
        late = round_ > self.round and not self.merging and self.idle
        return (round_, self.catch_up_sizes()) if late else (self.round, self.downlink_sizes())

    def take(self, round_: int, message: Message, counted: bytes = b"") -> None:
        """Move on by the message that `awaits` described; `counted` as in its first frame."""
        if self.merging:
            self.merge(message, read_counted(counted, round_))
            return
        self.jump(round_, message) if round_ > self.round else self.apply(message)

    def capture(self) -> tuple[Arrays, dict[str, Any]]:
        """The state at the boundary, for a checkpoint; with the step in progress, if there is one."""
        arrays = pack(self.replica, "replica.") | pack(self._own, "worker.")
        if self._next is not None and self._next is not self._own:
            arrays |= pack(self._next, "next.")
        if self._sent is not None:
            arrays[_SENT] = np.frombuffer(b"".join(self._sent), np.uint8)
        where = {"epoch": self.epoch, "round": self.round, "worker": self.worker, "stepped": self._next is not None}
        if (kept := self._kept) is not None:
            arrays["uplink"] = np.frombuffer(kept.data, np.uint8)
            where |= {"made": kept.made, "samples": kept.samples, "steps": kept.steps}
        return arrays, {"version": STATES, **where}

    def restore(self, arrays: Arrays, meta: Mapping[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            StateError: it does not fit the method or the dimension, or is damaged.
        """
        require_version(meta)
        self.replica = unpack(self.replica, arrays, "replica.")
        like = self.method.init_worker(self.replica)
        self._own = unpack(like, arrays, "worker.")
        self._next = None
        if meta.get("stepped"):
            moved = any(name.startswith("next.") for name in arrays)
            self._next = unpack(like, arrays, "next.") if moved else self._own
        self.epoch, self.round, self._kept = count(meta, "epoch"), count(meta, "round"), None
        self._sent = None
        if self._next is not None and self._narrow:
            self._own, self._sent = self._next, [_bytes_of(arrays)]
        if self._next is not None and "made" in meta:
            data = arrays.get("uplink", np.zeros(0, np.uint8)).tobytes()
            self._kept = Kept(count(meta, "made"), data, count(meta, "samples"), count(meta, "steps"))

    def forget(self) -> None:
        """Give the states' memory back, for `restore` is to follow."""
        self.replica, self._own = hollow(self.replica), hollow(self._own)

    def unpack_replica(self, arrays: Arrays) -> Any:
        """The replica of a snapshot; `StateError` when it does not fit."""
        return unpack(self.replica, arrays)


def _bytes_of(arrays: Arrays) -> bytes:
    """The message of the step in progress."""
    sent = arrays.get(_SENT)
    if sent is None or sent.dtype != np.uint8 or sent.ndim != 1:
        raise StateError(f"a checkpoint of a step in progress must hold its message, {_SENT!r}, as bytes")
    return sent.tobytes()
