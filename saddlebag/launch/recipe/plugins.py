"""The registries together with what installed packages add to them through entry points."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.groupwise.registry import LEARNERS, MIXERS
from saddlebag.algorithms.problems import PROBLEMS
from saddlebag.algorithms.registry import METHODS
from saddlebag.compression.registry import COMPRESSORS
from saddlebag.errors import ConfigError
from saddlebag.launch.recipe.fields import unknown
from saddlebag.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["REGISTRIES", "Plugins", "find", "load_plugins"]

REGISTRIES: dict[str, dict[str, Callable[..., Any]]] = {
    "compressors": COMPRESSORS,
    "learners": LEARNERS,
    "methods": METHODS,
    "mixers": MIXERS,
    "problems": PROBLEMS,
}
"""Kind -> name -> factory. The entry point group of a kind is `saddlebag.` and its name."""


@dataclasses.dataclass(frozen=True)
class Plugins:
    """What was added.

    Attributes:
        origins: (kind, name) -> the distribution that brought it, with its version.
        warnings: one line for each plug-in that could not be used.
    """

    origins: dict[tuple[str, str], str]
    warnings: tuple[str, ...]

    def origin(self, kind: str, name: str) -> str:
        """Who brought an entry of a registry."""
        return self.origins.get((kind, name), f"saddlebag {__version__}")


def _plugin(name: str, kind: str) -> str:
    """How warnings of a plug-in begin."""
    return f"plug-in {name!r} (saddlebag.{kind}"


@functools.cache
def load_plugins() -> Plugins:
    """Add the plug-ins of all installed distributions to the registries, once; a broken one becomes a warning."""
    origins: dict[tuple[str, str], str] = {}
    warnings: list[str] = []
    found = importlib.metadata.entry_points()  # asked once: every question reads the files of all distributions
    for kind, registry in REGISTRIES.items():
        for entry in found.select(group=f"saddlebag.{kind}"):
            origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
            what = f"{_plugin(entry.name, kind)}, from {origin})"
            if entry.name in registry:
                warnings.append(f"{what} is ignored: the name is taken by {origins.get((kind, entry.name), 'saddlebag')}")
                continue
            try:
                factory = entry.load()
            except Exception as error:  # whatever a stranger's module does at import
                warnings.append(f"{what} is broken: {type(error).__name__}: {error}")
                continue
            if not callable(factory):
                warnings.append(f"{what} is broken: {entry.value} is not callable")
                continue
            registry[entry.name] = factory
            origins[kind, entry.name] = origin
    return Plugins(origins, tuple(warnings))


def find(kind: str, name: str, path: str) -> Callable[..., Any]:
    """The factory of a name.

    Raises:
        ConfigError: there is none; the message starts with `path`.
    """
    plugins = load_plugins()
    if name not in REGISTRIES[kind]:
        for warning in plugins.warnings:
            if warning.startswith(_plugin(name, kind)):  # it is known, and why it cannot be used
                raise ConfigError(f"{path}: {warning}")
        raise unknown(f"{path} {name!r} is no known {kind.removesuffix('s')}", name, REGISTRIES[kind])
    return REGISTRIES[kind][name]
