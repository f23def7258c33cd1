"""Links between a server and its workers: ordered frames with delay and bandwidth, calls, and how connections break."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from saddlebag.launch.rehearsal.clock import Ended, Signal

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator

    from saddlebag.launch.rehearsal.clock import Clock, Task, Work

__all__ = ["KEEP_ALIVE_S", "Answered", "Connection", "Link", "Pipe", "Reply", "Shared"]

Code: TypeAlias = grpc.StatusCode
_THROTTLE = 100.0
KEEP_ALIVE_S = 3.0
"""After which a silent connection is given up, where the lease is not longer: see `pings`."""


class Answered(Exception):
    """A call or stream has ended with a status: what gRPC calls an RpcError."""

    def __init__(self, code: Code, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


class Shared:
    """The server's own link, which all messages pass, each way; bytes a second."""

    def __init__(self, bytes_per_s: float) -> None:
        self._speed, self._free = bytes_per_s, {True: 0.0, False: 0.0}

    def passed(self, now: float, size: int, *, up: bool) -> float:
        """When a message that comes now has passed it."""
        self._free[up] = max(now, self._free[up]) + size / self._speed
        return self._free[up]


@dataclasses.dataclass
class Link:
    """The way between one worker and the server.

    Attributes:
        latency_s: one way.
        up_bytes_per_s, down_bytes_per_s: bandwidth.
        jitter_s: most that is added to a latency, by chance.
        loss: chance that a message is sent again after `resend_s`.
        held_until: nothing arrives before that time.
        late_writes: chance that a sender hears late that its message is gone.
    """

    clock: Clock
    rng: random.Random
    latency_s: float
    up_bytes_per_s: float
    down_bytes_per_s: float
    jitter_s: float = 0.0
    loss: float = 0.0
    resend_s: float = 0.2
    held_until: float = 0.0
    late_writes: float = 0.0
    shared: Shared | None = None  # in addition
    throttles: int = 0  # while there are some, the bandwidth is a hundredth
    extra_s: float = 0.0  # latency that a fault adds
    _free: dict[bool, float] = dataclasses.field(default_factory=lambda: {True: 0.0, False: 0.0})

    def arrival(self, size: int, *, up: bool) -> float:
        """When a message of so many bytes that is sent now will be there."""
        speed = self.up_bytes_per_s if up else self.down_bytes_per_s
        sent = max(self.clock.now, self._free[up]) + size * (_THROTTLE if self.throttles else 1.0) / speed
        self._free[up] = sent
        if self.shared is not None:
            sent = self.shared.passed(sent, size, up=up)
        latency = self.latency_s + self.extra_s + self.jitter_s * self.rng.random()
        while self.loss and self.rng.random() < self.loss:
            latency += self.resend_s
        return max(sent + latency, self.held_until)

    def drop_queue(self) -> None:
        """What waits to be sent will not be: its connection is gone."""
        self._free = {True: self.clock.now, False: self.clock.now}


class Pipe:
    """One direction of a stream: messages arrive in order, or it breaks."""

    def __init__(self, connection: Connection, *, up: bool, window: int) -> None:
        self._connection, self._up, self._window = connection, up, window
        self._arrived: deque[bytes] = deque()
        self._coming: deque[Callable[[], None]] = deque()  # what is on its way, in order
        self._last = 0.0
        self._unread = 0
        self._news, self._room = Signal(), Signal()
        self.finished = False  # no more will come
        self.failure: Answered | None = None
        self.corrupt = 0  # messages to come of which a byte is flipped

    def send(self, item: bytes) -> Work:
        """Hand a message over; waits while more than the window is on its way or unread."""
        while self._unread > self._window and self.failure is None and self._connection.open:
            yield self._room
        self._raise_failure()
        self._unread += len(item)
        link, size = self._connection.link, len(item)
        if self.corrupt:
            self.corrupt -= 1
            at = link.rng.randrange(len(item))
            item = item[:at] + bytes([item[at] ^ 1 << link.rng.randrange(8)]) + item[at + 1 :]
        self._pass(size, lambda: self._arrive(item))
        late = link.late_writes  # gRPC says late that it has a message, which may have come by then
        if late and (chance := link.rng.random()) < late:
            yield (300.0 if chance < 0.05 * late else 3.0) * link.latency_s * link.rng.random()

    def _pass(self, size: int, arrive: Callable[[], None]) -> None:
        """Something sets out; it arrives behind what has set out before."""
        link = self._connection.link
        self._last = max(self._last, link.arrival(size, up=self._up))
        self._coming.append(arrive)
        link.clock.after(self._last - link.clock.now, lambda: self._coming.popleft()())

    def _arrive(self, item: bytes) -> None:
        if self.failure is None and self._connection.hears(up=self._up):
            self._arrived.append(item)
            self._news.ring()

    def finish(self) -> None:
        """Nothing more will be sent."""
        self._pass(0, self._finish)

    def _finish(self) -> None:
        if not self._connection.hears(up=self._up):
            return
        self.finished = True
        self._news.ring()
        self._connection.answered(self, Answered(Code.OK, "the server ended the stream"))

    def fail(self, failure: Answered) -> None:
        """It has broken, or the peer has ended it with a status; what had not been read is gone."""
        if self.failure is None:
            self.failure = failure
            self._arrived.clear()
            self._news.ring()
            self._room.ring()

    def end_with(self, failure: Answered) -> None:
        """The sender ends the stream with a status, behind what it has sent."""
        self._pass(0, lambda: self._end(failure))

    def _end(self, failure: Answered) -> None:
        if not self._connection.hears(up=self._up):
            return
        self.failure = self.failure or failure
        self._news.ring()
        self._room.ring()
        self._connection.answered(self, failure)

    def read(self) -> Generator[Signal | float, None, bytes | None]:
        """The next message; None at the end."""
        while not self._arrived:
            self._raise_failure()
            if self.finished:
                return None
            yield self._news
        item = self._arrived.popleft()
        self._unread -= len(item)
        self._room.ring()
        return item

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise Answered(self.failure.code, self.failure.details)

    def shape(self) -> tuple[int, bool, bool]:
        """What there is of it, for a count of states."""
        return min(len(self._arrived), 3), self.finished, self.failure is not None


