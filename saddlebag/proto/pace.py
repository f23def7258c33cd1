"""Whether a stream moves: what its other end has begun to send, against what has come.

A worker that computes sends nothing; nothing comes, either, on a stream in which a flipped bit of a length has made gRPC wait
for bytes that nobody will send. Leases do not tell the two apart, for heartbeats go on. So each end says by heartbeats how many
frames it has begun to send: where more were begun than came, and none comes for `Patience.allowed_s`, the stream is stuck.
"""

from __future__ import annotations

import dataclasses

__all__ = ["Pace", "Patience"]

_MOST_DOUBLINGS = 10


@dataclasses.dataclass
class Patience:
    """How long a frame of one peer may take; kept when its streams end.

    Args:
        progress_s: seconds, on a link that is fast enough.

    Attributes:
        slowest_s: the longest that a frame took which did come.
        stuck: streams in a row that ended without a frame; each doubles the time, so that a slow link is found out.
    """

    progress_s: float
    slowest_s: float = 0.0
    stuck: int = 0

    @property
    def allowed_s(self) -> float:
        """Seconds without a frame after which a stream is stuck."""
        return float(max(self.progress_s, 2 * self.slowest_s) * 2 ** min(self.stuck, _MOST_DOUBLINGS))


class Pace:
    """One stream, seen from one end. Time comes as the seconds of its `age`, so a process that was stopped blames nobody.

    Attributes:
        sent: frames that this end has begun to send.
        waits: whether this end is reading; while it is not, the other may be blocked.
        sends: whether this end is writing, and perhaps waits for room.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self.sent = self._came = self._told = 0
        self.waits = self.sends = False
        self._idle_s = 0.0

    def hear(self, begun: int) -> None:
        """The other end has begun to send so many frames."""
        self._told = max(self._told, begun)

    def expect(self) -> None:
        """What came last is the beginning of something."""
        self.hear(self._came + 1)

    def come(self) -> None:
        """A frame has come."""
        self._came += 1
        self.waits = False
        if self._idle_s:
            self._patience.slowest_s = max(self._patience.slowest_s, self._idle_s)
            self._idle_s = 0.0
        self._patience.stuck = 0

    def age(self, seconds: float) -> str:
        """So much time has passed; says so when the stream is stuck, once, else nothing."""
        if not self.waits or self._told <= self._came:
            return ""
        self._idle_s += seconds
        if self._idle_s <= self._patience.allowed_s:
            return ""
        waited_s, self._idle_s, self._told = self._idle_s, 0.0, 0
        self._patience.stuck += 1
        return f"frame {self._came} of its stream was sent and has not come for {waited_s:g} s"
