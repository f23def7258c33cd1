"""Optimizers of practice on the replicas, fed by a compressed exchange with error feedback in both directions.

    worker m   up   c_m = C(e_m + F_m(z)),      e_m <- e_m + F_m(z) - c_m
    server     down g = C_s(e + mean c_m),      e <- e + mean c_m - g
    replicas   z <- rule(z, g)                  AdamW, LAMB, SGD, optimistic Adam, ... (`optimizer_rules.py`)

As in DoubleSqueeze (Tang et al. 2019) with another last line. Outside the theory: Adam on a corrected gradient has no rate
for games, and the memories hold gradients, not steps, so what is owed is paid at the step size of the day it is paid.
Nobody sends an iterate or a moment: all replicas replay the rule on the downlink as received.

Local steps (McMahan et al. 2017; as an outer gradient Douillard et al. 2023): a worker takes H plain steps of
`local_step_size` on fresh batches, and sends (z - z_H) / (H local_step_size) in place of F_m(z).
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from saddlebag.algorithms.base import Message, Operator, Problem
from saddlebag.algorithms.one_part import OnePart, refuse_joint
from saddlebag.algorithms.optimizer_rules import RULES, Rule
from saddlebag.compression import Contractive, feed_back, kind_of
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.compression import Compressor, Draws, Mean, Vector

__all__ = [
    "CompressedOptimizer",
    "FeedbackMemory",
    "compressed_adamw",
    "compressed_extra_adam",
    "compressed_lamb",
    "compressed_optimistic_adam",
    "compressed_sgd",
]

Schedule = Literal["constant", "linear", "cosine"]


@dataclasses.dataclass(frozen=True, eq=False)
class FeedbackMemory:
    """What this side still owes, in units of the operator."""

    owed_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompressedOptimizer(OnePart):
    """A rule of practice with compressed gradients; see the module. Both compressors are contractive.

    Attributes:
        rule: what a replica does with a gradient.
        clip_norm: the largest norm of a worker's operator value; clipped before compression, so that memories owe no more
            than clipped values (clipping what arrives would throw away what the memory believes to be paid).
        warmup: iterations over which the step size rises to `step_size`.
        total: iterations over which `schedule` falls to 0 after the warm-up; needed for "linear" and "cosine".
        schedule: of the step size.
        local_steps, local_step_size: H and the step of the workers' own steps between exchanges.
    """

    rule: Rule
    clip_norm: float = math.inf
    warmup: int = 0
    total: int = 0
    schedule: Schedule = "constant"
    local_steps: int = 1
    local_step_size: float = 0.0
    replica_type: type[Any] = dataclasses.field(init=False, repr=False)

    worker_type = FeedbackMemory
    server_type = FeedbackMemory

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "replica_type", self.rule.replica_type)
        for name, compressor in (("up", self.up), ("down", self.down)):
            if not isinstance(compressor, Contractive):
                raise ConfigError(
                    f"compressed optimizers need a contractive compressor {name}, got {compressor} ({kind_of(compressor)}), "
                    "whose errors the memory would pile up; use one such as top_k or unscaled_rand_k"
                )
        refuse_joint("a compressed optimizer", self.up, self.down)
        if not self.clip_norm > 0:
            raise ConfigError(f"clip_norm must be positive, got {self.clip_norm}")
        if self.schedule not in get_args(Schedule):
            raise ConfigError(f"schedule must be one of {', '.join(get_args(Schedule))}, got {self.schedule!r}")
        if self.warmup < 0 or self.total < 0:
            raise ConfigError(f"warmup and total must be at least 0, got {self.warmup} and {self.total}")
        if self.schedule != "constant" and self.total <= self.warmup:
            raise ConfigError(f"schedule {self.schedule!r} needs total above warmup = {self.warmup}, got total = {self.total}")
        if self.local_steps < 1:
            raise ConfigError(f"local_steps must be at least 1, got {self.local_steps}")
        if self.local_steps > 1 and not 0 < self.local_step_size < math.inf:
            raise ConfigError(f"local_steps = {self.local_steps} needs a positive local_step_size, got {self.local_step_size}")

    def init_replica(self, z_D: Vector) -> Any:
        return self.rule.init(z_D)

    def init_worker(self, replica: Any) -> FeedbackMemory:
        return FeedbackMemory(np.zeros(len(replica.z_D)))

    def init_server(self, replica: Any) -> FeedbackMemory:
        return FeedbackMemory(np.zeros(len(replica.z_D)))

    def pace(self, iteration: int) -> float:
        """The step size of an iteration, counted from 0; never 0, so the last step of a schedule still moves."""
        if iteration < self.warmup:
            return self.step_size * (iteration + 1) / self.warmup
        if self.schedule == "constant":
            return self.step_size
        done = min((iteration - self.warmup) / (self.total - self.warmup), 1.0)
        return self.step_size * (1.0 - done if self.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done)))

    def worker_step(
        self, replica: Any, own: FeedbackMemory, operator: Operator, draws: Draws
    ) -> tuple[FeedbackMemory, Message]:
        step_size = self.pace(replica.iteration)
        point_D = self.rule.point(replica, step_size)
        if point_D is not replica.z_D:  # a look ahead may leave the feasible set
            point_D = self.prox(point_D, step_size)
        value_D = self._value(point_D, operator, draws)
        payload, owed_D = feed_back(self.up, self._clipped(value_D), own.owed_D, draws)
        return FeedbackMemory(owed_D), Message((payload,))

    def server_step(
        self, replica: Any, own: FeedbackMemory, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[FeedbackMemory, Message]:
        del replica
        payload, owed_D = feed_back(self.down, means[0].dense(), own.owed_D, draws)
        return FeedbackMemory(owed_D), Message((payload,))

    def replay(self, replica: Any, down: Message, draws: Draws) -> Any:
        del draws
        step_size = self.pace(replica.iteration)
        after = self.rule.update(replica, down.parts[0].dense(), step_size)
        z_D = self.prox(after.z_D, step_size)
        return after if z_D is after.z_D else dataclasses.replace(after, z_D=z_D)

    def _value(self, point_D: Vector, operator: Operator, draws: Draws) -> Vector:
        """The operator at a point, or the mean of its values along the worker's own steps from there."""
        if self.local_steps == 1:
            return operator(point_D, draws)
        z_D = point_D
        for step in range(self.local_steps):
            z_D = self.prox(z_D - self.local_step_size * operator(z_D, draws.within(step)), self.local_step_size)
        return (point_D - z_D) / (self.local_steps * self.local_step_size)

    def _clipped(self, value_D: Vector) -> Vector:
        norm = float(np.linalg.norm(value_D)) if self.clip_norm < math.inf else 0.0
        return value_D * (self.clip_norm / norm) if norm > self.clip_norm else value_D


