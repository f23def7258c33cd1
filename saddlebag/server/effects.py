"""What the server core is told beforehand, and what it asks of its shell."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

import numpy.typing as npt

from saddlebag.algorithms.averages.robust import require_scores
from saddlebag.algorithms.merging import Weights
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms import Record
    from saddlebag.algorithms.averages.robust import RobustMean
    from saddlebag.algorithms.merging import Arrivals

__all__ = [
    "Arrays",
    "Broadcast",
    "Close",
    "Counts",
    "Effect",
    "Finished",
    "Later",
    "NewEpoch",
    "Note",
    "Observe",
    "RoundReady",
    "Save",
    "ServerSettings",
    "Wake",
    "closes_without_some",
]

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


class _Closing(Protocol):
    """What says how a round closes, in settings as in the section of a recipe."""

    @property
    def quorum(self) -> int: ...
    @property
    def weights(self) -> str: ...
    @property
    def balance(self) -> bool: ...
    @property
    def secure(self) -> int: ...


def closes_without_some(said: _Closing) -> bool:
    """Whether rounds may close without some workers, or weigh them."""
    return bool(said.quorum) or said.weights != "equal" or said.balance or bool(said.secure)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What the server decides by.

    Attributes:
        num_workers: ranks 0 to num_workers - 1 take part.
        seed: run seed.
        recipe, resolved: canonical JSON; every worker must hold the same recipe, and takes the resolved numbers.
        token: secret of the run, from which each rank's token follows; or empty.
        lease_s: a worker that is silent for longer is lost; one whose stream broke, after a second.
        round_deadline_s: a worker that is later with an uplink is lost, even if it is alive.
        progress_s: a stream on which something was sent and nothing comes for so long is ended, and its worker joins again.
        on_lost: "pause" waits for a lost worker, "drop" goes on without it.
        checkpoint_every: rounds between checkpoints of all processes; 0 for none.
        log_bytes: memory for downlinks kept for workers that come back.
        mean: the rule that takes the place of the mean of uplinks; None for the mean.
        contributions: whether it keeps how much each worker has helped, see `saddlebag.algorithms.averages.contribution`.
        shards: how many servers carry the run, each a slice of the coordinates: it has one epoch, and ends where a worker ends.
        repeatable: whether a worker without state can compute the rounds since the start again; somebody's program cannot.
        quorum: workers that a round needs; 0 for all. Who comes later counts later, see `saddlebag.algorithms.merging`.
        grace_s: how long a round waits for the others once its quorum is there.
        weights: what a worker's word weighs.
        balance: whether slower workers are told to make fewer steps.
        secure: t of secure aggregation, how many workers it takes to unmask a sum; 0 for uplinks that the server sees.
        noise: sigma of the noise that each worker adds to its levels before it masks them; without `secure`, of that which the
            server adds to the sum of the levels; 0 for none.
    """

    num_workers: int
    seed: int
    recipe: str = "{}"
    resolved: str = "{}"
    token: str = ""
    lease_s: float = 10.0
    round_deadline_s: float = 3600.0
    progress_s: float = 10.0
    on_lost: Literal["pause", "drop"] = "pause"
    checkpoint_every: int = 0
    log_bytes: int = 64 << 20
    repeatable: bool = True
    quorum: int = 0
    grace_s: float = 0.0
    weights: Weights = "equal"
    balance: bool = False
    mean: RobustMean | None = None
    contributions: bool = False
    secure: int = 0
    noise: float = 0.0
    shards: int = 1

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.num_workers}")
        if not 0 < self.lease_s <= self.round_deadline_s:
            raise ConfigError(f"needs 0 < lease_s <= round_deadline_s, got {self.lease_s} and {self.round_deadline_s}")
        if not self.progress_s > 0:
            raise ConfigError(f"progress_s must be positive, got {self.progress_s}")
        if self.on_lost not in ("pause", "drop"):
            raise ConfigError(f"on_lost must be 'pause' or 'drop', got {self.on_lost!r}")
        if not 0 <= self.quorum <= self.num_workers:
            raise ConfigError(f"quorum must lie in [0, {self.num_workers}], the number of workers, got {self.quorum}")
        if not 0 <= self.grace_s < math.inf:
            raise ConfigError(f"grace_s must be 0 or more, got {self.grace_s}")
        check_choice("weights", self.weights, get_args(Weights))
        if self.checkpoint_every < 0:
            raise ConfigError(f"checkpoint.every must be 0 or more, got {self.checkpoint_every}")
        if self.secure:
            self._check_secure()
        if self.noise and not self.secure and (self.merging or self.contributions or self.mean is not None or self.shards > 1):
            raise ConfigError(
                "server.noise is for the plain mean of all workers, of which each counts once: "
                "leave quorum, weights, balance, mean, contributions and shards out"
            )
        if self.shards < 1:
            raise ConfigError(f"server.shards must be at least 1, got {self.shards}")
        if self.shards > 1:
            self._require_alike()
        require_scores(self.mean, self.contributions)
        if self.contributions and self.merging:
            raise ConfigError("server.contributions are of rounds that wait for all; leave quorum, weights and balance out")
        if self.mean is not None and self.merging:
            raise ConfigError(
                f"server.mean = {self.mean} takes all workers of a round alike; "
                "leave quorum = 0, weights = 'equal' and balance = false"
            )

    def _check_secure(self) -> None:
        if self.num_workers < 3:
            raise ConfigError(
                f"server.secure needs at least 3 workers, for each of 2 knows the other's, got {self.num_workers}"
            )
        if not 2 <= self.secure <= self.num_workers:
            raise ConfigError(
                f"server.secure must be true, false or a number of workers from 2 to {self.num_workers}, got {self.secure}"
            )
        blind = "the server sees no single uplink"
        for name, usual in (("quorum", 0), ("weights", "equal"), ("balance", False), ("mean", None), ("contributions", False)):
            if (given := getattr(self, name)) != usual:
                raise ConfigError(f"server.{name} = {given} cannot be kept with server.secure: {blind}; leave it out")

    def _require_alike(self) -> None:
        """Refuse what shards would decide each by itself."""
        if self.secure:
            raise ConfigError(f"server.secure masks whole uplinks, server.shards = {self.shards} knows slices of them")
        if self.on_lost != "pause":
            raise ConfigError(f"server.shards = {self.shards} needs server.on_lost = 'pause', got {self.on_lost!r}")
        if self.merging:
            raise ConfigError(
                f"server.shards = {self.shards}: each would close rounds on its own; "
                "leave quorum = 0, weights = 'equal' and balance = false"
            )
        if self.contributions:
            raise ConfigError(f"server.contributions are of whole uplinks, server.shards = {self.shards} knows slices of them")
        if self.mean is not None and not self.mean.by_coordinate:
            raise ConfigError(
                f"server.mean = {self.mean} looks at whole uplinks, server.shards = {self.shards} at slices of them"
            )

    @property
    def merging(self) -> bool:
        """Whether rounds say whom they count, for they need not wait for all."""
        return closes_without_some(self)


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
    at_once: bool = False  # before the next round ends, whose steps change these arrays in place

    @property
    def begins_epoch(self) -> bool:
        """Whether nobody may join before it is on disk: a server that died would begin another epoch of the same number."""
        return bool(self.round == self.meta["epoch_start"])


@dataclasses.dataclass(frozen=True)
class Observe:
    """A line for the run's history."""

    record: Record


@dataclasses.dataclass(frozen=True)
class Counts:
    """A line for the log of arrivals."""

    arrivals: Arrivals


@dataclasses.dataclass(frozen=True)
class Later:
    """Call `finish_round` after so many seconds, unless the round has ended by then."""

    seconds: float


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
    """The run is over; unless a final downlink says so, open streams are to be told."""

    reason: str
    announced: bool


@dataclasses.dataclass(frozen=True)
class Wake:
    """Whoever waits for an answer is to look again."""


@dataclasses.dataclass(frozen=True)
class Note:
    """Something a person should know."""

    text: str


Effect: TypeAlias = RoundReady | Broadcast | Save | Observe | Counts | Later | NewEpoch | Close | Finished | Wake | Note
