"""The recipes that come with an installation, by name, and where any recipe is found."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError
from saddlebag.launch.recipe import toml
from saddlebag.launch.recipe.fields import unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FOLDER", "Shipped", "located", "open_recipe", "shipped"]

FOLDER = Path(__file__).parents[2] / "recipes"
"""Where the recipes lie in the installed package."""

_COMMANDS = {"run": "saddlebag run", "compare": "saddlebag compare", "groupwise": "saddlebag groupwise run"}
_GROUPWISE = {"groups", "features", "label", "learner", "mixer", "mixing", "intervals", "calibration", "shuffles", "comparator"}
_NOTE = re.compile(r"^# (needs|takes|gives): (.*)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Shipped:
    """What is said of a recipe.

    Attributes:
        name: its file without `.toml`.
        title: for people.
        command: that takes it.
        needs, takes, gives: data and extras, the time, and figures, as its head says; empty where it says nothing.
    """

    name: str
    title: str
    command: str
    needs: str
    takes: str
    gives: str


def shipped() -> list[Shipped]:
    """All recipes of the installation, by name."""
    found = []
    for path in sorted(FOLDER.glob("*.toml")):
        table, notes = toml.read(path), dict(_NOTE.findall(path.read_text(encoding="utf-8")))
        said = (notes.get(key, "") for key in ("needs", "takes", "gives"))
        found.append(Shipped(path.stem, table.get("title", ""), _COMMANDS[_kind_of(table)], *said))
    return found


def located(recipe: str | Path) -> Path:
    """The file of a recipe: a path, or the name of one that comes with the installation; a file goes before a name.

    Raises:
        ConfigError: a bare word is neither; the message lists the names.

    Example:
        >>> located("robust_logistic").name
        'robust_logistic.toml'
    """
    path = Path(recipe)
    if path.is_file() or path.suffix or len(path.parts) > 1:
        return path
    names = {file.stem: file for file in FOLDER.glob("*.toml")}
    if path.name not in names:
        raise unknown(f"{path.name!r} is neither a file nor the name of a recipe", path.name, names)
    return names[path.name]


def open_recipe(recipe: str | Path, sets: Sequence[str], command: str) -> tuple[Path, dict[str, Any]]:
    """The file of a recipe, and its table with overrides.

    Args:
        recipe: a path or a name, see `located`.
        sets: overrides, `key.path=value`.
        command: "run", "compare" or "groupwise", which takes the recipe.

    Raises:
        ConfigError: there is no such recipe, it is no TOML, or it belongs to another command, which the message names.
    """
    path = located(recipe)
    table = toml.read(path)
    kind = _kind_of(table)
    if (kind == "groupwise") != (command == "groupwise") and table:
        what = "a groupwise recipe" if kind == "groupwise" else "no groupwise recipe: it has a [problem] or a [method]"
        raise ConfigError(f"{recipe} is {what}; run it by '{_COMMANDS[kind]} {recipe}'")
    for assignment in sets:
        toml.override(table, assignment)
    return path, table


def _kind_of(table: dict[str, Any]) -> str:
    """Which command takes a table."""
    if not {"problem", "method"} & table.keys() and _GROUPWISE & table.keys():
        return "groupwise"
    return "compare" if "compare" in table else "run"
