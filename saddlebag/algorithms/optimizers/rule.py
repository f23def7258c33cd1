"""What an update rule of practice is: one step of z from a gradient, block by block, with whatever vectors it keeps.

Shapes: D = coordinates, B = those of a block: what is read and written in a step stays in the cache.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeAlias

import numpy as np

from saddlebag.compression import Vector
from saddlebag.errors import ConfigError

_BLOCK = 1 << 13  # coordinates: seven blocks of 64 KiB, measured best among 2^11 ... 2^18

Vectors: TypeAlias = Mapping[str, Vector]

Fused: TypeAlias = Callable[[Vectors, Any, Vector, slice], None]
"""(vectors of a block, the rests of z, gradient, the block's place): changes the vectors where they lie."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One update of z from a gradient. A rule says in `advance` what happens to a block of coordinates.

    Attributes:
        weight_decay: decoupled from the gradient (Loshchilov and Hutter 2019), times the step size.
        decays: what decays, a boolean mask (D,), or None for everything.
        layers: sizes of the tensors that z consists of, in order, for rules that scale each by its own norm; () for one.
    """

    replica_type: ClassVar[type[Any]]
    blockwise: ClassVar[bool] = True
    """Whether `advance` is all that a step takes, so that it can be made in place."""

    weight_decay: float = 0.0
    decays: Vector | None = dataclasses.field(default=None, repr=False, compare=False)
    layers: tuple[int, ...] = dataclasses.field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.weight_decay < np.inf:
            raise ConfigError(f"weight_decay must be at least 0, got {self.weight_decay}")

    @property
    def unsliceable(self) -> str:
        """Why a step of it needs whole vectors; empty where it works coordinate by coordinate."""
        return "" if self.blockwise else f"its rule {type(self).__name__} needs whole tensors or norms of them"

    def vectors(self) -> tuple[str, ...]:
        """The names of the vectors that the rule keeps, z_D among them."""
        return tuple(field.name for field in dataclasses.fields(self.replica_type) if field.name != "iteration")

    def init(self, z_D: Vector) -> Any:
        """The state at z with empty memories."""
        zeros = {name: np.zeros(len(z_D)) for name in self.vectors() if name != "z_D"}
        return self.replica_type(z_D=z_D, iteration=0, **zeros)

    def point(self, replica: Any, step_size: float) -> Vector:
        """Where the operator is asked: z, unless the rule looks ahead."""
        del step_size
        z_D: Vector = replica.z_D
        return z_D

    def update(self, replica: Any, gradient_D: Vector, step_size: float) -> Any:
        """The state after one step, of the replica's own type; the arguments stay as they are."""
        old = {name: getattr(replica, name) for name in self.vectors()}
        new = {name: np.empty(len(gradient_D)) for name in old}
        for here in _blocks(len(gradient_D)):
            views = [{name: vector[here] for name, vector in of.items()} for of in (old, new)]
            change_B = self.advance(views[0], views[1], gradient_D[here], here, replica.iteration)
            self._move(views[0], views[1], change_B, here, step_size)
        self.finish(old, new, step_size)
        return dataclasses.replace(replica, iteration=replica.iteration + 1, **new)

    def advance(self, old: Vectors, new: Vectors, gradient_B: Vector, here: slice, done: int) -> Vector:
        """Fill the vectors `new` of a block but z from those before; `done` steps were made, `here` is the block's place.

        Returns the direction against which z moves, a new vector (B,).
        """
        raise NotImplementedError

    def fused(self, d: int, done: int, step_size: float) -> Fused | None:
        """One step of narrow states in one compiled pass: the bits of `narrow.py`'s; None where there is none."""
        del d, done, step_size
        return None

    def finish(self, old: Vectors, new: Vectors, step_size: float) -> None:
        """What needs whole vectors, after all blocks; nothing for most rules."""

    def decaying(self, here: slice) -> Vector | bool:
        """Which coordinates of a block decay."""
        return True if self.decays is None else self.decays[here]

    def _decay(self, here: slice) -> Vector | float:
        """The weight decay of a block's coordinates."""
        return self.weight_decay if self.decays is None else np.where(self.decays[here], self.weight_decay, 0.0)

    def _move(self, old: Vectors, new: Vectors, change_B: Vector, here: slice, step_size: float) -> None:
        """Fill z <- (1 - step weight_decay) z - step change; the memory of `change_B` is spent."""
        change_B *= step_size
        if self.weight_decay:
            np.multiply(old["z_D"], 1.0 - step_size * self._decay(here), out=new["z_D"])
            new["z_D"] -= change_B
        else:
            np.subtract(old["z_D"], change_B, out=new["z_D"])


def _blocks(d: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, d)) for start in range(0, d, _BLOCK))
