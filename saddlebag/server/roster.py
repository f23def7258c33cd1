"""Who may take part, who is connected, and who is missed: since when, why, and until when."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from saddlebag.errors import ConfigError
from saddlebag.proto.handshake import LIFE_BITS, JoinAsk, require_same_recipe
from saddlebag.proto.token import accepts, bound_ranks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from saddlebag.server.effects import ServerSettings

__all__ = ["BROKEN", "GRACE_S", "START_S", "Missed", "RankTaken", "Roster", "admit", "recognise"]

GRACE_S = 1.0
"""For a worker whose stream has broken to come back: its process has died, or it would do so at once."""
BROKEN = "its stream broke"
START_S = 60.0
"""For a rank that has never come, where the lease is shorter: to load its libraries and data."""


class RankTaken(ConfigError):
    """Another process holds the rank, and lives."""


def recognise(worker: int, token: str, names: Iterable[str], *, secret: str, recipe: str) -> None:
    """Raise `ConfigError` unless somebody may be this worker.

    Args:
        worker: who he says he is.
        token: shown.
        names: in the certificate that he has shown, if any.
        secret: of the run; empty where everybody may come.
        recipe: canonical JSON, or the terms of linked programs.
    """
    if secret and not accepts(token, secret, recipe, worker):
        raise ConfigError(
            "the token is wrong: it must be the run's secret, or what "
            f"`saddlebag token RECIPE --rank {worker}` makes of it and of this recipe"
        )
    if (ranks := bound_ranks(names)) and worker not in ranks:
        raise ConfigError(f"the certificate is for worker {', '.join(map(str, sorted(ranks)))}, not for worker {worker}")


def admit(ask: JoinAsk, settings: ServerSettings, dimension: int) -> None:
    """Raise `ConfigError` unless a worker fits the run: token, certificate, rank, recipe, dimension."""
    recognise(ask.worker, ask.token, ask.names, secret=settings.token, recipe=settings.recipe)
    if not 0 <= ask.worker < settings.num_workers:
        raise ConfigError(f"worker rank must lie in [0, {settings.num_workers}), got {ask.worker}")
    require_same_recipe(ask.recipe, settings.recipe)
    if ask.dimension != dimension:
        raise ConfigError(f"dimension differs: worker {ask.worker} has {ask.dimension}, the server {dimension}")


@dataclasses.dataclass(frozen=True)
class Missed:
    """A worker that a round waits for.

    Attributes:
        worker: its rank.
        why: in words.
        since: when it was last heard of, or when its stream broke.
        patience_s: after which it is lost.
    """

    worker: int
    why: str
    since: float
    patience_s: float


@dataclasses.dataclass
class _Seat:
    """What the server knows of a rank."""

    seen: float
    session: str = ""
    order: int = 0  # of the join that has the rank
    came: bool = False
    streams: bool = False  # whether its stream is open
    broke: float | None = None  # when its stream ended without the server's doing, unless it has been heard of since
    resume: int = 0
    epoch: int = 0
    diverged: bool = False


class Roster:
    """The seats of all ranks."""

    def __init__(self, num_workers: int, now: float) -> None:
        self._seats = {worker: _Seat(now) for worker in range(num_workers)}
        self._ranks: dict[str, int] = {}  # by the sessions that hold them
        self._noted: set[int] = set()

    def sit(self, worker: int, session: str, now: float, order: int = 0) -> str:
        """Give a rank to the session of a join of this order; returns the session that held it, or nothing."""
        seat = self._seats[worker]
        before, seat.session, seat.seen, seat.order = seat.session, session, now, order
        self._ranks.pop(before, None)
        self._ranks[session] = worker
        seat.came, seat.streams, seat.broke = True, False, None
        return before

    def require_free(self, ask: JoinAsk, now: float, lease_s: float) -> None:
        """Raise `RankTaken` where another process holds the rank: its stream is open, and its lease has not run out.

        Who shows the session that holds it is the same worker; the server has not yet seen that its old stream is gone. A join
        that was on its way while its worker went on by a later one has no rank to take; where that was in another life, for a
        lease, since clocks step.
        """
        seat = self._seats[ask.worker]
        one_life = ask.order >> LIFE_BITS == seat.order >> LIFE_BITS
        if 0 < ask.order <= seat.order and (one_life or seat.streams or now - seat.seen <= lease_s):
            raise RankTaken(f"a later join of worker {ask.worker} has come")
        if seat.streams and now - seat.seen <= lease_s and ask.session != seat.session:
            raise RankTaken(f"another process is worker {ask.worker}; it was heard of {now - seat.seen:.0f} s ago")

    def leave(self, worker: int) -> None:
        """Nobody holds the rank any more."""
        self._ranks.pop(self._seats[worker].session, None)
        self._seats[worker].session = ""

    def holds(self, worker: int, session: str) -> bool:
        """Whether this session holds the rank."""
        return self._seats[worker].session == session

    def worker_of(self, session: str) -> int | None:
        """The rank that a session holds."""
        return self._ranks.get(session)

    def see(self, worker: int, now: float) -> None:
        """Renew a lease."""
        seat = self._seats[worker]
        seat.seen, seat.broke = now, None

    def awaited(self, worker: int) -> bool:
        """Whether the worker is there: its stream is open, or is to be."""
        seat = self._seats[worker]
        return bool(seat.session) and seat.broke is None

    def gone(self, worker: int) -> bool:
        """Whether its stream has broken, and it has not been heard of since."""
        return self._seats[worker].broke is not None

    def opened(self, worker: int) -> None:
        """The worker's stream is open."""
        self._seats[worker].streams = True

    def closed(self, worker: int, now: float, *, broken: bool) -> None:
        """Its stream has ended; `broken` unless the server has ended it."""
        seat = self._seats[worker]
        seat.streams = False
        if broken:
            seat.broke = now
        else:
            seat.seen, seat.broke = now, None

    def missed(self, workers: Iterable[int], lease_s: float) -> list[Missed]:
        """What is known of workers that a round waits for."""
        return [self._missed(worker, self._seats[worker], lease_s) for worker in workers]

    @staticmethod
    def _missed(worker: int, seat: _Seat, lease_s: float) -> Missed:
        if not seat.came:
            return Missed(worker, "has not come", seat.seen, max(START_S, lease_s))
        if seat.broke is not None:
            left_s = seat.seen + lease_s - seat.broke  # a machine that fell silent has used its lease when pings end the stream
            return Missed(worker, BROKEN, seat.broke, max(0.0, min(GRACE_S, left_s)))
        return Missed(worker, "last heard of", seat.seen, lease_s)

    def first_note(self, workers: list[int]) -> bool:
        """Whether people have yet to be told that these workers are missing; they are told once."""
        new = not self._noted.issuperset(workers)
        self._noted.update(workers)
        return new

    def welcome(self, worker: int) -> bool:
        """Whether people were told that the worker is missing; they are to be told that it is back."""
        told = worker in self._noted
        self._noted.discard(worker)
        return told

    def resume_of(self, worker: int) -> int:
        """The round whose downlink a worker needs first."""
        return self._seats[worker].resume

    def epoch_of(self, worker: int) -> int:
        """The epoch that a worker joined, which may be over before its stream comes."""
        return self._seats[worker].epoch

    def set_resume(self, worker: int, epoch: int, round_: int) -> None:
        """A worker continues from this boundary of an epoch."""
        self._seats[worker].epoch, self._seats[worker].resume = epoch, round_

    def mark_diverged(self, worker: int) -> None:
        """The worker's replica differs from the server's."""
        self._seats[worker].diverged = True

    def take_diverged(self, worker: int) -> bool:
        """Whether it was marked; the mark is gone."""
        diverged, self._seats[worker].diverged = self._seats[worker].diverged, False
        return diverged
