"""From where a worker that joins goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saddlebag.proto.handshake import JoinAnswer, JoinAsk

if TYPE_CHECKING:
    from saddlebag.server.core import ServerCore

__all__ = ["answer", "can_start_fresh", "common_round"]


def common_round(core: ServerCore, ask: JoinAsk) -> int | None:
    """The latest boundary whose state the worker holds and from which the log, or a catch-up, leads to the present."""
    if ask.epoch != core.epoch or ask.worker not in core.members:
        return None
    start, accepts = core.log.start(core.round), core.deliveries.accepts
    held = (round_ for round_ in ask.rounds if start <= round_ <= core.round or accepts(ask.worker, round_))
    return max(held, default=None)


def can_start_fresh(core: ServerCore, worker: int) -> bool:
    """Whether a worker without state can begin at the start of the epoch, without a new one."""
    if worker not in core.members:
        return False
    return core.round == core.epoch_start or (core.epoch == 0 and core.log.start(core.round) == 0)


def answer(core: ServerCore, session: str, resume: int, *, fresh: bool, heal: bool) -> JoinAnswer:
    """What a worker is told when it is admitted."""
    return JoinAnswer(
        epoch=core.epoch,
        round=core.round,
        resume=resume,
        fresh=fresh,
        heal=heal,
        epoch_start=core.epoch_start,
        session=session,
        resolved=core.settings.resolved,
        members=core.members,
        lease_s=core.settings.lease_s,
        checkpoint_every=core.settings.checkpoint_every,
    )
