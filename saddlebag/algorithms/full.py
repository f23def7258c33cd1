"""Full vectors on the wire, as increments of an accumulator that both ends keep in float64.

F_m(w) does not vanish at the solution, so a float32 copy of it would put a floor under the accuracy; its increments do
vanish, and so does their rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from saddlebag.compression import Dense, Grid, Vector, track
from saddlebag.compression.values import cast
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression import Draws, Payload

__all__ = ["WireType", "advanced", "check_wire_type", "difference", "increment", "synchronise"]

WireType: TypeAlias = Literal["float32", "float64"]


def check_wire_type(dtype: str) -> None:
    """Raise `ConfigError` unless this is a type that full vectors may travel in."""
    if dtype not in ("float32", "float64"):
        raise ConfigError(f"wire must be 'float32' or 'float64', got {dtype!r}")


def difference(x_D: Vector, known_D: Vector, dtype: WireType) -> Dense:
    """The payload that takes an accumulator from `known_D` to (nearly) `x_D`."""
    return Dense(cast(x_D - known_D, np.float32 if dtype == "float32" else np.float64))


def increment(x_D: Vector, known_D: Vector, dtype: WireType) -> tuple[Dense, Vector]:
    """The payload that takes the accumulator from `known_D` to (nearly) `x_D`, and the accumulator after it."""
    payload = difference(x_D, known_D, dtype)
    return payload, advanced(known_D, payload)


def advanced(known_D: Vector, payload: Payload) -> Vector:
    """The accumulator after a payload: one new vector, where a sum would widen the payload into another first."""
    next_D = known_D.copy()
    payload.add_to(next_D)
    return next_D


def synchronise(x_D: Vector, known_D: Vector, dtype: WireType, grid_step: float | None, draws: Draws) -> tuple[Payload, Vector]:
    """What takes the other side from `known_D` towards `x_D`, and where it is then: in full, or through a grid of that step."""
    if grid_step is None:
        return increment(x_D, known_D, dtype)
    return track(Grid(step=grid_step), x_D, known_D, draws)
