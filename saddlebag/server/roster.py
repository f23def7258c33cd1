"""Who may take part, who is connected, and who has been silent for too long."""

from __future__ import annotations

import dataclasses
import hmac
from typing import TYPE_CHECKING

from saddlebag.errors import ConfigError
from saddlebag.proto.handshake import JoinAsk, require_same_recipe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from saddlebag.server.effects import ServerSettings

__all__ = ["Roster", "admit"]


def admit(ask: JoinAsk, settings: ServerSettings, dimension: int) -> None:
    """Raise `ConfigError` unless a worker fits the run: token, rank, recipe, dimension."""
    if settings.token and not hmac.compare_digest(ask.token.encode(), settings.token.encode()):
        raise ConfigError("the token is wrong; give every machine of the run the same one")
    if not 0 <= ask.worker < settings.num_workers:
        raise ConfigError(f"worker rank must lie in [0, {settings.num_workers}), got {ask.worker}")
    require_same_recipe(ask.recipe, settings.recipe)
    if ask.dimension != dimension:
        raise ConfigError(f"dimension differs: worker {ask.worker} has {ask.dimension}, the server {dimension}")


@dataclasses.dataclass
class _Seat:
    """What the server knows of a rank."""

    seen: float
    session: str = ""
    resume: int = 0
    diverged: bool = False


class Roster:
    """The seats of all ranks."""

    def __init__(self, num_workers: int, now: float) -> None:
        self._seats = {worker: _Seat(now) for worker in range(num_workers)}
        self._noted: set[int] = set()

    def sit(self, worker: int, session: str, now: float) -> str:
        """Give a rank to a new session; returns the session that held it, or nothing."""
        seat = self._seats[worker]
        before, seat.session, seat.seen = seat.session, session, now
        self._noted.discard(worker)
        return before

    def leave(self, worker: int) -> None:
        """Nobody holds the rank any more."""
        self._seats[worker].session = ""

    def holds(self, worker: int, session: str) -> bool:
        """Whether this session holds the rank."""
        return self._seats[worker].session == session

    def worker_of(self, session: str) -> int | None:
        """The rank that a session holds."""
        return next((worker for worker, seat in self._seats.items() if session and seat.session == session), None)

    def see(self, worker: int, now: float) -> None:
        """Renew a lease."""
        self._seats[worker].seen = now

    def silent(self, workers: Iterable[int], since: float) -> list[int]:
        """Those of the workers that were last seen before `since`."""
        return [worker for worker in workers if self._seats[worker].seen < since]

    def first_note(self, workers: list[int]) -> bool:
        """Whether people have yet to be told that these workers are missing; they are told once."""
        new = not self._noted.issuperset(workers)
        self._noted.update(workers)
        return new

    def resume_of(self, worker: int) -> int:
        """The round whose downlink a worker needs first."""
        return self._seats[worker].resume

    def set_resume(self, worker: int, round_: int) -> None:
        """A worker continues from this boundary."""
        self._seats[worker].resume = round_

    def mark_diverged(self, worker: int) -> None:
        """The worker's replica differs from the server's."""
        self._seats[worker].diverged = True

    def take_diverged(self, worker: int) -> bool:
        """Whether it was marked; the mark is gone."""
        diverged, self._seats[worker].diverged = self._seats[worker].diverged, False
        return diverged
