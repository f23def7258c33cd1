"""Local steps with a compressed exchange of what they changed, both ways, and a step of the replicas along its mean.

    worker m   Delta_m = z - z_m,H                where its own H steps lead from the replica's z
               c_m = C(beta e_m + Delta_m);       e_m <- beta e_m + Delta_m - c_m
    server     g = C_s(e + mean c_m);             e <- e + mean c_m - g
    replicas   m <- mu m + g;                     z <- prox(z - alpha (g + mu m))        with Nesterov, else z - alpha m

mu = 0, alpha = 1, nothing compressed: the average of the workers' points (McMahan et al. 2017; Stich 2019). Momentum outside:
Douillard et al. 2023, "DiLoCo". A memory that decays, beta < 1: Sarfi et al. 2025, "SparseLoCo". The server's memory is that of
DoubleSqueeze (Tang et al. 2019).

The local steps are those of `inner.py`, or somebody else's program's (`LinkedProgram`): then F_m(z) is Delta_m itself, and the
last `averaged` coordinates (statistics of normalisation) are averaged as they are, without memory, momentum or alpha.

Shapes: D = coordinates, P = those that are compressed, the first ones.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from saddlebag.algorithms.base import Message, Prox, check_step, identity_prox
from saddlebag.algorithms.merging import late_weight
from saddlebag.algorithms.methods.one_part import refuse_joint
from saddlebag.algorithms.optimizers.replica import clipped
from saddlebag.compression import Contractive, Dense, Vector, feed_back, kind_of
from saddlebag.compression.values import cast
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Operator
    from saddlebag.algorithms.optimizers.inner import Inner
    from saddlebag.compression import Compressor, Draws, Mean

__all__ = ["LocalRounds"]

_SYNC_EVERY = 16  # rounds between comparisons of digests


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """z alone; with its rests where it is narrow."""

    z_D: Vector
    iteration: int
    rest_D: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class MovingPoint:
    """z and the outer momentum; with its rests where it is narrow."""

    z_D: Vector
    outer_D: Vector
    iteration: int
    rest_D: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Owes:
    """What this side has not sent yet."""

    owed_D: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class OwesWithOne:
    """With the inner rule's momentum, and how many steps it has seen."""

    owed_D: Vector
    first_D: Vector
    steps: int


