"""Where a run stands on the server: what a checkpoint holds and a worker that joins asks about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms import AnyMethod, restarted
from saddlebag.algorithms.state import hollow
from saddlebag.algorithms.wrapped import is_narrow
from saddlebag.errors import ConfigError
from saddlebag.server.delivery import Deliveries
from saddlebag.server.ledger import Ledger
from saddlebag.server.log import DownlinkLog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.compression import Vector
    from saddlebag.server.effects import ServerSettings

__all__ = ["RunState"]


class RunState:
    """The state of a run between two rounds; the uplinks of the round under way are no part of it.

    Attributes:
        method, settings: of the run; they do not change.
        epoch, epoch_start: the stretch of rounds with one membership, and its first round.
        round: the boundary, and the number of the round that begins there.
        members: the workers of this epoch.
        replica, own: the method's state on every machine, and its half on the server.
        finished: why the run is over; None while it is not.
        cut_short: whether it is over without a final downlink.
        log, deliveries: the downlinks that are kept, and what is due to whom.
        ledger: what has crossed the wire.
        down_bytes: messages of the trajectory, for each member.
        contribution_W: how much each worker has helped, where `settings.contributions` asks for it.
        spent_s: seconds since the first frame, those before a resumption included, up to the last round.
    """

    def __init__(self, method: AnyMethod, start_D: Vector, settings: ServerSettings) -> None:
        self.method, self.settings = method, settings
        self.epoch = self.epoch_start = self.round = 0
        self.members = tuple(range(settings.num_workers))
        self.replica = method.init_replica(start_D)
        self.own = method.init_server(self.replica)
        self.finished: str | None = None
        self.cut_short = False
        self.log = DownlinkLog(settings.num_workers, settings.log_bytes)
        self.deliveries = Deliveries(method, self.log, settings.num_workers, settings.checkpoint_every)
        self.ledger = Ledger()
        self.down_bytes = 0
        self.spent_s = 0.0
        self.contribution_W = np.zeros(settings.num_workers)

    @property
    def changes_states(self) -> bool:
        """Whether the method's steps change the states that they are given."""
        return is_narrow(self.method)

    def begin_epoch(self, members: tuple[int, ...]) -> None:
        """Start again from the present z with these members and new memories."""
        self.epoch += 1
        self.ledger.epochs += 1
        self.epoch_start = self.round
        self.members = members
        self.replica = restarted(self.method, self.replica)
        self.own = self.method.init_server(self.replica)
        self.log.clear(self.round)
        self.deliveries.arrears.reset(self.round)

    def forget(self) -> None:
        """Give the states' memory back, for `restore` is to follow."""
        self.replica, self.own = hollow(self.replica), hollow(self.own)

    def facts(self) -> dict[str, Any]:
        """What else a checkpoint keeps, by the names of its metadata."""
        facts: dict[str, Any] = {"contributions": self.contribution_W.tolist()} if self.settings.contributions else {}
        return facts | ({"cut_short": self.cut_short} if self.settings.shards > 1 else {})

    def take_facts(self, meta: Mapping[str, Any]) -> None:
        """Continue with `facts` of a checkpoint; KeyError, TypeError or ValueError when they are none."""
        if self.settings.shards > 1:
            self.cut_short = bool(meta["cut_short"])
        if self.settings.contributions:
            if "contributions" not in meta:
                raise ConfigError(
                    "server.contributions was false when the run began, and what came before is not known: leave it so"
                )
            said_W = np.array(meta["contributions"], np.float64)
            if said_W.shape != self.contribution_W.shape or not np.isfinite(said_W).all():
                raise ValueError(f"contributions must be a number for each worker, got {meta['contributions']!r}")
            self.contribution_W = said_W

    def reach(self, workers: tuple[int, ...]) -> int:
        """These workers are to come to the present boundary; returns the bytes that it costs."""
        final = self.finished is not None
        return self.deliveries.reach(self.replica, workers, self.round, epoch=self.epoch, final=final)

    def is_final(self, round_: int) -> bool:
        """Whether this round's downlink ends the run."""
        return self.finished is not None and not self.cut_short and round_ == self.round - 1
