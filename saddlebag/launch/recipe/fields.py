"""Strict reading of tables: every key known, every value of the right type, every error with its full path."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from saddlebag.errors import ConfigError
from saddlebag.parameters import parameters_of

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

__all__ = ["at", "fit", "join", "noun", "read_table", "unknown"]

_EXACT = 2**53  # up to here every whole number is a float
_SHORTEST = 3  # letters of a part of a name that says which one is meant
_NOUNS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a table",
    list: "a list",
}
_KINDS: tuple[tuple[type, str], ...] = (
    *((kind, word) for kind, word in _NOUNS.items()),
    (Mapping, "a table"),
    (tuple, "a list"),
    (Sequence, "a list"),
)
_NOWHERE: Mapping[str, str] = types.MappingProxyType({})
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def join(path: str, key: str) -> str:
    """The full path of a key."""
    return f"{path}.{key}" if path else key


def unknown(what: str, name: object, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not among the known ones, with the nearest of them."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, 1)
    if not near and len(str(name)) >= _SHORTEST:
        near = [each for each in known if str(name) in each][:1]  # "adamw" for "compressed_adamw"
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(f"{what}; {hint}known: {', '.join(known) or 'none'}")


@contextlib.contextmanager
def at(path: str) -> Iterator[None]:
    """Put a path in front of a `ConfigError` raised inside, unless it starts with it."""
    try:
        yield
    except ConfigError as error:
        if str(error).startswith(path):
            raise
        raise ConfigError(f"{path}: {error}") from error


def read_table(value: object, path: str) -> dict[str, Any]:
    """The value as a table."""
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must be a table, got {value!r}")
    return value


_ZERO = re.compile("\0")  # no path of a file has it
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")  # what a terminal would obey: titles are printed


def fit(
    target: Callable[..., object],
    table: Mapping[str, Any],
    path: str,
    *,
    given: Collection[str] = (),
    also: Collection[str] = (),
    elsewhere: Mapping[str, str] = _NOWHERE,
) -> dict[str, Any]:
    """The table as keyword arguments of `target`, checked against its signature; whole numbers become floats where asked.

    Args:
        target: a function or dataclass.
        table: keys and values, as TOML gives them.
        path: of the table, for messages.
        given: parameters that do not come from the table.
        also: keys of the table that others read, for suggestions.
        elsewhere: keys that one may look for here, and the paths where a recipe has them.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type.
    """
    parameters = parameters_of(target)
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    known = {name: p for name, p in parameters.items() if name not in given and p.kind in _BY_NAME}
    values = {}
    for key, value in table.items():
        if isinstance(value, str) and (_CONTROL if key == "title" else _ZERO).search(value):
            raise ConfigError(f"{join(path, key)} holds a character that cannot be printed: {value!r}")
        if key in known:
            values[key] = _convert(value, known[key].annotation, join(path, key))
        elif open_ended and key not in given:
            values[key] = value
        elif key in elsewhere:
            raise ConfigError(f"{join(path, key)} is no known key; a recipe has it as {elsewhere[key]}")
        else:
            raise unknown(f"{join(path, key)} is no known key", key, (*known, *also))
    for key, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and key not in values:
            raise ConfigError(f"{join(path, key)} is missing; give {noun(parameter.annotation)}")
    return values


def _choices(hint: Any) -> tuple[Any, ...]:
    """The members of a union; other types stand for themselves. None cannot be written in TOML and is left out."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(choice for member in typing.get_args(hint) if member is not type(None) for choice in _choices(member))
    return (hint,)


def noun(hint: Any) -> str:
    """What a value of a type is called: "a whole number or text"."""
    nouns = []
    for choice in _choices(hint):
        if typing.get_origin(choice) is Literal:
            nouns += [repr(value) for value in typing.get_args(choice)]
        else:
            nouns.append(next((word for kind, word in _KINDS if _is_kind(choice, kind)), "a value"))
    said = [word for word in dict.fromkeys(nouns) if word != "a value" or len(nouns) == 1]
    return " or ".join(said)


def _is_kind(choice: Any, kind: type) -> bool:
    origin = typing.get_origin(choice) or choice
    return isinstance(origin, type) and issubclass(origin, kind)


def _held(choice: Any) -> tuple[type, ...]:
    """What a value is for a hint such as `list[int]` or `Mapping[str, float]`; nothing for other hints."""
    origin = typing.get_origin(choice)
    if not isinstance(origin, type) or origin is type:
        return ()
    if issubclass(origin, Mapping):
        return (Mapping,)
    return (list, tuple) if issubclass(origin, Sequence) else ()


def _converted_items(value: Any, hints: tuple[Any, ...], path: str) -> Any:
    """A list or table whose items have the type that its hint says."""
    if isinstance(value, Mapping):
        return {key: _convert(item, hints[-1], join(path, str(key))) for key, item in value.items()}
    return type(value)(_convert(item, hints[0], f"{path}[{number}]") for number, item in enumerate(value))


def _convert(value: Any, hint: Any, path: str) -> Any:
    for choice in _choices(hint):
        if typing.get_origin(choice) is Literal:
            if value in typing.get_args(choice):
                return value
        elif choice is float:
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
        elif held := _held(choice):
            if isinstance(value, held):
                return _converted_items(value, typing.get_args(choice), path)
        elif choice not in _NOUNS or (isinstance(value, choice) and not (choice is int and isinstance(value, bool))):
            return value
    if isinstance(value, float) and int in _choices(hint) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)  # 1e6, which TOML takes for a number with a fraction
    raise ConfigError(f"{path} must be {noun(hint)}, got {value!r}")
