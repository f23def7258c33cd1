"""TOML in and out: files, overrides from the command line, and a writer for what recipes hold."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["dump", "inline", "override", "read"]

_LARGEST = 1 << 24  # bytes of a file; a device never ends
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def read(path: Path) -> dict[str, Any]:
    """The table in a file.

    Raises:
        ConfigError: the file is missing or no TOML.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ConfigError(f"{path}: no recipe: it has more than {_LARGEST >> 20} MiB")
        return tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # beside TOML's own, a whole number of thousands of digits
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: not TOML: {_told(error)}") from error
    except OSError as error:
        raise ConfigError(f"cannot read the recipe {path}: {error.strerror}") from error


def override(table: dict[str, Any], assignment: str) -> None:
    """Apply `key.path=value` to nested tables in place; an element of a list goes by its number.

    The value is read as TOML; what is no TOML (a bare word, a path) is text.

    Raises:
        ConfigError: the assignment is malformed, or its path leads through something that is no table.
    """
    key, equals, text = assignment.partition("=")
    key = key.strip()
    if not equals or not _KEY.fullmatch(key):
        raise ConfigError(f"--set needs key.path=value, got {assignment!r}")
    *parents, last = key.split(".")
    at: Any = table
    for depth, part in enumerate(parents):
        at = _descend(at, part, ".".join(parents[: depth + 1]))
    value = _value(text.strip(), key)
    if isinstance(at, list):
        at[_position(at, last, key)] = value
    else:
        at[last] = value


def _descend(at: Any, part: str, path: str) -> Any:
    below = at[_position(at, part, path)] if isinstance(at, list) else at.setdefault(part, {})
    if not isinstance(below, dict | list):
        raise ConfigError(f"--set: {path} is {below!r}, not a table")
    return below


def _position(at: list[Any], part: str, path: str) -> int:
    if not (part.isdecimal() and int(part) < len(at)):
        raise ConfigError(f"--set: {path}: a list with {len(at)} elements has no element {part!r}; they count from 0")
    return int(part)


def _value(text: str, key: str) -> Any:
    try:
        parsed = tomllib.loads(f"v = {text}")
    except (ValueError, RecursionError) as error:
        if text[:1] in ('"', "'", "[", "{") or not text:
            raise ConfigError(f"--set {key}: {text[:80]!r} is no TOML value: {_told(error)}") from error
        return text
    return parsed["v"] if parsed.keys() == {"v"} else text


def _told(error: Exception) -> str:
    return "its values are nested too deep" if isinstance(error, RecursionError) else str(error)


def dump(table: Mapping[str, Any]) -> str:
    """A table as TOML: numbers, text, truth values, lists of them, tables and lists of tables."""
    return "\n".join(_lines(table, "")).strip() + "\n"


def _is_tables(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(isinstance(v, Mapping) for v in value)
    )


def _lines(table: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, value in table.items():
        if not isinstance(value, Mapping) and not _is_tables(value):
            yield f"{_key(key)} = {inline(value)}"
    for key, value in table.items():
        below = f"{path}{_key(key)}"
        if isinstance(value, Mapping):
            yield from ("", f"[{below}]", *_lines(value, f"{below}."))
        elif _is_tables(value):
            for element in value:
                yield from ("", f"[[{below}]]", *_lines(element, f"{below}."))


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def inline(value: Any) -> str:
    """A value as TOML on one line, as `override` reads it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _text(value)
        case Mapping():
            return "{" + ", ".join(f"{_key(key)} = {inline(below)}" for key, below in value.items()) + "}"
        case Sequence():
            return "[" + ", ".join(map(inline, value)) + "]"
    raise ConfigError(f"a value of type {type(value).__name__} cannot be written as TOML: {value!r}")
