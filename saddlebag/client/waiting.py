"""How long a worker goes on asking for its server, and what it says meanwhile: nobody waits in silence."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from saddlebag.errors import ConfigError, PeerLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["RankTaken", "Waiting"]

_FIRST_RETRY_S, _LAST_RETRY_S = 0.05, 1.0
_BEYOND_S = 5.0  # the lease of whoever has the rank
SAY_EVERY_S = 5.0


class RankTaken(Exception):
    """Another process lives with this worker's rank, or the server believes so."""


class Waiting:
    """The time since the server was last of use.

    Args:
        who: waits, for a person.
        address: of the server.
        give_up_s: after which waiting is over.
        note: told every few seconds what is awaited.
        clock: in seconds.
        say_every_s: between two words.
    """

    def __init__(
        self,
        who: str,
        address: str,
        give_up_s: float,
        note: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        say_every_s: float = SAY_EVERY_S,
    ) -> None:
        self._who, self._address, self._give_up_s, self._note = who, address, give_up_s, note
        self._clock, self._every_s = clock, say_every_s
        self._reason, self._connected, self.ever_met = "no answer yet", False, False
        self._taken_since: float | None = None
        self.progressed()

    def progressed(self) -> None:
        """The run went on: all patience is back."""
        self._since, self._pause_s = self._clock(), _FIRST_RETRY_S

    def met(self) -> None:
        """The server has admitted this worker."""
        self._connected = self.ever_met = True
        self._taken_since = None

    def failed(self, reason: str) -> float:
        """An attempt, or the connection, came to an end; returns how long to pause before the next one.

        Raises:
            PeerLost: the patience is at its end.
        """
        self._reason, self._connected = reason, False
        if self._clock() > self._since + self._give_up_s:
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

        task = asyncio.create_task(speak())
        try:
            yield
        finally:
            task.cancel()
