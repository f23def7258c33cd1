"""States and methods on some of their coordinates, and back: what methods on a support share.

Shapes: D = coordinates of z, A = chosen ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from saddlebag.algorithms.base import identity_prox
from saddlebag.algorithms.optimizers.replica import ReplicaOptimizer
from saddlebag.algorithms.registry import METHODS, make_method, takes_compressors
from saddlebag.algorithms.wrapped import Wrapped, is_narrow, unwrapped
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import AnyMethod, Problem, Prox
    from saddlebag.compression import Compressor, Index

T = TypeVar("T")


def taken(state: T, index_A: Index, d: int, prox: Prox | None = None) -> T:
    """A state, or a method, with its vectors of d coordinates on A alone; a method's prox at every depth is `prox`."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(state):  # type: ignore[arg-type]  # a state is a dataclass, which T cannot say
        value = getattr(state, field.name)
        if isinstance(value, np.ndarray) and value.shape == (d,):
            values[field.name] = value[index_A]
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            values[field.name] = taken(value, index_A, d, prox)
        elif field.name == "prox" and prox is not None and value is not identity_prox:
            values[field.name] = prox
    return dataclasses.replace(state, **values) if values else state  # type: ignore[type-var]


def put(old: T, new: T, index_A: Index, d: int) -> T:
    """The state after a step on A: new there, and as it was elsewhere."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(old):  # type: ignore[arg-type]
        before, after = getattr(old, field.name), getattr(new, field.name)
        if isinstance(before, np.ndarray) and before.shape == (d,):
            values[field.name] = before.copy()
            values[field.name][index_A] = after
        else:
            values[field.name] = put(before, after, index_A, d) if dataclasses.is_dataclass(before) else after
    return dataclasses.replace(old, **values)  # type: ignore[type-var]


def inner_of(outer: str, problem: Problem, of: object, up: Compressor, down: Compressor, step_size: float | None) -> AnyMethod:
    """The method that a table names, from which coordinates can be left out; `outer` is whose it is.

    Raises:
        ConfigError: it is unknown, a parameter does not fit, or it looks at whole vectors.
    """
    if not isinstance(of, Mapping) or not isinstance(of.get("name"), str):
        raise ConfigError(f"{outer}.of must be a table with the name of a method, got {of!r}")
    name = of["name"]
    wrappers = ("active_set", "bilevel_pruning")
    if name not in METHODS or name in wrappers or not takes_compressors(name):
        known = ", ".join(sorted(each for each in METHODS if each not in wrappers and takes_compressors(each)))
        raise ConfigError(f"{outer}.of.name must be a method with compressors, got {name!r}; known: {known}")
    for key in ("up", "down", "step_size"):
        if key in of:
            raise ConfigError(f"{outer}.of takes no {key}; write it beside the table, as method.{key}")
    keys = {key: value for key, value in of.items() if key != "name"}
    method = make_method(name, problem, up=up, down=down, **keys, **({} if step_size is None else {"step_size": step_size}))
    inner = unwrapped(method)
    if isinstance(inner, ReplicaOptimizer) and not inner.rule.blockwise:
        raise ConfigError(f"{outer}.of: {name} looks at whole tensors, from which no coordinate can be left out")
    if is_narrow(method):
        raise ConfigError(f"{outer}.of: {name} has narrow states, changed in place; set its precision to float64")
    return method


class OfTable(Wrapped):
    """A method around one that a table names; it has the inner one's step size."""

    @property
    def step_size(self) -> float:
        """The inner method's."""
        inner: Any = unwrapped(self.method)  # a dataclass with this field, for which Python has no type
        return float(inner.step_size)
