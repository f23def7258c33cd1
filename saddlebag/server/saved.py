"""The state of a run on the server as a checkpoint, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms import pack, unpack
from saddlebag.algorithms.wrapped import is_narrow
from saddlebag.proto.checkpoint import STATES, count, require_version, restoring, seconds
from saddlebag.proto.handshake import require_same_recipe
from saddlebag.server.effects import Arrays, Save
from saddlebag.server.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.server.state import RunState

__all__ = ["capture", "restore"]


def capture(run: RunState) -> Save:
    """The state at the present boundary; nothing is copied but the log, so what narrow steps would change is saved at once."""
    run.log.mark(run.round)
    arrays: Arrays = pack(run.replica, "replica.") | pack(run.own, "server.")
    arrays["log"], log = run.log.capture()
    meta = {
        "version": STATES,
        "recipe": run.settings.recipe,
        "epoch": run.epoch,
        "epoch_start": run.epoch_start,
        "round": run.round,
        "members": run.members,
        "finished": run.finished,
        "log": log,
        "arrears": run.deliveries.arrears.as_dict(),
        "down_bytes": run.down_bytes,
        "spent_s": run.spent_s,
        "ledger": run.ledger.as_dict(),
        **run.facts(),
    }
    return Save(run.round, arrays, json.loads(json.dumps(meta)), at_once=is_narrow(run.method) or run.settings.shards > 1)


def restore(run: RunState, arrays: Arrays, meta: Mapping[str, Any]) -> None:
    """Continue from a checkpoint.

    Raises:
        ConfigError: it is of another recipe; the message names the field that differs.
        StateError: it does not fit this run, or is damaged.
    """
    require_version(meta)
    require_same_recipe(meta.get("recipe"), run.settings.recipe)
    run.replica = unpack(run.replica, arrays, "replica.")
    run.own = unpack(run.method.init_server(run.replica), arrays, "server.")
    with restoring(f"the server's checkpoint of round {meta.get('round')}"):
        run.epoch, run.epoch_start, run.round = (count(meta, name) for name in ("epoch", "epoch_start", "round"))
        run.members = _members(meta["members"], run.settings.num_workers)
        run.finished = None if meta["finished"] is None else str(meta["finished"])
        run.ledger = Ledger.from_dict(meta["ledger"])
        run.log.restore(arrays["log"].reshape(-1).view(np.uint8).data, meta["log"])
        run.deliveries.arrears.restore(meta["arrears"])
        run.down_bytes = count(meta, "down_bytes")
        run.spent_s = seconds(meta, "spent_s")
        run.take_facts(meta)


def _members(ranks: list[int], num_workers: int) -> tuple[int, ...]:
    """The members of an epoch; ValueError when they are none."""
    if not ranks or ranks != sorted({*ranks} & {*range(num_workers)}):
        raise ValueError(f"members must be some of the {num_workers} workers, got {ranks!r}")
    return tuple(ranks)
