"""The state of a server core as a checkpoint, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms import pack, unpack
from saddlebag.proto.checkpoint import count, restoring
from saddlebag.proto.handshake import require_same_recipe
from saddlebag.server.effects import Arrays, Save
from saddlebag.server.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.server.core import ServerCore

__all__ = ["capture", "restore"]


def capture(core: ServerCore) -> Save:
    """The state at the present boundary; states are immutable, so nothing is copied but the log."""
    core.log.mark(core.round)
    arrays: Arrays = pack(core.replica, "replica.") | pack(core.own, "server.")
    arrays["log"], log = core.log.capture()
    meta = {
        "recipe": core.settings.recipe,
        "epoch": core.epoch,
        "epoch_start": core.epoch_start,
        "round": core.round,
        "members": core.members,
        "finished": core.finished,
        "log": log,
        "arrears": core.deliveries.arrears.as_dict(),
        "down_bytes": core.down_bytes,
        "ledger": core.ledger.as_dict(),
    }
    return Save(core.round, arrays, json.loads(json.dumps(meta)))


def restore(core: ServerCore, arrays: Arrays, meta: Mapping[str, Any], now: float) -> None:
    """Continue from a checkpoint.

    Raises:
        ConfigError: it is of another recipe; the message names the field that differs.
        StateError: it does not fit this run, or is damaged.
    """
    require_same_recipe(meta.get("recipe"), core.settings.recipe)
    d = len(core.replica.z_D)
    core.replica = unpack(core.method.replica_type, arrays, d, "replica.")
    core.own = unpack(core.method.server_type, arrays, d, "server.")
    with restoring(f"the server's checkpoint of round {meta.get('round')}"):
        core.epoch, core.epoch_start, core.round = (count(meta, name) for name in ("epoch", "epoch_start", "round"))
        core.members = _members(meta["members"], core.settings.num_workers)
        core.finished = None if meta["finished"] is None else str(meta["finished"])
        core.ledger = Ledger.from_dict(meta["ledger"])
        core.log.restore(arrays["log"].tobytes(), meta["log"])
        core.deliveries.arrears.restore(meta["arrears"])
        core.down_bytes = count(meta, "down_bytes")
        core.open_round(now)


def _members(ranks: list[int], num_workers: int) -> tuple[int, ...]:
    """The members of an epoch; ValueError when they are none."""
    if not ranks or ranks != sorted({*ranks} & {*range(num_workers)}):
        raise ValueError(f"members must be some of the {num_workers} workers, got {ranks!r}")
    return tuple(ranks)
