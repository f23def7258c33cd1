"""Narrow states, for networks: z in 48 bits, moving means and memories in 32, all of them updated where they lie.

    z = high + rest      high = float32(z), what networks compute in;  rest = bfloat16(z - high)

so z keeps 33 significant bits where float32 has 24: steps far below its spacing add up (compensation: Kahan 1965; a low part
of 16 bits beside weights, Zamirai et al. 2021, "Revisiting BFloat16 Training"). All arithmetic is that of float32, block by
block, in numpy and compiled alike: the same bits everywhere.

A narrow method updates in place: whoever hands a state on to it does not look at that state again (`Narrow`, `Guarded`).

Shapes: D = coordinates, B = those of a block.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.capabilities import HasModules, LinkedProgram
from saddlebag.compression.slices import Slices, runs_of
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Problem
    from saddlebag.algorithms.optimizers.rule import Rule
    from saddlebag.compression import Vector

Precision = Literal["float64", "float32"]
IN_PLACE = "with precision = 'float32' a worker's step changes its state in place, so a late one cannot be made again"
"""Why narrow methods wait for all workers, see `Mergeable`."""
Bits16 = npt.NDArray[np.uint16]

_PLAIN, _FUSED = 1 << 13, 1 << 17  # coordinates of a block: of numpy's passes, and of one compiled pass


def join(high_B: Vector, rest_B: Bits16) -> Vector:
    """Z from its two parts, float64 (B,)."""
    z_B: Vector = high_B.astype(np.float64)
    z_B += _low(rest_B)
    return z_B


def split(z_B: Vector, high_B: Vector, rest_B: Bits16) -> None:
    """Fill the two parts of z; both are rounded to the nearest, halves to the even one."""
    with np.errstate(over="ignore", invalid="ignore"):  # a z that is not finite shows where it is used
        high_B[:] = z_B
        rest_B[:] = _bits((z_B - high_B).astype(np.float32))


def move(high_B: Vector, rest_B: Bits16, change_B: Vector) -> None:
    """Z <- z - change in place, float32; what the sum loses is kept in the rest (Knuth's two-sum). `change_B` is spent."""
    low_B = _low(rest_B)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        low_B -= change_B
        np.add(high_B, low_B, out=change_B)
        moved_B = change_B - high_B
        low_B -= moved_B
        np.subtract(change_B, moved_B, out=moved_B)
        np.subtract(high_B, moved_B, out=moved_B)
        moved_B += low_B
    high_B[:] = change_B
    rest_B[:] = _bits(moved_B)


def _low(rest_B: Bits16) -> Vector:
    """The values of bfloat16's bits, float32."""
    return (rest_B.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _bits(low_B: Vector) -> npt.NDArray[np.uint32]:
    """The bits of the nearest bfloat16, halves to the even one."""
    bits_B = low_B.view(np.uint32)
    return (bits_B + np.uint32(0x7FFF) + ((bits_B >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)


def narrow_start(z_D: Vector) -> tuple[Vector, Bits16]:
    """The two parts of a point; one that is float32 has no rest, and its memory is taken over."""
    if z_D.dtype == np.float32 and z_D.flags.writeable and z_D.flags.c_contiguous:
        return z_D, np.zeros(len(z_D), np.uint16)
    high_D, rest_D = np.empty(len(z_D), np.float32), np.empty(len(z_D), np.uint16)
    for here in runs_of(len(z_D)):
        split(z_D[here].astype(np.float64), high_D[here], rest_D[here])
    return high_D, rest_D


def narrow_init(rule: Rule, z_D: Vector) -> tuple[Any, Bits16]:
    """A rule's state at z with empty memories, float32, and the rests."""
    high_D, rest_D = narrow_start(z_D)
    zeros = {name: np.zeros(len(z_D), np.float32) for name in rule.vectors() if name != "z_D"}
    return rule.replica_type(z_D=high_D, iteration=0, **zeros), rest_D


def update_in_place(rule: Rule, replica: Any, rest_D: Bits16, gradient: Slices, step_size: float, *, scale: float = 1.0) -> Any:
    """The state after one step of the rule along `scale` times a gradient, in the memory of the state before.

    Decay is part of the change, float32: z moves once.
    """
    vectors, done = {name: getattr(replica, name) for name in rule.vectors()}, replica.iteration
    d = len(replica.z_D)
    fused = rule.fused(d, done, step_size)
    room_B = np.empty(min(d, _PLAIN if fused is None else _FUSED), np.float32)
    for here in runs_of(d, len(room_B) or 1):
        gradient_B = gradient.read(here, room_B)
        if scale != 1.0:
            gradient_B = np.multiply(gradient_B, np.float32(scale), out=room_B[: len(gradient_B)])
        views = {name: vector[here] for name, vector in vectors.items()}
        if fused is not None:
            fused(views, rest_D[here], gradient_B, here)
            continue
        old = {name: view if name == "z_D" else view.copy() for name, view in views.items()}
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            change_B = rule.advance(old, views, gradient_B, here, done)
            change_B *= np.float32(step_size)
            if rule.weight_decay:
                rate_B = np.float32(step_size * rule.weight_decay)
                change_B += rule.decaying(here) * rate_B * views["z_D"]
        move(views["z_D"], rest_D[here], change_B)
    return dataclasses.replace(replica, iteration=done + 1)


def add_clipped(owed_D: Vector, value_D: Vector, largest: float) -> None:
    """Add a value, scaled to a norm of at most `largest`, to what is owed."""
    length = norm(value_D) if largest < math.inf else 0.0
    if length <= largest:
        np.add(owed_D, value_D, out=owed_D, casting="same_kind")
        return
    for here in runs_of(len(owed_D)):
        owed_D[here] += value_D[here] * np.float32(largest / length)


def clipped_narrow(value_D: Vector, largest: float, dtype: npt.DTypeLike | None = None) -> Vector:
    """What `add_clipped` adds; in this type, where one is given, before it is scaled."""
    length = norm(value_D) if largest < math.inf else 0.0
    return value_D if length <= largest else value_D.astype(dtype or value_D.dtype, copy=False) * np.float32(largest / length)


def norm(x_D: Vector) -> float:
    """|x|, summed in float64 over runs: no temporary of the vector's length."""
    return float(sum(float(np.square(x_D[here], dtype=np.float64).sum()) for here in runs_of(len(x_D))) ** 0.5)


def require_network(what: str, problem: Problem) -> None:
    """Raise `ConfigError` unless narrow states are for this problem."""
    if not isinstance(problem, HasModules | LinkedProgram) or not problem.unconstrained:
        raise ConfigError(
            f"{what}: precision 'float32' is for networks, {problem.name} is none; leave precision at 'float64' for games"
        )
