"""`LocalRounds` on narrow states (`narrow.py`), block by block and in place; and the choice between both.

A worker walks on a copy of z, the one vector that a round of local steps takes beside the states, the operator's value and what
the compressors take. What a linked program says is its own business.

Shapes: D = coordinates, P = those that are compressed, the first ones.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from saddlebag.algorithms.base import Message
from saddlebag.algorithms.capabilities import LinkedProgram
from saddlebag.algorithms.optimizers.local_rounds import LocalRounds, MovingPoint, Owes, Point
from saddlebag.algorithms.optimizers.narrow import (
    IN_PLACE,
    Bits16,
    Precision,
    clipped_narrow,
    join,
    move,
    narrow_start,
    norm,
    require_network,
    update_in_place,
)
from saddlebag.compression import Dense, Slices, feed_back_in_place, runs_of
from saddlebag.compression.values import cast
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Operator, Problem
    from saddlebag.algorithms.optimizers.inner import Inner
    from saddlebag.compression import Compressor, Draws, Mean, Vector

__all__ = ["Precision"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NarrowLocalRounds(LocalRounds):
    """See the module; a `Narrow` method."""

    narrow = True
    unmergeable = IN_PLACE

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inner is not None and not self.inner.rule.blockwise:
            rule = type(self.inner.rule).__name__
            raise ConfigError(f"precision 'float32' needs a local rule that works coordinate by coordinate, got {rule}")

    def init_replica(self, z_D: Vector) -> Any:
        high_D, rest_D = narrow_start(z_D)
        if self.momentum:
            return MovingPoint(high_D, np.zeros(len(z_D), np.float32), 0, rest_D)
        return Point(high_D, 0, rest_D)

    def clip(self, value_D: Vector) -> Vector:
        """A gradient as the local steps scale it: in the type in which they read it."""
        return value_D if self.inner is None else clipped_narrow(value_D, self.inner.clip_norm, np.float32)

    def init_worker(self, replica: Any) -> Any:
        d = len(replica.z_D)
        owed_D = np.zeros(d, np.float32)
        if self.inner is None:
            return Owes(owed_D)
        names = [name for name in self.inner.rule.vectors() if name != "z_D"]
        return self._worker_type(owed_D=owed_D, steps=0, **{name: np.zeros(d, np.float32) for name in names})

    def init_server(self, replica: Any) -> Owes:
        return Owes(np.zeros(len(replica.z_D), np.float32))

    def worker_step(self, replica: Any, own: Any, operator: Operator, draws: Draws) -> tuple[Any, Message]:
        owed_D, d = own.owed_D, len(replica.z_D)
        p = d - self.averaged
        if self.decay != 1.0:
            owed_D *= np.float32(self.decay)
        if self.inner is None:
            change_D = operator(replica.z_D, draws)
            tail_A = change_D[p:]
            np.add(owed_D[:p], change_D[:p], out=owed_D[:p], casting="same_kind")
        else:
            own, high_D, rest_D = self._walk(self.inner, replica, own, operator, draws)
            for here in runs_of(p):
                owed_D[here] += join(replica.z_D[here], replica.rest_D[here]) - join(high_D[here], rest_D[here])
            tail_A = join(replica.z_D[p:], replica.rest_D[p:]) - join(high_D[p:], rest_D[p:])
        return own, self._compressed(self.up, owed_D[:p], tail_A, draws)

    def _walk(self, inner: Inner, replica: Any, own: Any, operator: Operator, draws: Draws) -> tuple[Any, Vector, Bits16]:
        """The worker's state after its own steps, and where they lead, in two parts."""
        names = [name for name in inner.rule.vectors() if name != "z_D"]
        moments = {name: getattr(own, name) for name in names}
        state = inner.rule.replica_type(z_D=replica.z_D, iteration=own.steps, **moments)
        first, high_D, rest_D = replica.iteration * inner.steps, replica.z_D, replica.rest_D
        for step in range(inner.steps):
            pace = inner.pace(first + step)
            value_D = operator(inner.rule.point(state, pace), draws.within(step))
            if step == 0:  # not before: the first value is one at z itself, and takes most of the memory
                high_D, rest_D = replica.z_D.copy(), replica.rest_D.copy()
                state = dataclasses.replace(state, z_D=high_D)
            length = norm(value_D) if inner.clip_norm < np.inf else 0.0
            scale = inner.clip_norm / length if length > inner.clip_norm else 1.0
            state = update_in_place(inner.rule, state, rest_D, Slices(Dense(value_D)), pace, scale=scale)
            del value_D  # the next one takes its place
        return dataclasses.replace(own, steps=own.steps + inner.steps), high_D, rest_D

    def _compressed(self, compressor: Compressor, owed_P: Vector, tail_A: Vector, draws: Draws) -> Message:
        """A message of what is owed, which is left with the rest, and of what is averaged as it is."""
        payload = feed_back_in_place(compressor, owed_P, draws)
        return Message((payload, Dense(cast(tail_A)))) if self.averaged else Message((payload,))

    def server_step(self, replica: Any, own: Owes, means: tuple[Mean, ...], draws: Draws) -> tuple[Owes, Message]:
        owed_P = own.owed_D[: len(replica.z_D) - self.averaged]
        means[0].add_to(owed_P)
        tail_A = means[1].dense() if self.averaged else owed_P[:0]
        return own, self._compressed(self.down, owed_P, tail_A, draws)

    def replay(self, replica: Any, down: Message, draws: Draws) -> Any:
        del draws
        z_D, p, outer_D = replica.z_D, len(replica.z_D) - self.averaged, replica.outer_D if self.momentum else None
        slices, mu = Slices(down.parts[0]), np.float32(self.momentum)
        for here in runs_of(p):
            change_B = np.zeros(here.stop - here.start, np.float32)
            slices.add(here.start, change_B)
            if outer_D is not None:
                outer_B = outer_D[here]
                outer_B *= mu
                outer_B += change_B
                change_B = change_B + mu * outer_B if self.nesterov else outer_B.copy()
            change_B *= np.float32(self.step_size)
            move(z_D[here], replica.rest_D[here], change_B)
        if self.averaged:
            move(z_D[p:], replica.rest_D[p:], down.parts[1].dense().astype(np.float32))
        return dataclasses.replace(replica, iteration=replica.iteration + 1)


def local_rounds(
    problem: Problem,
    *,
    up: Compressor,
    down: Compressor,
    step_size: float,
    momentum: float = 0.0,
    decay: float = 1.0,
    inner: Inner,
    precision: Precision = "float64",
) -> LocalRounds:
    """The method for a problem: with these inner steps, or without any where programs make them.

    Raises:
        ConfigError: a parameter is out of range, or a compressor or the precision does not fit.
    """
    check_choice("precision", precision, get_args(Precision))
    if precision == "float32":
        require_network("a method of local steps", problem)
    program = isinstance(problem, LinkedProgram)
    return (NarrowLocalRounds if precision == "float32" else LocalRounds)(
        step_size=step_size,
        momentum=momentum,
        decay=decay,
        up=up,
        down=down,
        inner=None if program else inner,
        averaged=problem.averaged if isinstance(problem, LinkedProgram) else 0,
        prox=problem.prox,
    )
