"""Optimizers of practice on the replicas, fed by an exchange that is compressed in both directions, with memories.

    replicas   z <- rule(z, g)                  AdamW, LAMB, SGD, optimistic Adam, ... (`optimizer_rules.py`)

where g comes from x_m = F_m(z) with one of two memories:

    "feedback"      worker m  up    c_m = C(e_m + x_m),     e_m <- e_m + x_m - c_m
                    server    down  g = C_s(e + mean c_m),  e <- e + mean c_m - g
    "innovations"   worker m  up    c_m = C(x_m - h_m),     h_m <- h_m + c_m
                    server    down  C_s(mean h_m - g),      g <- g + C_s(.)    on every replica

The first is error feedback (Seide et al. 2014; both ways as in DoubleSqueeze, Tang et al. 2019): the sum of what is applied
follows the sum of what was computed, and a coordinate is silent until it is paid. The second is EF21 (Richtarik, Sokolov,
Fatkhullin 2021; both ways EF21-BC, Fatkhullin et al. 2021): g is an estimate of the mean of the x_m that is always there and
always late. With noisy gradients it follows the noise of single batches, so workers may send a moving mean instead
(`momentum_up`: EF21-SGDM, Fatkhullin, Tyurin, Richtarik 2023), v_m <- (1 - a) v_m + a F_m(z) in place of x_m.

With `late` the workers answer for the point of the round before, x_m = F_m(z_{t-1}), which they know while an exchange goes on:
a client computes the next value meanwhile (Pipe-SGD: Li, Yu, Li, Avestimehr, Kim, Schwing 2018).

Outside the theory: Adam on a corrected gradient has no rate for games. Nobody sends an iterate or a moment: all replicas replay
the rule on the downlink as received.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from saddlebag.algorithms.auto_step import square
from saddlebag.algorithms.base import Message, Operator, Problem
from saddlebag.algorithms.methods.one_part import OnePart, refuse_joint
from saddlebag.algorithms.optimizers.replica import ReplicaOptimizer, joined, signature_with, split_parameters
from saddlebag.algorithms.optimizers.rules import make_rule
from saddlebag.compression import Contractive, Vector, feed_back, kind_of, track
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.compression import Compressor, Draws, Mean

__all__ = [
    "CompressedOptimizer",
    "Known",
    "Memory",
    "compressed_adamw",
    "compressed_extra_adam",
    "compressed_lamb",
    "compressed_optimistic_adam",
    "compressed_sgd",
]

MemoryKind = Literal["feedback", "innovations"]


@dataclasses.dataclass(frozen=True, eq=False)
class Memory:
    """What this side owes (feedback), or what the other side knows of it (innovations): h_m, and on the server their mean."""

    memory_D: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class Average:
    """The moving mean of a worker's values, and of how many it is one."""

    average_D: Vector
    averaged: int


