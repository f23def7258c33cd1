"""Where a program with a loop of its own meets the worker that speaks for it: two threads, one handing over at a time.

    worker's thread     asks at a point of a round, and waits for the change that the program's steps have made
    program's thread    brings a change, and waits for the point from which it goes on

A worker may ask for a round again (its stream broke off, or the server came back from a checkpoint); then it is told what the
program said, for a program cannot step back. One that asks for a round longer ago gets the next change.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from saddlebag.client.ending import Leaving
from saddlebag.errors import PeerLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.compression import Draws, Vector

__all__ = ["Meeting"]


class Meeting:
    """See the module.

    Args:
        captured: called in the worker's thread whenever it begins to wait, at a boundary of rounds.

    Attributes:
        remembers: of how many rounds the answers are kept, at least 1.
        leaving: whether the program will say nothing more.
        round: that the worker asks for.
    """

    def __init__(self, captured: Callable[[], None] = lambda: None) -> None:
        self._turn = threading.Condition()
        self._captured = captured
        self._answers: dict[int, Vector] = {}
        self._point_D: Vector | None = None  # where the worker waits
        self._change_D: Vector | None = None  # what it has yet to take
        self._measures = (1, 1)  # samples and steps behind it
        self._measured: dict[int, tuple[int, int]] = {}  # behind the answers
        self._over = self._dropped = False
        self._failure: Exception | None = None
        self.remembers, self.leaving, self.round = 2, False, 0

    # -- the worker's thread ---------------------------------------------------------------------------------------------

    def operator(self, z_D: Vector, draws: Draws) -> Vector:
        """What the program's steps have changed, to be asked as a worker asks its operator.

        Raises:
            Leaving: the program is done.
            PeerLost: the program has dropped its link.
        """
        with self._turn:
            if draws.round in self._answers:
                return self._answers[draws.round]
            self.round = draws.round
            self._captured()
            self._point_D = z_D
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._change_D is not None or self.leaving or self._dropped)
            self._point_D = None
            if self._dropped:
                raise PeerLost("the program has dropped its link")
            if self._change_D is None:
                raise Leaving
            change_D, self._change_D = self._change_D, None
            self._answers[draws.round], self._measured[draws.round] = change_D, self._measures
            for old in sorted(self._answers)[: -self.remembers]:
                del self._answers[old], self._measured[old]
            self._turn.notify_all()
            return change_D

    def measured(self, round_: int) -> tuple[int, int]:
        """Samples and steps behind the answer of a round."""
        return self._measured.get(round_, (1, 1))

    def close(self, z_D: Vector, failure: Exception | None) -> None:
        """The worker asks no more: the run is over, and z is its last point, or something has failed."""
        with self._turn:
            self._over, self._failure, self._point_D = True, failure, z_D
            self._turn.notify_all()

    # -- the program's thread --------------------------------------------------------------------------------------------

    def bring(self, change_D: Vector, *, samples: int = 1, steps: int = 1) -> None:
        """Hand over a change, and what is behind it; the worker takes it when it asks next."""
        with self._turn:
            self._change_D, self._measures = change_D, (samples, steps)
            self._turn.notify_all()

    def next_point(self) -> tuple[Vector, bool]:
        """Where the program goes on, and whether the run is over there.

        Raises:
            Exception: what has ended the worker.
        """
        with self._turn:
            self._turn.wait_for(lambda: self._over or (self._point_D is not None and self._change_D is None))
            if self._failure is not None:
                raise self._failure
            assert self._point_D is not None
            return self._point_D, self._over

    def drop(self) -> None:
        """Let the worker end as if its process had died: the run may wait for another one with its rank."""
        with self._turn:
            self._dropped = True
            self._turn.notify_all()

    def leave(self) -> None:
        """Say that nothing more will come."""
        with self._turn:
            self.leaving = True
            self._turn.notify_all()
