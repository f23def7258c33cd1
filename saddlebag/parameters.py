"""What a factory takes by name, with types: the one reading of signatures, for recipes, lists and the makers in Python.

A factory says it in its signature. One that passes many keys on to others declares them as a `TypedDict` (`total=False`) behind
`**keys: Unpack[...]`; type checkers read the same. One whose defaults are not those of the dataclass that its keys name says
so (`HasDefaults`).
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Mapping, Sequence
from typing import Any

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["HasDefaults", "owners_of", "parameters_of"]

_COMMON = {"Any": Any, "Mapping": Mapping, "Sequence": Sequence}  # often imported for type checkers only
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@typing.runtime_checkable
class HasDefaults(typing.Protocol):
    """A factory whose keys begin elsewhere than others': at the fields of a dataclass derived from the one that they name.

    Example:
        >>> from saddlebag.algorithms.networks.texts.albert_sst2 import albert_sst2
        >>> isinstance(albert_sst2, HasDefaults), parameters_of(albert_sst2)["batch_size"].default
        (True, 16)
    """

    defaults: type


def parameters_of(target: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """The parameters that can be given by name, with their annotations evaluated where that is possible.

    Keys of a `TypedDict` behind `**` are parameters like others. A key of type `Annotated[float, Rule]` has the default of that
    field of the dataclass `Rule`, or of the one derived from it that is the factory's `defaults`; others have None. A `**`
    without types stays.
    """
    found: dict[str, inspect.Parameter] = {}
    for name, parameter, annotation in _annotated(target):
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and typing.get_origin(annotation) is typing.Unpack:
            found |= _declared(typing.get_args(annotation)[0], target.defaults if isinstance(target, HasDefaults) else None)
        elif parameter.kind in (*_BY_NAME, inspect.Parameter.VAR_KEYWORD):
            found[name] = parameter.replace(annotation=annotation)
    return found


def owners_of(target: Callable[..., object]) -> dict[str, type]:
    """The keys behind `**` that are fields of a dataclass elsewhere, and that dataclass: there they are documented.

    Example:
        >>> from saddlebag.algorithms.optimizers.diloco import diloco
        >>> owners_of(diloco)["warmup"].__name__
        'Walk'
    """
    found: dict[str, type] = {}
    for _, parameter, annotation in _annotated(target):
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and typing.get_origin(annotation) is typing.Unpack:
            hints = typing.get_type_hints(typing.get_args(annotation)[0], include_extras=True)
            found |= {
                key: typing.get_args(hint)[1] for key, hint in hints.items() if typing.get_origin(hint) is typing.Annotated
            }
    return found


def _annotated(target: Callable[..., object]) -> Iterator[tuple[str, inspect.Parameter, Any]]:
    """Name, parameter and evaluated annotation of each."""
    function = target.__func__ if inspect.ismethod(target) else target
    names = function.__globals__ if inspect.isfunction(function) else vars(sys.modules[target.__module__])
    for name, parameter in inspect.signature(target).parameters.items():
        yield name, parameter, _evaluate(parameter.annotation, names)


def _declared(keys: Any, derived: type | None) -> dict[str, inspect.Parameter]:
    """The keys of a `TypedDict`, all of which may be left out."""
    found = {}
    for key, hint in typing.get_type_hints(keys, include_extras=True).items():
        kind, default = hint, None
        if typing.get_origin(hint) is typing.Annotated:
            kind, owner = typing.get_args(hint)
            fields = dataclasses.fields(derived if derived is not None and issubclass(derived, owner) else owner)
            default = {field.name: field.default for field in fields}[key]
        found[key] = inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
    return found


def _evaluate(annotation: Any, names: dict[str, Any]) -> Any:
    """An annotation as a type; one whose names exist for type checkers only stays text, and its values are not checked."""
    try:
        return eval(annotation, names, _COMMON) if isinstance(annotation, str) else annotation
    except (NameError, AttributeError):
        return annotation
