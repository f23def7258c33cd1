"""Which settings of a recipe each driver keeps: all others it refuses by name, with the reason.

A key counts as given when it differs from its default, for a parsed recipe does not tell the two apart.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError
from saddlebag.launch.recipe.sections import CheckpointSection, OutputSection
from saddlebag.launch.recipe.server_section import ServerSection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.launch.recipe.recipe import Recipe

__all__ = ["DRIVERS", "SECTIONS", "require_kept"]

SECTIONS: Mapping[str, Any] = {"server": ServerSection(), "checkpoint": CheckpointSection(), "output": OutputSection()}
"""The tables that are about the driver, with their defaults; [stop] every driver keeps."""

_NO_FILES = "it writes no files, its records go to `observe`"
_NO_CHECKPOINTS = "it keeps no checkpoints, Flower keeps the clients' state"
_MERGING = {
    "server.quorum": "only a server of processes of its own (driver 'grpc', `saddlebag host`) closes rounds at a quorum",
    "server.grace_s": "only a server of processes of its own closes rounds at a quorum",
    "server.weights": "only a server of processes of its own weighs its workers",
    "server.balance": "its workers make the steps of the recipe, all of them the same",
}
_SECURE = {
    "server.secure": "only driver 'grpc' and sessions inside Flower mask uplinks; in the clear the bits are the same",
    "server.noise": "only driver 'grpc' adds noise, and says what it promises",
    "server.delta": "it is for server.noise",
    "server.signers": "it is for server.secure",
}
_NOISE = {
    "server.noise": "a session shows no epsilon; driver 'grpc' does",
    "server.delta": "it is for server.noise",
    "server.signers": "Flower's clients have no signing keys; driver 'grpc' has",
}
_SHARDS = {"server.shards": "only the driver 'grpc' has servers of its own"}
_UNSEEN = "only the drivers 'simulate' and 'grpc' keep them"
_DEFAULT_FOLDER = re.compile(r"runs/[^/]+")  # what a recipe without output.directory has

DRIVERS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "simulate": (
        "driver 'simulate'",
        {**_MERGING, **_SECURE, **_SHARDS},
    ),  # nobody can be lost in one process, so every other policy holds
    "grpc": ("driver 'grpc'", {}),
    "collective": (
        "driver 'collective'",
        {
            **_MERGING,
            **_SECURE,
            **_SHARDS,
            "server.contributions": _UNSEEN,
            "server.lease_s": "its ranks have no leases, torchrun notices who is gone",
            "server.round_deadline_s": "its ranks are waited for as long as --timeout says",
            "server.progress_s": "its ranks are waited for as long as --timeout says",
            "server.on_lost": "it cannot go on without a rank, torchrun starts all of them again",
            "server.address": "its ranks meet where torchrun says",
        },
    ),
    "messages": (
        "a run by Flower's messages",
        {
            **_MERGING,
            **_SECURE,
            **_SHARDS,
            "server.contributions": _UNSEEN,
            "server.lease_s": "Flower says which clients are alive",
            "server.progress_s": "Flower carries messages whole",
            "server.on_lost": "it waits for its clients; a session can go on without one",
            "server.address": "messages go by Flower's own SuperLink",
            "checkpoint.every": _NO_CHECKPOINTS,
            "output.directory": _NO_FILES,
            "output.tensorboard": _NO_FILES,
            "output.pictures": _NO_FILES,
            "output.trackers": _NO_FILES,
        },
    ),
    "session": (
        "a session inside Flower",
        {
            **_MERGING,
            **_NOISE,
            **_SHARDS,
            "server.contributions": _UNSEEN,
            "checkpoint.every": _NO_CHECKPOINTS,
            "output.directory": _NO_FILES,
            "output.tensorboard": _NO_FILES,
            "output.pictures": _NO_FILES,
            "output.trackers": _NO_FILES,
        },
    ),
}
"""Driver -> its name in a message, and the keys that it cannot keep, with the reason."""


def require_kept(recipe: Recipe, driver: str) -> None:
    """Refuse what a driver cannot keep.

    Args:
        recipe: what is to run.
        driver: a key of `DRIVERS`.

    Raises:
        ConfigError: a key that the driver cannot keep is given; the message names it, its value and its default.
    """
    what, refused = DRIVERS[driver]
    for key, reason in refused.items():
        table, _, field = key.partition(".")
        value, default = (getattr(section, field) for section in (getattr(recipe, table), SECTIONS[table]))
        off = key == "checkpoint.every" and value == 0
        usual = key == "output.directory" and _DEFAULT_FOLDER.fullmatch(value)
        if value != default and not off and not usual:
            raise ConfigError(f"{key} = {value!r} cannot be kept by {what}: {reason}; leave it at {default!r}")