@dataclasses.dataclass(frozen=True, eq=False)
class OwesWithTwo:
    """With the inner rule's two moving means, and how many steps they have seen."""

    owed_D: Vector
    first_D: Vector
    second_D: Vector
    steps: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalRounds:
    """A method of local steps; see the module. Both compressors are contractive.

    Attributes:
        step_size: alpha > 0, of the outer step.
        momentum: mu in [0, 1), of the outer step.
        nesterov: whether the outer step looks ahead.
        decay: beta in (0, 1], of the workers' memories.
        up, down: the workers' and the server's compressor.
        inner: the local steps; None where a program makes them.
        averaged: how many coordinates at the end are averaged as they are.
        prox: of the problem.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> type(sb.make_method("local_average", game, step_size=0.05)).__name__
        'LocalRounds'
    """

    step_size: float
    momentum: float = 0.0
    nesterov: bool = True
    decay: float = 1.0
    up: Compressor
    down: Compressor
    inner: Inner | None = None
    averaged: int = 0
    prox: Prox = identity_prox

    narrow = False

    def __post_init__(self) -> None:
        check_step(self.step_size)
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must lie in [0, 1), got {self.momentum}")
        if not 0 < self.decay <= 1:
            raise ConfigError(f"decay must lie in (0, 1], got {self.decay}")
        for name, compressor in (("up", self.up), ("down", self.down)):
            if not isinstance(compressor, Contractive):
                raise ConfigError(
                    f"methods of local steps need a contractive compressor {name}, got {compressor} ({kind_of(compressor)}), "
                    "whose errors the memory would pile up; use one such as top_k, or put it into 'scaled'"
                )
        refuse_joint("a method of local steps", self.up, self.down)

    needs_plain_mean: ClassVar[str] = ""
    unmergeable = ""

    def late_weight(self, age: int) -> float:
        return late_weight(age)

    @property
    def unsliceable(self) -> str:
        """Why it does not work slice by slice: see `Sliceable`."""
        return "" if self.inner is None else self.inner.rule.unsliceable

    def clip(self, value_D: Vector) -> Vector:
        """A gradient as the local steps scale it."""
        return value_D if self.inner is None else clipped(value_D, self.inner.clip_norm)

    def unclipped(self) -> Self:
        """The same without that."""
        inner = None if self.inner is None else dataclasses.replace(self.inner, clip_norm=np.inf)
        return dataclasses.replace(self, inner=inner)

    @property
    def _worker_type(self) -> type[Any]:
        if self.inner is None:
            return Owes
        return OwesWithTwo if "second_D" in self.inner.rule.vectors() else OwesWithOne

    def init_replica(self, z_D: Vector) -> Any:
        return MovingPoint(z_D, np.zeros(len(z_D)), 0) if self.momentum else Point(z_D, 0)

    def restart(self, replica: Any) -> Any:
        """The replica from which new memories start: z, the outer momentum and the place in the schedule stay."""
        return replica

    def init_worker(self, replica: Any) -> Any:
        owed_D = np.zeros(len(replica.z_D))
        if self.inner is None:
            return Owes(owed_D)
        return self._worker_type(owed_D=owed_D, **self.inner.moments(len(owed_D)), steps=0)

    def init_server(self, replica: Any) -> Owes:
        return Owes(np.zeros(len(replica.z_D)))

    def synchronises(self, replica: Any, draws: Draws) -> bool:
        del replica
        return draws.round % _SYNC_EVERY == 0

    def uplink_sizes(self, replica: Any, draws: Draws) -> tuple[int, ...]:
        del draws
        d = len(replica.z_D)
        return (d - self.averaged, self.averaged) if self.averaged else (d,)

    downlink_sizes = uplink_sizes

    def worker_step(self, replica: Any, own: Any, operator: Operator, draws: Draws) -> tuple[Any, Message]:
        change_D, fields = self._change(replica, own, operator, draws)
        message, owed_D = self._sent(self.up, change_D, self.decay * own.owed_D, draws)
        return self._worker_type(owed_D=owed_D, **fields), message

    def _change(self, replica: Any, own: Any, operator: Operator, draws: Draws) -> tuple[Vector, dict[str, Any]]:
        """Delta_m, and what the worker remembers of its steps."""
        inner = self.inner
        if inner is None:
            return operator(replica.z_D, draws), {}
        moments = {name: getattr(own, name) for name in inner.rule.vectors() if name != "z_D"}
        first = replica.iteration * inner.steps
        z_D, moments = inner.walk(replica.z_D, moments, own.steps, first, operator, draws, self.prox)
        return replica.z_D - z_D, {**moments, "steps": own.steps + inner.steps}

    def _sent(self, compressor: Compressor, x_D: Vector, memory_D: Vector, draws: Draws) -> tuple[Message, Vector]:
        """A message of x and the memory, and the memory after it."""
        p = len(x_D) - self.averaged
        payload, owed_P = feed_back(compressor, x_D[:p], memory_D[:p], draws)
        if not self.averaged:
            return Message((payload,)), owed_P
        return Message((payload, Dense(cast(x_D[p:])))), np.append(owed_P, np.zeros(self.averaged))

    def server_step(self, replica: Any, own: Owes, means: tuple[Mean, ...], draws: Draws) -> tuple[Owes, Message]:
        mean_D = means[0].dense() if len(means) == 1 else np.concatenate([mean.dense() for mean in means])
        message, owed_D = self._sent(self.down, mean_D, own.owed_D, draws)
        return Owes(owed_D), message

    def replay(self, replica: Any, down: Message, draws: Draws) -> Any:
        del draws
        z_D, p = replica.z_D, len(replica.z_D) - self.averaged
        change_D = np.zeros(len(z_D))
        down.parts[0].add_to(change_D[:p])
        if self.averaged:
            down.parts[1].add_to(change_D[p:])
        if not self.momentum:
            change_D[:p] *= self.step_size
            return Point(self.prox(z_D - change_D, self.step_size), replica.iteration + 1)
        outer_D = self.momentum * replica.outer_D
        outer_D[:p] += change_D[:p]
        step_P = change_D[:p] + self.momentum * outer_D[:p] if self.nesterov else outer_D[:p]
        change_D[:p] = self.step_size * step_P
        return MovingPoint(self.prox(z_D - change_D, self.step_size), outer_D, replica.iteration + 1)