@dataclasses.dataclass(frozen=True, eq=False)
class Late:
    """Where a worker asks its operator in the next round."""

    asked_D: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """What every replica knows of the mean of the workers' values: g."""

    known_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompressedOptimizer(ReplicaOptimizer, OnePart):
    """A rule of practice with compressed gradients; see the module and `ReplicaOptimizer`. Both compressors are contractive.

    Attributes:
        memory: "feedback" or "innovations".
        momentum_up: a in (0, 1], the weight of the newest value in what a worker sends; 1 sends the values themselves.
        clip_estimate: the largest norm of g when it is applied, alike on all replicas; for innovations only. With error
            feedback what arrives counts as paid, and is the larger the longer it was owed, so clipping it would throw away a
            share of nearly everything: clip there before compression (`clip_norm`).
        late: workers ask at the point of the round before, so that computing and exchanging overlap; without local steps.
    """

    memory: MemoryKind = "feedback"
    momentum_up: float = 1.0
    clip_estimate: float = math.inf
    late: bool = False
    replica_type: type[Any] = dataclasses.field(init=False, repr=False, compare=False)
    worker_type: type[Any] = dataclasses.field(init=False, repr=False, compare=False)

    server_type = Memory

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("memory", self.memory, get_args(MemoryKind))
        for name, compressor in (("up", self.up), ("down", self.down)):
            if not isinstance(compressor, Contractive):
                raise ConfigError(
                    f"compressed optimizers need a contractive compressor {name}, got {compressor} ({kind_of(compressor)}), "
                    "whose errors the memory would pile up; use one such as top_k, or put it into 'scaled'"
                )
        refuse_joint("a compressed optimizer", self.up, self.down)
        if not 0 < self.momentum_up <= 1:
            raise ConfigError(f"momentum_up must lie in (0, 1], got {self.momentum_up}")
        if not self.clip_estimate > 0:
            raise ConfigError(f"clip_estimate must be positive, got {self.clip_estimate}")
        if self.clip_estimate < math.inf and self.memory == "feedback":
            raise ConfigError("clip_estimate needs memory = 'innovations': with feedback what arrives is paid; use clip_norm")
        if self.late and self._walks:
            raise ConfigError(f"late needs local_steps = 1 of the rule sgd, got {self.local_steps} of {self.local_rule}")
        knows = (Known,) if self.memory == "innovations" else ()
        averages = (Average,) if self.momentum_up < 1 else ()
        lates = (Late,) if self.late else ()
        object.__setattr__(self, "replica_type", joined(self.rule.replica_type, *knows))
        object.__setattr__(self, "worker_type", joined(Memory, *averages, *self.local_type, *lates))

    def init_replica(self, z_D: Vector) -> Any:
        return self._fresh(self.rule.init(z_D))

    def restart(self, replica: Any) -> Any:
        """The replica from which new memories start: z, the rule's moving means and the schedule stay."""
        return self._fresh(replica)

    def _fresh(self, replica: Any) -> Any:
        fields = {name: getattr(replica, name) for name in (*self.rule.vectors(), "iteration")}
        if self.memory == "innovations":
            fields["known_D"] = np.zeros(len(replica.z_D))
        return self.replica_type(**fields)

    def init_worker(self, replica: Any) -> Any:
        d = len(replica.z_D)
        average = {"average_D": np.zeros(d), "averaged": 0} if self.momentum_up < 1 else {}
        late = {"asked_D": self.point(replica)} if self.late else {}
        return self.worker_type(memory_D=np.zeros(d), **average, **self.local_start(d), **late)

    def foreseen(self, own: Any) -> Vector | None:
        """Where a worker will ask its operator next, if its state says so before the downlink is there."""
        return own.asked_D if self.late else None

    def init_server(self, replica: Any) -> Memory:
        return Memory(np.zeros(len(replica.z_D)))

    def worker_step(self, replica: Any, own: Any, operator: Operator, draws: Draws) -> tuple[Any, Message]:
        point_D = self.point(replica)
        value_D, fields = self.gradient(own.asked_D if self.late else point_D, own, operator, draws)
        fields |= {"asked_D": point_D} if self.late else {}
        if self.momentum_up < 1:
            if own.averaged:  # the first value stands for itself
                value_D = own.average_D + self.momentum_up * (value_D - own.average_D)
            fields |= {"average_D": value_D, "averaged": own.averaged + 1}
        remember = feed_back if self.memory == "feedback" else track
        payload, memory_D = remember(self.up, value_D, own.memory_D, draws)
        return self.worker_type(memory_D=memory_D, **fields), Message((payload,))

    def server_step(self, replica: Any, own: Memory, means: tuple[Mean, ...], draws: Draws) -> tuple[Memory, Message]:
        if self.memory == "feedback":
            payload, owed_D = feed_back(self.down, means[0].dense(), own.memory_D, draws)
            return Memory(owed_D), Message((payload,))
        mean_D = own.memory_D + means[0].dense()
        return Memory(mean_D), Message((self.down.encode(mean_D - replica.known_D, draws),))

    def replay(self, replica: Any, down: Message, draws: Draws) -> Any:
        del draws
        if self.memory == "feedback":
            return self.moved(replica, down.parts[0].dense())
        known_D = replica.known_D.copy()
        down.parts[0].add_to(known_D)
        norm = square(known_D) ** 0.5 if self.clip_estimate < math.inf else 0.0
        gradient_D = known_D * (self.clip_estimate / norm) if norm > self.clip_estimate else known_D
        return dataclasses.replace(self.moved(replica, gradient_D), known_D=known_D)


def _factory(name: str) -> Callable[..., CompressedOptimizer]:
    """The method of a rule by its name, whose parameters are those of the rule and of the exchange."""

    def factory(
        problem: Problem, *, up: Compressor, down: Compressor, step_size: float | None = None, **given: Any
    ) -> CompressedOptimizer:
        if step_size is None:
            raise ConfigError(f"compressed_{name} is outside the theory and has no proven step; give method.step_size a number")
        of_rule, others = split_parameters(name, given)
        rule = make_rule(name, problem, of_rule)
        return CompressedOptimizer(step_size=step_size, up=up, down=down, prox=problem.prox, rule=rule, **others)

    factory.__signature__ = signature_with(factory, name, CompressedOptimizer)  # type: ignore[attr-defined]
    factory.__name__ = factory.__qualname__ = f"compressed_{name}"
    factory.__doc__ = f"The rule {name} fed by compressed exchanges with memories; see `CompressedOptimizer`."
    return factory


compressed_adamw = _factory("adamw")
compressed_extra_adam = _factory("extra_adam")
compressed_lamb = _factory("lamb")
compressed_optimistic_adam = _factory("optimistic_adam")
compressed_sgd = _factory("sgd")