class Connection:
    """What a worker has dialled: calls, and one stream; the server's tasks that answer on it end with it.

    Attributes:
        deaf: which ways nothing is heard any more, though the connection stays: True up, False down.
        refuses: heartbeats are answered by a refusal from now on.
    """

    def __init__(self, link: Link, window: int) -> None:
        self.link, self.open = link, True
        self.deaf, self.refuses = set[bool](), False
        self.up, self.down = Pipe(self, up=True, window=window), Pipe(self, up=False, window=window)
        self._tasks: list[Task] = []
        self._waiting: list[Reply] = []
        self.ended = Signal()  # the client has noticed that its stream has ended

    def hears(self, *, up: bool) -> bool:
        """Whether what arrives this way is read there."""
        return self.open and up not in self.deaf

    def carries(self, task: Task) -> None:
        """A task of the server answers here; it ends when the server notices that the connection has."""
        if not task.ended:
            self._tasks.append(task)

    def call(self, start: Callable[[Reply], object], size: int, timeout_s: float) -> Generator[Signal | float, None, Any]:
        """Call the server: `start` is called there, with where the answer goes.

        Raises:
            Answered: with another status than OK.
        """
        reply, clock = Reply(self), self.link.clock
        self._waiting.append(reply)
        clock.after(self.link.arrival(size, up=True) - clock.now, lambda: start(reply) if self.hears(up=True) else None)
        clock.after(timeout_s, lambda: reply.set(Answered(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")))
        while reply.value is None:
            yield reply.news
        self._waiting.remove(reply)
        if isinstance(reply.value, Answered):
            raise reply.value
        return reply.value

    def answered(self, pipe: Pipe, status: Answered) -> None:
        """The client has the status of its stream: what it sends from now on goes nowhere."""
        if pipe is self.down:
            self.up.fail(status)
            self.ended.ring()

    def give_up(self, why: str) -> None:
        """The client does not believe in its stream any more."""
        failure = Answered(Code.ABORTED, why)
        self.down.fail(failure)
        self.answered(self.down, failure)

    def break_(self, *, client_s: float = 0.0, server_s: float = 0.0) -> None:
        """Nothing passes from now on; each side notices after a while."""
        if self.open:
            self.open = False
            self.link.drop_queue()
            self.link.clock.after(client_s, self._tell_client)
            self.link.clock.after(server_s, self._tell_server)

    def _tell_client(self) -> None:
        failure = Answered(Code.UNAVAILABLE, "Connection reset by peer")
        self.down.fail(failure)
        self.answered(self.down, failure)
        for reply in self._waiting:
            reply.set(failure)

    def _tell_server(self) -> None:
        self.up.fail(Answered(Code.CANCELLED, "the peer is gone"))
        for task in self._tasks:
            task.throw(Ended())


class Reply:
    """Where the answer to a call goes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.news = Signal()
        self.value: Any = None

    def answer(self, value: Any, size: int) -> None:
        """Send an answer back."""
        link = self._connection.link
        if self._connection.open:
            link.clock.after(link.arrival(size, up=False) - link.clock.now, lambda: self._arrive(value))

    def _arrive(self, value: Any) -> None:
        if self._connection.hears(up=False):
            self.set(value)

    def set(self, value: Any) -> None:
        """The answer is there, or there will be none; the first counts."""
        if self.value is None:
            self.value = value
            self.news.ring()
