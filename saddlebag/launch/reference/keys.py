"""Every key of every recipe: type, default, meaning and an example, from signatures, docstrings and the shipped recipes."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import re
import sys
from typing import TYPE_CHECKING, Any, Literal

from saddlebag.algorithms.simulate import Stop
from saddlebag.errors import ConfigError
from saddlebag.launch.compare.spec import CompareSection
from saddlebag.launch.groupwise.recipe import TABLES, GroupwiseRecipe
from saddlebag.launch.recipe import toml
from saddlebag.launch.recipe.fields import noun
from saddlebag.launch.recipe.plugins import REGISTRIES, load_plugins
from saddlebag.launch.recipe.recipe import Recipe
from saddlebag.launch.recipe.sections import (
    CheckpointSection,
    CompressorSection,
    DataSection,
    MethodSection,
    OutputSection,
)
from saddlebag.launch.recipe.server_section import ServerSection
from saddlebag.launch.recipe.shipped import FOLDER
from saddlebag.parameters import owners_of, parameters_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["MISSING", "Key", "Kind", "explained", "keys"]

Kind = Literal["run", "groupwise"]
"""What is read by `saddlebag run`, `compare`, `server` and so on, or by `saddlebag groupwise`."""

MISSING = inspect.Parameter.empty
"""The default of a key that must be given."""

_ELSEWHERE = ("data", "num_workers", "split", "problem", "up", "down", "dimension", "step_size", "probability")
_SECTIONS: dict[str, type[Any]] = {
    "data": DataSection,
    "stop": Stop,
    "checkpoint": CheckpointSection,
    "server": ServerSection,
    "output": OutputSection,
    "compare": CompareSection,
}
_PARTS: dict[Kind, dict[str, str]] = {
    "run": {"problem": "problems", "method": "methods", "method.up": "compressors"},
    "groupwise": {"learner": "learners", "mixer": "mixers"},
}
_ENTRY = re.compile(r" {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*): (.*)")
_DEFAULTS = {"learner": "ridge", "mixer": "ada_normal_hedge", "method.up": "identity"}
_SHARED = {  # what several factories take and their docstrings leave to the words of the field
    "seed": "Of what the problem draws; the run's own is the recipe's `seed`.",
    "wire": "Type of the numbers that uncompressed vectors travel in.",
    "regularisation": "Strength of the quadratic term that makes the problem strongly monotone.",
    "heterogeneity": "How far the workers' parts lie from their mean.",
    "batch": "Samples of a step, of a problem that is a finite sum; all without it.",
    "block": "Coordinates that share a scale.",
    "k": "Coordinates kept; or give `fraction`.",
    "fraction": "Part of the coordinates kept; or give `k`.",
    "n": "Size of the problem.",
    "weight_decay": "Decoupled from the gradient (Loshchilov and Hutter 2019), times the step size.",
    "beta1": "Weight of the past in the moving mean of gradients.",
    "beta2": "Weight of the past in the moving mean of squared gradients.",
    "eps": "Added to the root of the second mean.",
    "momentum": "Weight of the past in the moving direction; 0 for plain steps.",
    "nesterov": "Whether momentum looks one step ahead.",
    "rounds": "About how many rounds the run will have; defaults of other keys follow from it.",
    "local_steps": "Steps that a worker takes on its own between two exchanges.",
    "local_step_size": "Of these steps.",
    "local_rule": "What these steps are: plain gradients, AdamW or Muon.",
    "clip_norm": "The largest norm of a gradient.",
    "local_momentum": "Weight of the past in the direction of these steps.",
    "dtype": "Type of the numbers on the wire.",
    "decay": "Weight of the past in the workers' memories.",
    "precision": "Type of a method's states: float64, or float32 for networks, at half of the memory.",
}


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of a recipe.

    Attributes:
        kind: of the recipe.
        table: where it stands, "" for the top; "method.up" is also "method.down", and of every baseline.
        of: the plug-in that takes it, "" for all.
        name: of the key.
        hint: its type.
        default: `MISSING` if it must be given.
        meaning: one sentence or two.
        example: as TOML, from a recipe that comes with the installation, or else the default; may be empty.
    """

    kind: Kind
    table: str
    of: str
    name: str
    hint: Any
    default: Any
    meaning: str
    example: str

    @property
    def path(self) -> str:
        """The full path, as `--set` takes it."""
        return f"{self.table}.{self.name}" if self.table else self.name

    @property
    def noun(self) -> str:
        """Its type in words."""
        return noun(self.hint)

    @property
    def usual(self) -> str:
        """Its default in words."""
        if self.default is MISSING:
            return "must be given"
        return "none" if self.default is None or self.default in ("", [], {}, ()) else _written(self.default)


