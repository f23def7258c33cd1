"""From where a worker that joins goes on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError, SaddlebagError
from saddlebag.proto.handshake import JoinAnswer, JoinAsk

if TYPE_CHECKING:
    from saddlebag.server.state import RunState

__all__ = ["RunOver", "answer", "can_start_fresh", "common_round", "require_one_epoch"]


class RunOver(SaddlebagError):
    """The run has ended, and has nothing for this worker."""


def common_round(run: RunState, ask: JoinAsk) -> int | None:
    """The latest boundary whose state the worker holds and from which the log, or a catch-up, leads to the present."""
    if ask.epoch != run.epoch or ask.worker not in run.members:
        return None
    start, accepts = run.log.start(run.round), run.deliveries.accepts
    held = (round_ for round_ in ask.rounds if start <= round_ <= run.round or accepts(ask.worker, round_))
    return max(held, default=None)


def can_start_fresh(run: RunState, worker: int) -> bool:
    """Whether a worker without state can begin at the start of the epoch, without a new one."""
    if worker not in run.members:
        return False
    begins = run.round == run.epoch_start
    return begins or (run.settings.repeatable and run.epoch == 0 and run.log.start(run.round) == 0)


def require_one_epoch(run: RunState, ask: JoinAsk) -> None:
    """Refuse a worker with which a new epoch would begin where shards, which stand at different boundaries, cannot.

    Raises:
        ConfigError: there are shards.
    """
    if run.settings.shards > 1:
        held, kept = ", ".join(map(str, ask.rounds)) or "none", run.log.start(run.round)
        raise ConfigError(
            f"worker {ask.worker} holds no state (rounds: {held}) from which this shard, at round {run.round}, keeps downlinks "
            f"(from {kept} on), and shards begin no new epoch: start it where its checkpoints are, or begin anew"
        )


def answer(run: RunState, session: str, resume: int, *, fresh: bool, heal: bool = False, **more: Any) -> JoinAnswer:
    """What a worker is told when it is admitted; `more` replaces some of it."""
    told = JoinAnswer(
        epoch=run.epoch,
        round=run.round,
        resume=resume,
        fresh=fresh,
        heal=heal,
        epoch_start=run.epoch_start,
        session=session,
        resolved=run.settings.resolved,
        members=run.members,
        lease_s=run.settings.lease_s,
        checkpoint_every=run.settings.checkpoint_every,
    )
    return dataclasses.replace(told, **more)
