"""The table of a recipe about its server."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

from saddlebag.errors import ConfigError, check_choice
from saddlebag.launch.recipe.fields import at
from saddlebag.proto.address import parse_address
from saddlebag.proto.secure.identity import read_signers

if TYPE_CHECKING:
    from saddlebag.algorithms.averages.robust import RobustMean

__all__ = ["ServerSection"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerSection:
    """How the server deals with workers; see `ServerSettings`.

    Attributes:
        lease_s: seconds without a word after which a worker counts as lost.
        round_deadline_s: seconds after which a worker that is late with its uplink counts as lost, even if it is alive.
        progress_s: seconds in which a message that was begun must go on; else its stream ends, and its worker sends it again.
        on_lost: "pause" waits for a lost worker, "drop" goes on without it and takes it back when it returns.
        mean: what a round makes of its uplinks: "mean", or a rule that some bad workers cannot move at will, such as
            "geometric_median" or { name = "trimmed_mean", fraction = 0.3 }; see docs/robust.md.
        contributions: whether result.json is to say how much each worker's uplinks have helped, see docs/robust.md.
        address: HOST:PORT where the server listens; port 0 takes a free one.
        quorum: workers whose uplinks close a round; 0 for all. Who comes later counts in a later round, for less.
        grace_s: seconds that a round waits for the others once its quorum is there.
        weights: "equal", or "samples" for means by the samples behind each uplink.
        balance: whether slower linked programs are told to make fewer steps, so that all end together.
        secure: whether the server is to see nothing but sums of the workers' uplinks, see docs/secure.md; or the number of
            workers that it takes to unmask such a sum, by default more than half of them.
        signers: public keys by rank, as `saddlebag signer` prints them: with `secure`, workers sign their keys for each other.
        noise: for differential privacy: sigma of the noise in a sum over method.level_clip; 0 for none. Workers add it with
            `secure`, else the server, which sees the uplinks.
        delta: for which epsilon is shown.
        shards: server processes, each of which carries a slice of the coordinates; see docs/shards.md.
    """

    lease_s: float = 10.0
    round_deadline_s: float = 3600.0
    progress_s: float = 10.0
    on_lost: Literal["pause", "drop"] = "pause"
    mean: str | dict[str, Any] = "mean"
    contributions: bool = False
    address: str = "127.0.0.1:0"
    quorum: int = 0
    grace_s: float = 0.0
    weights: Literal["equal", "samples"] = "equal"
    balance: bool = False
    secure: bool | int = False
    signers: list[str] | tuple[str, ...] = ()
    noise: float = 0.0
    delta: float = 1e-5
    shards: int = 1

    def __post_init__(self) -> None:
        if self.noise < 0:
            raise ConfigError(f"server.noise must be 0 or more, got {self.noise}")
        if not isinstance(self.signers, list | tuple):
            raise ConfigError(f"server.signers must be a list of public keys, got {self.signers!r}")
        object.__setattr__(self, "signers", tuple(self.signers))
        with at("server.signers"):
            read_signers(self.signers)
        if not 0 < self.delta < 1:
            raise ConfigError(f"server.delta must lie in (0, 1), got {self.delta}")
        if self.quorum < 0:
            raise ConfigError(f"server.quorum must be 0 or more, got {self.quorum}")
        if self.shards < 1:
            raise ConfigError(f"server.shards must be at least 1, got {self.shards}")
        if not 0 <= self.grace_s < math.inf:
            raise ConfigError(f"server.grace_s must be 0 or more, got {self.grace_s}")
        check_choice("server.weights", self.weights, ("equal", "samples"))
        if not self.lease_s > 0:
            raise ConfigError(f"server.lease_s must be positive, got {self.lease_s}")
        if self.round_deadline_s < self.lease_s:
            raise ConfigError(f"server.round_deadline_s must be at least lease_s = {self.lease_s}, got {self.round_deadline_s}")
        if not self.progress_s > 0:
            raise ConfigError(f"server.progress_s must be positive, got {self.progress_s}")
        if self.on_lost not in ("pause", "drop"):
            raise ConfigError(f"server.on_lost must be 'pause' or 'drop', got {self.on_lost!r}")
        with at("server.mean"):
            rule = self.rule
        if rule is not None:
            from saddlebag.algorithms.averages.robust import require_scores

            require_scores(rule, self.contributions)
        parse_address(self.address, "server.address", listening=True)

    def unmasking(self, workers: int) -> int:
        """How many of the workers it takes to unmask a sum; 0 where nothing is masked."""
        if isinstance(self.secure, bool):
            return workers // 2 + 1 if self.secure else 0
        return self.secure

    @property
    def rule(self) -> RobustMean | None:
        """What takes the place of the mean; None for the mean."""
        if self.mean == ServerSection.mean:
            return None
        from saddlebag.algorithms.averages.means import make_mean  # here, for it imports all of the mathematics

        return make_mean(self.mean)
