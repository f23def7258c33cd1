"""What `saddlebag list` found the last time, kept for as long as nothing has changed that it depends on.

Signatures and docstrings of everything that a recipe may name take the import of everything. The file in the user's cache
folder may be deleted at any time; it is written only where no plug-ins are installed, whose sources nobody here knows.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlebag.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["entries_of", "kept_at"]

Rows = list[dict[str, Any]]


def kept_at() -> Path:
    """Where entries are kept: in $XDG_CACHE_HOME, or else ~/.cache."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(folder) / "saddlebag" / "entries.json"


def entries_of(kinds: Iterable[str]) -> tuple[dict[str, Rows], tuple[str, ...]]:
    """The rows of each kind, and a warning for each plug-in that cannot be used."""
    path, state = kept_at(), _state()
    known = _read(path, state)
    if known.keys() >= set(kinds):
        return {kind: known[kind] for kind in kinds}, ()
    from saddlebag.launch.advice.listing import entries
    from saddlebag.launch.recipe.plugins import load_plugins

    found, plugins = {kind: entries(kind) for kind in kinds}, load_plugins()
    if not plugins.origins and not plugins.warnings:
        with contextlib.suppress(OSError):  # a read-only home, a full disk: it takes its time again
            _write(path, {"state": state, "entries": {**known, **found}})
    return found, plugins.warnings


def _read(path: Path, state: str) -> dict[str, Rows]:
    """What is kept of this state; nothing where there is none, or something else stands there."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        values = json.loads(path.read_bytes())
        if values["state"] == state and isinstance(values["entries"], dict):
            return dict(values["entries"])
    return {}


def _write(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(values))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _state() -> str:
    """A digest of this release, of the times of its files, and of the folders into which packages are installed."""
    parts = [__version__, sys.version, *_stamps(Path(__file__).parents[2])]
    for place in sys.path:
        if place.endswith("-packages"):
            with contextlib.suppress(OSError):
                parts.append(f"{place} {os.stat(place).st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _stamps(folder: Path) -> Iterator[str]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _stamps(Path(entry.path))
        elif entry.name.endswith(".py"):
            facts = entry.stat()
            yield f"{entry.path} {facts.st_mtime_ns} {facts.st_size}"