@functools.cache
def keys(kind: Kind, *, own: bool = False) -> tuple[Key, ...]:
    """All keys, in the order of a recipe; `own` leaves out what other packages' plug-ins bring."""
    found = _run_keys() if kind == "run" else _groupwise_keys()
    origins = load_plugins().origins
    foreign = {(table, name) for table, registry in _PARTS[kind].items() for reg, name in origins if reg == registry}
    return tuple(key for key in found if not (own and (key.table, key.of) in foreign))


def explained(path: str) -> list[Key]:
    """The keys that a path, or the name of a plug-in, may mean.

    Raises:
        ConfigError: there are none; with the nearest.

    Example:
        >>> [key.usual for key in explained("checkpoint.every")]
        ['200']
    """
    everything = [*keys("run"), *keys("groupwise")]
    wanted = re.sub(r"^baseline(\.\d+)?(?=\.|$)", "method", path.strip())
    wanted = re.sub(r"^method\.(?:up|down)(?:\..*)?(?=\.\w+$)", "method.up", wanted)
    wanted = "method.up" if wanted == "method.down" else wanted
    ways: tuple[Callable[[Key], bool], ...] = (
        lambda key: key.path == wanted,
        lambda key: key.table == wanted or key.of == wanted or f"{key.table}.{key.of}" == wanted,
        lambda key: key.name == wanted,
    )
    for fits in ways:
        found = [key for key in everything if fits(key)]
        if found:
            return found
    near = difflib.get_close_matches(wanted, {key.path for key in everything}, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"{path!r} is no key of a recipe; {hint}'saddlebag explain' lists the tables")


def _run_keys() -> Iterator[Key]:
    tables = (*_SECTIONS, "problem", "method", "baselines")
    yield from _of_target("run", "", "", Recipe, [name for name in parameters_of(Recipe) if name not in tables])
    for table in ("problem", "method"):
        yield _name_key("run", table)
        if table == "method":
            yield from _of_target("run", "method", "", MethodSection, ["label", "step_size", "probability", "up", "down"])
        yield from _of_plugins("run", table)
    yield _name_key("run", "method.up")
    yield from _of_plugins("run", "method.up")
    for table, section in _SECTIONS.items():
        yield from _of_target("run", table, "", section)


def _groupwise_keys() -> Iterator[Key]:
    yield from _of_target("groupwise", "", "", GroupwiseRecipe, ["title", "shuffles", "comparator", "directory"])
    for table, section in TABLES.items():
        yield from _of_target("groupwise", table, "", section)
    about, example = "Which rows belong to the group: an expression over columns.", 'young = "age < 30"'
    yield Key("groupwise", "groups", "", "NAME", str, MISSING, about, example)
    for table in ("learner", "mixer"):
        yield _name_key("groupwise", table)
        yield from _of_plugins("groupwise", table)


def _name_key(kind: Kind, table: str) -> Key:
    registry = _PARTS[kind][table]
    hint = Literal.__getitem__(tuple(sorted(REGISTRIES[registry])))
    about, default = f"Which one; 'saddlebag list {registry}' shows them.", _DEFAULTS.get(table, MISSING)
    return Key(kind, table, "", "name", hint, default, about, _example(kind, table, "", "name"))


def _of_plugins(kind: Kind, table: str) -> Iterator[Key]:
    for name, factory in sorted(REGISTRIES[_PARTS[kind][table]].items()):
        elsewhere = _ELSEWHERE if table == "method" else _ELSEWHERE[:-2]
        parameters = [key for key in parameters_of(factory) if key not in elsewhere]
        yield from _of_target(kind, table, name, factory, parameters)


