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

With `common_range` all workers round to one grid (`common_grid.py`), so that a server that sees nothing but the sum of their
levels can go on, see docs/secure.md.

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

from saddlebag.algorithms.agreed.common_grid import CommonGrid, next_scale, require_common
from saddlebag.algorithms.base import Message, Operator
from saddlebag.algorithms.merging import late_weight
from saddlebag.algorithms.methods.one_part import OnePart, refuse_joint
from saddlebag.algorithms.optimizers.memories import MEMORIES
from saddlebag.algorithms.optimizers.replica import (
    LocalMoments,
    ReplicaOptimizer,
    Ruled,
    clipped,
)
from saddlebag.compression import Contractive, Vector, kind_of
from saddlebag.compression.support import Scope, Support
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from saddlebag.algorithms.optimizers.narrow import Precision
    from saddlebag.compression import Draws, Mean, Payload

__all__ = ["CompressedOptimizer"]

MemoryKind = Literal["feedback", "innovations"]


@dataclasses.dataclass(frozen=True, eq=False)
class OptimizerReplica(Ruled):
    """What every replica knows of the mean of the workers' values, g, with innovations; the rule's state; narrow: z's rests.

    `scale` is that of the workers' grid, with `common_range`.
    """

    known_D: Vector | None
    rule: Any
    rest_D: Any = None
    scale: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Average:
    """The moving mean of a worker's values, and of how many it is one."""

    mean_D: Vector
    count: int

    def with_value(self, value_D: Vector, weight: float) -> Average:
        """The mean in which a new value has this weight; the first value stands for itself."""
        mean_D = self.mean_D + weight * (value_D - self.mean_D) if self.count else value_D
        return Average(mean_D, self.count + 1)


@dataclasses.dataclass(frozen=True, eq=False)
class OptimizerWorker:
    """A worker's memory, and what further options keep.

    Attributes:
        memory_D: what it owes (feedback), or what the server knows of it (innovations): h_m.
        average: of its values, with `momentum_up` below 1.
        local: the moments of its own steps, with `local_rule` "adamw_kept".
        asked_D: where it asks its operator in the next round, with `late`.
    """

    memory_D: Vector
    average: Average | None
    local: LocalMoments | None
    asked_D: Vector | None


