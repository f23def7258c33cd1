"""How long a worker goes on asking for its server, and what it says meanwhile: nobody waits in silence."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from saddlebag.errors import ConfigError, PeerLost
from saddlebag.proto.awake import TICK_S, Awake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["RankTaken", "Waiting"]

_FIRST_RETRY_S, _LAST_RETRY_S = 0.05, 1.0
_BEYOND_S = 5.0  # the lease of whoever has the rank
_MOST_DOUBLINGS = 6  # of a lease: 10 min at 10 s, in which a link of 14 kbit/s carries a frame
SAY_EVERY_S = 5.0


class RankTaken(Exception):
    """Another process lives with this worker's rank, or the server believes so."""


class Waiting:
    """The time without a server, since it was last of use; while there is a connection, none passes.

    A round may take longer than a server is waited for, so that the end of a connection says nothing of the time before it.

    Args:
        who: waits, for a person.
        address: of the server.
        give_up_s: after which waiting is over.
        note: told every few seconds what is awaited.
        clock: in seconds; None for those for which the process has run.
        say_every_s: between two words.
    """

    def __init__(
        self,
        who: str,
        address: str,
        give_up_s: float,
        note: Callable[[str], None],
        *,
        clock: Callable[[], float] | None = None,
        say_every_s: float = SAY_EVERY_S,
    ) -> None:
        self._who, self._address, self._give_up_s, self._note = who, address, give_up_s, note
        self._clock, self._every_s = clock or Awake(), say_every_s
        self._reason, self._connected, self.ever_met = "no answer yet", False, False
        self._taken_since: float | None = None
        self._met_at = 0.0
        self.progressed()

    def progressed(self) -> None:
        """The run went on: all patience is back."""
        self._since = self._met_at = self._clock()
        self._pause_s, self._fruitless = _FIRST_RETRY_S, 0

    @property
    def slack(self) -> int:
        """How many times longer than a lease the next connection may wait for an answer.

        What is asked waits behind the data under way. Each connection that ends without progress doubles it, so that a slow
        link is found out.
        """
        return int(2 ** min(self._fruitless, _MOST_DOUBLINGS))

    def met(self) -> None:
        """The server has admitted this worker."""
        self._connected = self.ever_met = True
        self._taken_since, self._met_at = None, self._clock()

    def superseded(self) -> None:
        """The server has ended the stream, or the way to it, because the run has gone on: it is there, though not as it was."""
        self._since = self._met_at = self._clock()

    def failed(self, reason: str) -> float:
        """An attempt, or the connection, came to an end; returns how long to pause before the next one.

        Raises:
            PeerLost: the patience is at its end.
        """
        now = self._clock()
        if self._connected:
            self._since += now - self._met_at
            self._fruitless += 1
        self._reason, self._connected = reason, False
        if now > self._since + self._give_up_s:
            raise PeerLost(f"no server at {self._address} for {self._give_up_s:g} s; last answer: {reason}")
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _LAST_RETRY_S)
        return pause_s

    def taken(self, reason: str, lease_s: float) -> str:
        """Another process holds the rank: perhaps this worker's last life, of which the server will know within the lease.

        Raises:
            ConfigError: it is none.
        """
        now = self._clock()
        if self._taken_since is None:
            self._taken_since = now
            self._note(f"{self._who}: {reason}; trying again for {lease_s + _BEYOND_S:g} s")
        if now - self._taken_since > lease_s + _BEYOND_S:
            raise ConfigError(f"the server at {self._address} refused {self._who}: {reason}")
        return reason

    def words(self) -> str | None:
        """What is awaited, for how long now and how much longer; None while the server is there."""
        if self._connected:
            return None
        waited_s = self._clock() - self._since
        left_s = max(0.0, self._give_up_s - waited_s)
        return f"{self._who}: waiting for {self._address} since {waited_s:.0f} s, {left_s:.0f} s more at most: {self._reason}"

    @contextlib.asynccontextmanager
    async def spoken(self) -> AsyncIterator[None]:
        """While the block runs, the words are told now and then."""

        async def speak() -> None:
            while True:
                await asyncio.sleep(self._every_s)
                if (words := self.words()) is not None:
                    self._note(words)

        async def tick() -> None:
            while True:
                await asyncio.sleep(TICK_S)
                self._clock()

        tasks = [asyncio.create_task(speak()), asyncio.create_task(tick())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
