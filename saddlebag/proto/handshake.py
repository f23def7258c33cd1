"""What a worker and the server tell each other before the first round."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from saddlebag.errors import ConfigError

__all__ = [
    "DONE",
    "LEAD",
    "LIFE_BITS",
    "PROTOCOL",
    "SESSION_KEY",
    "JoinAnswer",
    "JoinAsk",
    "first_order",
    "other_version",
    "recipe_difference",
    "require_same_recipe",
]

PROTOCOL = 2
"""Version of the wire protocol; another one is refused at the door. Since 2 every message ends with its checksum."""
SESSION_KEY = "saddlebag-session"
"""Metadata key of the session that a join gave out."""


DONE = "done"
"""Reason of a leave: this worker has had enough, the others go on; when the last one says so, the run is over."""

LEAD = 0
"""The worker that judges a run of several servers, and says to each when it is over."""

LIFE_BITS = 20
"""A join's order is the millisecond in which its worker began, and so many bits that count its joins."""

_LONGEST_VALUE = 200  # characters of a value in a message


@dataclasses.dataclass(frozen=True, kw_only=True)
class JoinAsk:
    """Who a worker is and what state it holds; fields as in the schema's JoinRequest, and who else says who it is.

    Attributes:
        order: of two joins of a rank, the later one has the larger number; 0 for a worker that does not say.
        session: that of its last join, which shows that it is the same process; empty at its first.
        names: those in its certificate.
    """

    worker: int
    recipe: str
    dimension: int
    rounds: tuple[int, ...] = ()
    epoch: int = 0
    token: str = ""
    order: int = 0
    session: str = ""
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class JoinAnswer:
    """Where the run stands and from where the worker continues; fields as in the schema's JoinReply."""

    epoch: int
    round: int
    resume: int
    fresh: bool
    heal: bool
    epoch_start: int
    session: str
    resolved: str
    members: tuple[int, ...]
    lease_s: float
    checkpoint_every: int
    merging: bool = False
    counted: int = 0
    share: int = 0


def first_order(began_s: float) -> int:
    """The order before the first join of a worker that began at this time, by its wall clock."""
    return int(1e3 * began_s) << LIFE_BITS


def other_version(theirs: int) -> ConfigError:
    """What a worker of another version is told."""
    return ConfigError(f"protocol version {theirs} is not the server's {PROTOCOL}; use the same release")


def recipe_difference(theirs: Any, ours: Any, path: str = "") -> str | None:
    """The first field in which two recipes differ, as `path: their value, our value`; None when they agree."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted({*theirs, *ours}):
            found = recipe_difference(theirs.get(key), ours.get(key), f"{path}.{key}" if path else key)
            if found is not None:
                return found
        return None
    return None if theirs == ours else f"{path} is {_short(theirs)} there and {_short(ours)} here"


def _short(value: Any) -> str:
    """JSON that fits into an error of gRPC."""
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."


def require_same_recipe(theirs: str | None, ours: str) -> None:
    """Raise `ConfigError` naming the first field that differs, unless two canonical recipes agree."""
    if theirs == ours:
        return
    try:
        found = recipe_difference(json.loads(theirs or ""), json.loads(ours))
    except (TypeError, ValueError, RecursionError):
        found = "it is no JSON"
    if found is not None:
        raise ConfigError(f"the recipes differ: {found}")