def _of_target(kind: Kind, table: str, of: str, target: Callable[..., Any], names: list[str] | None = None) -> Iterator[Key]:
    said = _documented(target)
    for name, parameter in parameters_of(target).items():
        if (names is not None and name not in names) or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        default = "" if (table, name) == ("method", "label") else _default(target, name, parameter.default)
        example = _example(kind, table, of, name) or _EXAMPLES.get((table, name), "")
        if not example and default is not None and default is not MISSING:
            example = f"{name} = {_written(default)}"
        meaning = said.get(name) or _SHARED.get(name, "")
        hint = _hint(parameter.annotation, default)
        yield Key(kind, table, of, name, hint, default, meaning[:1].upper() + meaning[1:], example)


def _hint(annotation: Any, default: Any) -> Any:
    """A type; where its names exist for type checkers only, that of the default; a compressor is a table."""
    if isinstance(annotation, str):
        return type(default)
    return dict if annotation == CompressorSection | None else annotation


def _default(target: Callable[..., Any], name: str, default: Any) -> Any:
    """The default of a parameter; a dataclass's factories are called."""
    if isinstance(target, type) and dataclasses.is_dataclass(target):
        for field in dataclasses.fields(target):
            if field.name == name and field.default_factory is not dataclasses.MISSING:
                return field.default_factory()
    return default


def _documented(target: Callable[..., Any]) -> dict[str, str]:
    """What docstrings say of parameters: their own, else the class whose field a key is, else those beside the target."""
    found: dict[str, str] = {}
    module = sys.modules.get(target.__module__)
    classes = [each for each in vars(module).values() if isinstance(each, type)] if module else []
    beside = [each for each in classes if dataclasses.is_dataclass(each)]
    for source in reversed(beside):
        found |= _entries(inspect.getdoc(source) or "")
    for key, owner in owners_of(target).items():
        said = [_entries(inspect.cleandoc(each.__doc__ or "")) for each in owner.__mro__]
        found |= next(({key: entries[key]} for entries in said if key in entries), {})
    return found | _entries(inspect.getdoc(target) or "")


def _entries(text: str) -> dict[str, str]:
    """Name -> text, of the sections Args and Attributes of a docstring."""
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith(" "):
            inside = line in ("Args:", "Attributes:") or (inside and not line)
        elif inside and (match := _ENTRY.fullmatch(line)):
            names = [name.lstrip("*") for name in match[1].split(", ")]
            found |= dict.fromkeys(names, match[2])
        elif inside:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


_EXAMPLES = {
    ("stop", "max_bytes"): "max_bytes = 2e6",
    ("stop", "max_iterations"): "max_iterations = 5000",
    ("stop", "max_seconds"): "max_seconds = 600.0",
}
"""Of keys without a default that no recipe here gives."""


@functools.cache
def _recipes() -> tuple[Mapping[str, Any], ...]:
    return tuple(toml.read(path) for path in sorted(FOLDER.glob("*.toml")))


def _example(kind: Kind, table: str, of: str, name: str) -> str:
    """How a recipe that comes with the installation writes a key."""
    for recipe in _recipes():
        if ("problem" in recipe) != (kind == "run"):
            continue
        for below in _tables(recipe, table):
            if name in below and (not of or below.get("name", of) == of):
                return f"{name} = {toml.inline(below[name])}"
    return ""


def _tables(recipe: Mapping[str, Any], table: str) -> Iterator[Mapping[str, Any]]:
    """The tables of a recipe at a path, those of its baselines too."""
    if table == "":
        yield recipe
    elif table == "method.up":
        for method in (recipe.get("method", {}), *recipe.get("baseline", [])):
            yield from (method[side] for side in ("up", "down") if side in method)
    elif table == "method":
        yield from (recipe.get("method", {}), *recipe.get("baseline", []))
    else:
        yield recipe.get(table, {})


def _written(value: Any) -> str:
    """A default as TOML; a tuple as a list."""
    try:
        return toml.inline(value)
    except ConfigError:
        return str(value)
