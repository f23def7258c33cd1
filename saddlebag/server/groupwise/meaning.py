"""What a service's numbers mean, as plain facts; and what changed between two such descriptions, in words.

A checkpoint belongs to columns, categories, scalings, groups and an algorithm, not to the text of a recipe or to the path of a
file: the same meaning resumes, another is refused by the name of the change.

    features    in order: {"name", "column", "low", "high"} of a number (scaled from low..high to 0..1, or without both),
                {"name", "column", "category"}, {"name", "group"}, or {"name"} alone
    groups      in order: {"name", "rule"}, where the rule is known
    others      by name, nested: the algorithm and its parameters, the label, the share of the groups
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def describe(value: Any) -> Any:
    """A dataclass with its kind and fields, nested, as JSON values.

    Example:
        >>> from saddlebag.algorithms.groupwise import SquaredLoss
        >>> describe(SquaredLoss())
        {'kind': 'SquaredLoss'}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value) if field.compare}
        return {"kind": type(value).__qualname__, **fields}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): describe(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [describe(below) for below in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return f"{type(value).__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, one line each; empty when the meaning is the same.

    Example:
        >>> old = {"features": [{"name": "age", "column": "age", "low": 17.0, "high": 90.0}], "groups": [{"name": "a"}]}
        >>> new = {"features": [{"name": "age", "column": "age", "low": 17.0, "high": 95.0}], "groups": [{"name": "a"}]}
        >>> changes(old, new)
        ["column 'age': the scale's high 90.0 is now 95.0"]
    """
    found = [*_features(before["features"], now["features"]), *_groups(before["groups"], now["groups"])]
    plain = [{key: facts[key] for key in facts if key not in ("features", "groups")} for facts in (before, now)]
    return found + list(_nested("", *plain))


def _features(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    old, new = (_columns(features) for features in (before, now))
    yield from (f"column {column!r} is gone" for column in old if column not in new)
    yield from (f"column {column!r} is new" for column in new if column not in old)
    said = old.keys() != new.keys()
    for column in old:
        for text in _column(old[column], new[column]) if column in new else ():
            said = True
            yield f"column {column!r}: {text}"
    if not said:
        yield from _order("features", [_name(each) for each in before], [_name(each) for each in now])


def _columns(features: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Features by the column they come from; those of no column by their own name."""
    columns: dict[str, list[Mapping[str, Any]]] = {}
    for feature in features:
        columns.setdefault(str(feature.get("column", feature["name"])), []).append(feature)
    return columns


def _column(before: list[Mapping[str, Any]], now: list[Mapping[str, Any]]) -> Iterator[str]:
    old, new = ([each["category"] for each in features if "category" in each] for features in (before, now))
    if bool(old) != bool(new):
        yield f"{'categories' if old else 'a number'} before, {'categories' if new else 'a number'} now"
        return
    gone, come = [each for each in old if each not in new], [each for each in new if each not in old]
    if len(gone) == len(come):
        yield from (f"category {a!r} is now {b!r}" for a, b in zip(gone, come, strict=True))
    else:
        yield from (f"category {each!r} is gone" for each in gone)
        yield from (f"category {each!r} is new" for each in come)
    if not old:
        for key in ("low", "high"):
            a, b = before[0].get(key), now[0].get(key)
            if a != b:
                yield f"the scale's {key} {a} is now {b}"


def _groups(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    old, new = ({str(group["name"]): group for group in groups} for groups in (before, now))
    yield from (f"group {name!r} is gone" for name in old if name not in new)
    yield from (f"group {name!r} is new" for name in new if name not in old)
    if old.keys() == new.keys():
        yield from _order("groups", list(old), list(new))
    for name in old:
        for key in ("rule", "prior") if name in new else ():
            a, b = old[name].get(key), new[name].get(key)
            if a != b:
                yield f"group {name!r}: its {key} {a!r} is now {b!r}"


def _order(what: str, before: list[str], now: list[str]) -> Iterator[str]:
    if before == now:
        return
    if sorted(before) != sorted(now):
        yield f"the {what} {', '.join(map(repr, before))} are now {', '.join(map(repr, now))}"
        return
    moved = [place for place, name in enumerate(before) if now[place] != name]
    if len(moved) == 2:
        a, b = moved
        yield f"{what} {a + 1} and {b + 1} are swapped: {before[a]!r} and {before[b]!r}"
    else:
        yield f"the order of {what} changed: {before[moved[0]]!r} was number {moved[0] + 1}, now it is {now[moved[0]]!r}"


def _name(feature: Mapping[str, Any]) -> str:
    return str(feature["name"])


def _nested(path: str, before: Any, now: Any) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            yield from _nested(f"{path}.{key}" if path else key, before.get(key), now.get(key))
    elif before != now:
        yield f"{path}: {before!r} is now {now!r}"
