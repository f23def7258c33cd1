"""What of a recipe's [server], [checkpoint] and [output] holds inside Flower: the rest is refused by name, never passed over.

A key counts as given when it differs from its default, for a parsed recipe does not tell the two apart.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError
from saddlebag.launch.recipe.sections import CheckpointSection, OutputSection, ServerSection

if TYPE_CHECKING:
    from saddlebag.launch.recipe.recipe import Recipe

__all__ = ["refuse_by_messages", "refuse_in_session"]

_DEFAULT_FOLDER = re.compile(r"runs/[^/]+")  # what a recipe without output.directory has


def refuse_in_session(recipe: Recipe) -> None:
    """Refuse what a session cannot keep to; `[server]` and `[stop]` it does.

    Raises:
        ConfigError: `checkpoint.every` or a key of `[output]` is given.
    """
    _refuse_files(recipe, "a session")


def refuse_by_messages(recipe: Recipe) -> None:
    """Refuse what a run by Flower's messages cannot keep to; `[stop]` and `server.round_deadline_s` it does.

    Raises:
        ConfigError: `checkpoint.every`, a key of `[output]`, or another key of `[server]` is given.
    """
    given, default = recipe.server, ServerSection()
    if given.lease_s != default.lease_s:
        _refuse("server.lease_s", given.lease_s, "by Flower's messages Flower says which clients are alive", default.lease_s)
    if given.on_lost != default.on_lost:
        reason = "by Flower's messages a run waits for its clients; a session can go on without one"
        _refuse("server.on_lost", given.on_lost, reason, default.on_lost)
    if given.address != default.address:
        _refuse("server.address", given.address, "Flower's messages go by its own SuperLink", default.address)
    _refuse_files(recipe, "a run by Flower's messages")


def _refuse_files(recipe: Recipe, what: str) -> None:
    if recipe.checkpoint.every not in (0, CheckpointSection().every):
        _refuse(
            "checkpoint.every", recipe.checkpoint.every, f"{what} keeps no checkpoints", f"0 or {CheckpointSection().every}"
        )
    given, default = recipe.output, OutputSection()
    reason = f"{what} writes no files, its records go to `observe`"
    if given.directory and not _DEFAULT_FOLDER.fullmatch(given.directory):
        _refuse("output.directory", given.directory, reason, "the default")
    for key in ("tensorboard", "pictures"):
        value, usual = getattr(given, key), getattr(default, key)
        if value != usual:
            _refuse(f"output.{key}", value, reason, usual)


def _refuse(key: str, value: Any, reason: str, allowed: Any) -> None:
    raise ConfigError(f"{key} = {value!r} cannot be kept to inside Flower: {reason}; leave it at {allowed}")