@dataclasses.dataclass(frozen=True, eq=False)
class Memory:
    """What the server owes (feedback), or the mean of what it knows of the workers (innovations)."""

    memory_D: Vector


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
        precision: of the states: "float64", or "float32" for networks (`narrow.py`).
        common_range: how far the grid of all workers reaches in the first round, in the units of the operator's values; later
            ones follow. 0 for scales of each worker's own. `up` must be nearest_int4 or nearest_int8, whose levels it has.
        common_fraction: share of the coordinates that workers send in a round, the same ones for all, drawn anew in every round
            from the run's seed; the rest is owed. Needs common_range.
        level_clip: the largest Euclidean norm of the levels that a worker sends, for differential privacy; with it the range of
            the grid stays. 0 for none.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method("compressed_sgd", game, up="nearest_int8", down="nearest_int8", step_size=0.05)
        >>> type(method).__name__, method.memory
        ('CompressedOptimizer', 'feedback')
    """

    memory: MemoryKind = "feedback"
    momentum_up: float = 1.0
    clip_estimate: float = math.inf
    late: bool = False
    precision: Precision = "float64"
    common_range: float = 0.0
    common_fraction: float = 1.0
    level_clip: float = 0.0

    narrow = False

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
        if self.common_range:
            require_common(self.up, self.common_range, self.memory)
        if not 0 < self.common_fraction <= 1 or (self.common_fraction < 1 and not self.common_range):
            raise ConfigError(f"common_fraction must lie in (0, 1], and needs common_range, got {self.common_fraction}")
        if not 0 <= self.level_clip < math.inf or (self.level_clip and not self.common_range):
            raise ConfigError(f"level_clip must be 0 or more, and needs common_range, got {self.level_clip}")

    @property
    def unmergeable(self) -> str:
        """Why no round can close without some workers: see `Mergeable`."""
        if self.memory == "innovations":
            return "with memory = 'innovations' the server knows the mean of all workers' values, to which each adds"
        if self.common_fraction < 1:
            return (
                "with common_fraction below 1 workers send the coordinates of one round, and a late uplink has those of another"
            )
        return "with late = true a worker has said beforehand where it asks next" if self.late else ""

    def late_weight(self, age: int) -> float:
        return late_weight(age)

    @property
    def unsliceable(self) -> str:
        """Why it does not work slice by slice: see `Sliceable`."""
        if self.clip_estimate < math.inf:
            return "clip_estimate is a norm of the whole downlink"
        if self.common_fraction < 1:
            return "common_fraction draws from all coordinates"
        if self._walks and self.clip_norm < math.inf:
            return "clip_norm is a norm of the whole of what local steps have changed"
        return self.rule.unsliceable

    @property
    def needs_plain_mean(self) -> str:
        """Why the server takes the plain mean only; empty where it does not: see `TakesAnyMean`."""
        known = "with memory = 'innovations' its server knows the mean of all workers' values, to which each adds"
        return known if self.memory == "innovations" else ""

    def init_replica(self, z_D: Vector) -> OptimizerReplica:
        scale = CommonGrid.reaching(self.common_range, self.up).scale if self.common_range else None
        return OptimizerReplica(MEMORIES[self.memory].known(len(z_D)), self.rule.init(z_D), scale=scale)

    def restart(self, replica: OptimizerReplica) -> OptimizerReplica:
        """The replica from which new memories start: z, the rule's moving means, the schedule and the grid stay."""
        return OptimizerReplica(MEMORIES[self.memory].known(len(replica.z_D)), replica.rule, scale=replica.scale)

    def common_grid(self, replica: OptimizerReplica) -> CommonGrid | None:
        """The grid that all workers round to in this round; None for scales of their own."""
        return None if replica.scale is None else CommonGrid.of(self.up, replica.scale, self.level_clip or math.inf)

    def _moves(self, replica: Any) -> bool:
        """Whether the grid follows what workers say of it."""
        return replica.scale is not None and not self.level_clip

    def _support(self, d: int) -> Support | None:
        """Which coordinates the workers send in a round; None for all."""
        if self.common_fraction == 1:
            return None
        return Support(d, min(d, math.ceil(self.common_fraction * d)), Scope.COMMON)

    def uplink_sizes(self, replica: Any, draws: Draws) -> tuple[int, ...]:
        del draws
        support = self._support(len(replica.z_D))
        size = len(replica.z_D) if support is None else support.size
        return (size, 2) if self._moves(replica) else (size,)

    def downlink_sizes(self, replica: Any, draws: Draws) -> tuple[int, ...]:
        del draws
        return (len(replica.z_D), 1) if self._moves(replica) else (len(replica.z_D),)

    def init_worker(self, replica: OptimizerReplica) -> OptimizerWorker:
        d = len(replica.z_D)
        average = Average(np.zeros(d), 0) if self.momentum_up < 1 else None
        return OptimizerWorker(np.zeros(d), average, self._local_start(d), self._point(replica) if self.late else None)

    def foreseen(self, own: OptimizerWorker) -> Vector | None:
        """Where a worker will ask its operator next, if its state says so before the downlink is there."""
        return own.asked_D

    def init_server(self, replica: OptimizerReplica) -> Memory:
        return Memory(np.zeros(len(replica.z_D)))

    def worker_step(
        self, replica: OptimizerReplica, own: OptimizerWorker, operator: Operator, draws: Draws
    ) -> tuple[OptimizerWorker, Message]:
        point_D = self._point(replica)
        asked_D = point_D if own.asked_D is None else own.asked_D
        value_D, local = self._gradient(asked_D, own.local, operator, draws)
        average = None if own.average is None else own.average.with_value(value_D, self.momentum_up)
        value_D = value_D if average is None else average.mean_D
        parts, memory_D = self._said(replica, own.memory_D, value_D, draws)
        return OptimizerWorker(memory_D, average, local, None if own.asked_D is None else point_D), Message(parts)

    def _said(
        self, replica: OptimizerReplica, memory_D: Vector, value_D: Vector, draws: Draws
    ) -> tuple[tuple[Payload, ...], Vector]:
        """The parts of a worker's uplink, and its memory after it."""
        grid, support = self.common_grid(replica), self._support(len(value_D))
        if grid is not None and support is not None:
            owed_D, index_K = memory_D + value_D, support.index_K(draws)
            sent_K = grid.clipped(owed_D[index_K])
            levels = grid.encode(sent_K, draws)
            owed_D[index_K] = sent_K - levels.dense()
            return (levels,) if self.level_clip else (levels, grid.fits(sent_K)), owed_D
        if grid is not None and self.level_clip:
            value_D = grid.clipped(memory_D + value_D) - memory_D
        payload, after_D = MEMORIES[self.memory].send(grid or self.up, value_D, memory_D, draws)
        return (payload,) if grid is None or self.level_clip else (payload, grid.fits(memory_D + value_D)), after_D

    def server_step(
        self, replica: OptimizerReplica, own: Memory, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[Memory, Message]:
        memory, mean_D, support = MEMORIES[self.memory], means[0].dense(), self._support(len(replica.z_D))
        if support is not None:
            mean_K, mean_D = mean_D, np.zeros(len(replica.z_D))
            mean_D[support.index_K(draws)] = mean_K
        payload, memory_D = memory.answer(self.down, own.memory_D, mean_D, replica.known_D, draws)
        parts = (payload, CommonGrid.move(means[1].dense())) if self._moves(replica) else (payload,)
        return Memory(memory_D), Message(parts)

    def replay(self, replica: OptimizerReplica, down: Message, draws: Draws) -> OptimizerReplica:
        del draws
        gradient_D, known_D = MEMORIES[self.memory].heard(replica.known_D, down.parts[0])
        scale = replica.scale
        if scale is not None and not self.level_clip:
            scale = next_scale(scale, down.parts[1])
        return OptimizerReplica(known_D, self._moved(replica, clipped(gradient_D, self.clip_estimate)), scale=scale)
