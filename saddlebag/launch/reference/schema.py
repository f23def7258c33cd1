"""A JSON Schema of recipes, from which editors complete and check them."""

from __future__ import annotations

import itertools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from saddlebag.launch.reference.keys import MISSING, Key, keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from saddlebag.launch.reference.keys import Kind

__all__ = ["recipe_schema"]

_COMPRESSOR = {"$ref": "#/$defs/compressor"}
_STEP = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}  # "auto", "0.35/L" and so on
_SIMPLE = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (Mapping, "object"), (Sequence, "array"))


def recipe_schema(kind: Kind) -> dict[str, Any]:
    """The schema (draft 2020-12) of the recipes of a kind, plug-ins included.

    Example:
        >>> recipe_schema("run")["properties"]["workers"]["default"]
        4
    """
    tables = {table: [*group] for table, group in itertools.groupby(keys(kind), key=lambda key: key.table)}
    properties = {key.name: _property(key) for key in tables.pop("")}
    compressor = _table(tables.pop("method.up")) if kind == "run" else {}
    for table, members in tables.items():
        properties[table] = _table(members)
    required = ["problem", "method"] if kind == "run" else ["data", "features", "label"]
    if kind == "run":
        properties["baseline"] = {"type": "array", "items": properties["method"]}
    else:
        properties["groups"] = {"type": "object", "additionalProperties": {"type": "string"}}
    title = "A recipe of saddlebag" if kind == "run" else "A groupwise recipe of saddlebag"
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, "type": "object"}
    defs = {"$defs": {"compressor": compressor}} if compressor else {}
    return {**head, "properties": properties, "required": required, "additionalProperties": False, **defs}


def _table(members: Iterable[Key]) -> dict[str, Any]:
    """The schema of a table; where a name chooses a plug-in, one alternative for each, with its own keys."""
    by_plugin = {of: {key.name: key for key in group} for of, group in itertools.groupby(members, key=lambda key: key.of)}
    shared = by_plugin.pop("", {})
    name = shared.pop("name", None)
    if name is None:
        return _object(shared.values())
    choices = []
    for choice in typing.get_args(name.hint):
        below = _object([*shared.values(), *by_plugin.get(choice, {}).values()])
        below["properties"]["name"] = {"const": choice, "description": name.meaning}
        if choice != name.default:
            below["required"] = ["name", *below.get("required", [])]
        choices.append(below)
    return {"type": "object", "anyOf": choices}


def _object(members: Iterable[Key]) -> dict[str, Any]:
    found = [*members]
    required = [key.name for key in found if key.default is MISSING]
    closed = {"type": "object", "properties": {key.name: _property(key) for key in found}, "additionalProperties": False}
    return {**closed, "required": required} if required else closed


def _property(key: Key) -> dict[str, Any]:
    said: dict[str, Any] = {"description": key.meaning}
    if isinstance(key.default, bool | int | float | str) and key.default != "":
        said["default"] = key.default
    if key.table == "method" and key.name in ("up", "down"):
        return _COMPRESSOR
    if key.table == "method" and key.name in ("step_size", "probability"):
        return {**_STEP, **said}
    return {**_of_hint(key.hint), **said}


def _of_hint(hint: Any) -> dict[str, Any]:
    """A type as a schema; what recipes cannot name allows anything."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = [_of_hint(member) for member in typing.get_args(hint) if member is not type(None)]
        known = [option for option in options if option]
        return known[0] if len(known) == 1 else {"anyOf": known} if known else {}
    if typing.get_origin(hint) is Literal:
        return {"enum": [*typing.get_args(hint)]}
    origin = typing.get_origin(hint) or hint
    for kind, name in _SIMPLE:
        if isinstance(origin, type) and issubclass(origin, kind):
            return {"type": name}
    return {}