def _build(
    name: str,
    problem: Problem,
    up: Compressor,
    down: Compressor,
    step_size: float | None,
    rule: dict[str, Any],
    exchange: dict[str, Any],
) -> CompressedOptimizer:
    """The method with a rule that knows the problem's tensors: vectors (biases, norms) do not decay, LAMB scales each."""
    if step_size is None:
        raise ConfigError(f"compressed_{name} is outside the theory and has no proven step; give method.step_size a number")
    tensors = getattr(problem, "tensors", ())
    decays: Any = None
    if tensors and rule.get("weight_decay"):
        decays = np.concatenate([np.full(tensor.size, len(tensor.shape) > 1) for tensor in tensors])
    made = RULES[name](**rule, decays=decays, layers=tuple(tensor.size for tensor in tensors))
    return CompressedOptimizer(step_size=step_size, up=up, down=down, prox=problem.prox, rule=made, **exchange)


def _factory(name: str, what: str, betas: tuple[float, float]) -> Callable[..., CompressedOptimizer]:
    def factory(
        problem: Problem,
        *,
        up: Compressor,
        down: Compressor,
        step_size: float | None = None,
        beta1: float = betas[0],
        beta2: float = betas[1],
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float = math.inf,
        warmup: int = 0,
        total: int = 0,
        schedule: Schedule = "constant",
        local_steps: int = 1,
        local_step_size: float = 0.0,
    ) -> CompressedOptimizer:
        rule = {"beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": weight_decay}
        exchange = {"clip_norm": clip_norm, "warmup": warmup, "total": total, "schedule": schedule}
        exchange |= {"local_steps": local_steps, "local_step_size": local_step_size}
        return _build(name, problem, up, down, step_size, rule, exchange)

    factory.__name__ = factory.__qualname__ = f"compressed_{name}"
    factory.__doc__ = f"{what} fed by compressed exchanges with error feedback; see `CompressedOptimizer`."
    return factory


compressed_adamw = _factory("adamw", "AdamW", (0.9, 0.999))
compressed_lamb = _factory("lamb", "LAMB", (0.9, 0.999))
compressed_sgd = _factory("sgd", "SGD with momentum `beta1`", (0.9, 0.0))
compressed_optimistic_adam = _factory("optimistic_adam", "Optimistic Adam", (0.5, 0.9))
compressed_extra_adam = _factory("extra_adam", "Extra Adam from the past", (0.5, 0.9))
