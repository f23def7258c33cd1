"""What must hold at every event of a run, whatever goes wrong; each is a promise of the design, checked where it can break."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms import Stop, digest, simulate
from saddlebag.algorithms.merging import replayed
from saddlebag.launch.results.arrivals import by_round
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saddlebag.algorithms.merging import Arrivals
    from saddlebag.launch.job import Job
    from saddlebag.server.core import ServerCore
    from saddlebag.server.delivery import Delivery
    from saddlebag.server.ledger import Ledger, Traffic

__all__ = ["PromiseBroken", "Promises", "Reference", "reference"]


class PromiseBroken(AssertionError):
    """A promise does not hold; the first words name it."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """The undisturbed run in one process: by round the digest of the replica, and the bytes of all messages."""

    digests: tuple[int, ...]
    reason: str
    up_bytes: int
    down_bytes: int


def reference(job: Job) -> Reference:
    """What `simulate` says of a job."""
    digests = [digest(job.method.init_replica(job.problem.start()))]
    stop: Stop = job.recipe.stop
    outcome = simulate(
        job.problem,
        job.method,
        seed=job.recipe.seed,
        stop=stop,
        wire=LoopbackWire(),
        watch=lambda rounds, replica, verdict: digests.append(digest(replica)),
        keep_history=False,
    )
    return Reference(tuple(digests), outcome.reason, outcome.up_bytes, outcome.down_bytes)


class Promises:
    """The promises of one run.

    Args:
        expected: the undisturbed run, where the policy promises its trajectory; None where it may start new epochs.
    """

    def __init__(self, expected: Reference | None) -> None:
        self._expected = expected
        self._digests: dict[tuple[int, int], tuple[int, str]] = {}
        self._downlinks: dict[tuple[int, int], bytes] = {}
        self.checked = 0
        self.same = expected is not None  # one trajectory, whoever is lost

    def stands(self, who: str, epoch: int, round_: int, replica: Any) -> None:
        """A process holds this replica at a boundary: the one that all others hold there, and the undisturbed run held."""
        found = digest(replica)
        self.checked += 1
        before, first = self._digests.setdefault((epoch, round_), (found, who))
        if found != before:
            raise PromiseBroken(f"one trajectory: at round {round_} of epoch {epoch} {who} differs from {first}")
        if self._expected is None:
            return
        if epoch:
            raise PromiseBroken(f"usable state: {who} is in epoch {epoch}, though nobody had to be given up")
        if round_ >= len(self._expected.digests) or self._expected.digests[round_] != found:
            raise PromiseBroken(f"one trajectory: {who} at round {round_} differs from the undisturbed run")

    def goes_on_from(self, round_: int) -> None:
        """A server whose rounds are merged has come back at this boundary: others may come first this time."""
        self._digests = {place: told for place, told in self._digests.items() if place[1] <= round_}

    def can_be_replayed(self, job: Job, core: ServerCore, arrivals: Sequence[Arrivals]) -> None:
        """Who came when, and nothing else, decides the end of a run whose rounds are merged."""
        given: dict[str, Any] = {"seed": job.recipe.seed, "weights": core.settings.weights, "wire": LoopbackWire()}
        if digest(replayed(job.problem, job.method, by_round(arrivals), **given)) != digest(core.replica):
            raise PromiseBroken(f"one trajectory: the log of {core.round} rounds does not lead where the run has ended")

    def published(self, epoch: int, delivery: Delivery) -> None:
        """A downlink goes to a worker: the only one that this round ever has."""
        if self._expected is None or delivery.jump:
            return
        told = b"".join(delivery.frames)
        if self._downlinks.setdefault((epoch, delivery.start), told) != told:
            raise PromiseBroken(f"nothing acknowledged is lost: round {delivery.start} of epoch {epoch} has two downlinks")

    def adds_up(self, ledger: Ledger) -> None:
        """Every byte that was counted at the calls is of exactly one kind."""
        self._whole("down", ledger.down)  # what comes up is of a kind when its round has ended

    def _whole(self, way: str, traffic: Traffic) -> None:
        kinds = traffic.payload + traffic.framing + traffic.control + traffic.repeated
        if traffic.transport != kinds:
            raise PromiseBroken(f"ledger: {traffic.transport} bytes {way}, {kinds} by kind")

    def ended(self, core: ServerCore, *, uncounted: bool) -> None:
        """The run is over: as the undisturbed one ended, with the same bytes.

        What was sent to a worker that then left is not in the ledger of a server that died after the end and came back
        (`uncounted`): nobody is there to ask.
        """
        ledger, expected = core.ledger, self._expected
        self._whole("up", ledger.up)
        self._whole("down", ledger.down)
        if expected is None:
            return
        if (core.finished, core.round) != (expected.reason, len(expected.digests) - 1):
            raise PromiseBroken(f"one trajectory: it ended at round {core.round} ({core.finished})")
        sent = ledger.down.payload
        if uncounted and sent < expected.down_bytes:
            sent = expected.down_bytes
        counted = (ledger.up.payload, sent, core.down_bytes)
        if counted != (expected.up_bytes, expected.down_bytes, expected.down_bytes):
            raise PromiseBroken(f"bits are bytes: {counted} counted, {expected.up_bytes} and {expected.down_bytes} expected")
