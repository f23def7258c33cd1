"""What the optimizers of practice share: a rule on the replicas, its schedule, clipping, and local steps of the workers.

Local steps (McMahan et al. 2017; as an outer gradient Douillard et al. 2023, "DiLoCo"): a worker takes H steps of its own from
the point where the operator is asked, on fresh batches, and sends

    (point - point_H) / (H local_step_size)

in place of F_m(point): the mean of its H directions, for H = 1 plain steps the operator's value itself. An outer step size of
H local_step_size with the rule `sgd` without momentum averages the workers' points; DiLoCo's outer rate of 0.7 is 0.7 of that.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypedDict, cast, get_args

import numpy as np

from saddlebag.algorithms.base import Operator, Prox, check_step, identity_prox, square
from saddlebag.algorithms.optimizers.rules import RULES, Adam, AdamReplica, rule_parameters
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.optimizers.rule import Rule
    from saddlebag.compression import Draws, Vector

_Schedule = Literal["constant", "linear", "cosine"]
_LocalRule = Literal["sgd", "adamw", "adamw_kept"]


@dataclasses.dataclass(frozen=True, eq=False)
class LocalMoments:
    """Adam's moving means of a worker's own steps, and how many those were."""

    first_D: Vector
    second_D: Vector
    count: int


class Ruled:
    """A replica that holds a rule's state."""

    rule: Any

    @property
    def z_D(self) -> Vector:
        """The iterate."""
        return cast("Vector", self.rule.z_D)

    @property
    def iteration(self) -> int:
        """Completed iterations."""
        return int(self.rule.iteration)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplicaOptimizer:
    """A rule of practice on the replicas; how gradients get there is the subclass's business.

    Attributes:
        step_size: gamma > 0, the largest of the schedule.
        rule: what a replica does with a gradient.
        prox: of the problem.
        clip_norm: the largest norm of a worker's operator value (or local direction), clipped before compression, so that
            memories never hold more than clipped values.
        warmup: iterations over which the step size rises to `step_size`.
        total: iterations at the end of which `schedule` has fallen to 0; needed for "linear" and "cosine".
        schedule: of the step size; local steps do not follow it.
        local_steps, local_step_size: H and the step of the workers' own steps between exchanges.
        local_rule: of these steps: "sgd", "adamw" begun anew in every round, or "adamw_kept", whose moving means stay.
    """

    step_size: float
    rule: Rule
    prox: Prox = identity_prox
    clip_norm: float = math.inf
    warmup: int = 0
    total: int = 0
    schedule: _Schedule = "constant"
    local_steps: int = 1
    local_step_size: float = 0.0
    local_rule: _LocalRule = "sgd"

    def __post_init__(self) -> None:
        check_step(self.step_size)
        if not self.clip_norm > 0:
            raise ConfigError(f"clip_norm must be positive, got {self.clip_norm}")
        for name, kinds in (("schedule", _Schedule), ("local_rule", _LocalRule)):
            check_choice(name, getattr(self, name), get_args(kinds))
        if self.warmup < 0 or self.total < 0:
            raise ConfigError(f"warmup and total must be at least 0, got {self.warmup} and {self.total}")
        if self.schedule != "constant" and self.total <= self.warmup:
            raise ConfigError(f"schedule {self.schedule!r} needs total above warmup = {self.warmup}, got total = {self.total}")
        if not 1 <= self.local_steps < 2**16:
            raise ConfigError(f"local_steps must lie in [1, 2^16), got {self.local_steps}")
        if self._walks and not 0 < self.local_step_size < math.inf:
            raise ConfigError(
                f"local_steps = {self.local_steps} of {self.local_rule} needs a positive local_step_size, "
                f"got {self.local_step_size}"
            )

    def clip(self, value_D: Vector) -> Vector:
        """A worker's value as it is scaled before compression; without local steps."""
        return clipped(value_D, self.clip_norm)

    def unclipped(self) -> Self:
        """The same without that."""
        return dataclasses.replace(self, clip_norm=math.inf)

    @property
    def _walks(self) -> bool:
        """Whether workers take steps of their own; one plain step is the operator's value."""
        return self.local_steps > 1 or self.local_rule != "sgd"

    def _local_start(self, d: int) -> LocalMoments | None:
        """What a worker's state holds for its local steps before the first of them."""
        return LocalMoments(np.zeros(d), np.zeros(d), 0) if self.local_rule == "adamw_kept" else None

    def _pace(self, iteration: int) -> float:
        """The step size of an iteration, counted from 0; 0 from `total` on."""
        if iteration < self.warmup:
            return self.step_size * (iteration + 1) / self.warmup
        if self.schedule == "constant":
            return self.step_size
        done = min((iteration - self.warmup) / (self.total - self.warmup), 1.0)
        return self.step_size * (1.0 - done if self.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done)))

    def _point(self, replica: Ruled) -> Vector:
        """Where an iteration asks the operator."""
        pace = self._pace(replica.iteration)
        point_D = self.rule.point(replica.rule, pace)
        return point_D if point_D is replica.z_D else self.prox(point_D, pace)

    def _gradient(
        self, point_D: Vector, local: LocalMoments | None, operator: Operator, draws: Draws
    ) -> tuple[Vector, LocalMoments | None]:
        """What a worker has to say of this point, clipped, and the moments of its own steps after it."""
        if self._walks:
            value_D, local = self._walk(point_D, local, operator, draws)
        else:
            value_D = operator(point_D, draws)
        return clipped(value_D, self.clip_norm), local

    def _moved(self, replica: Ruled, gradient_D: Vector) -> Any:
        """The rule's state after its step."""
        step_size = self._pace(replica.iteration)
        after = self.rule.update(replica.rule, gradient_D, step_size)
        z_D = self.prox(after.z_D, step_size)
        return after if z_D is after.z_D else dataclasses.replace(after, z_D=z_D)

    def _walk(
        self, point_D: Vector, local: LocalMoments | None, operator: Operator, draws: Draws
    ) -> tuple[Vector, LocalMoments | None]:
        """The mean direction of the worker's own steps from a point, and the moments that are kept."""
        z_D, step_size, adam = point_D, self.local_step_size, Adam()
        moments = None if self.local_rule == "sgd" else adam.init(point_D)
        if local is not None:
            moments = AdamReplica(point_D, local.first_D, local.second_D, local.count)
        for step in range(self.local_steps):
            value_D = operator(z_D, draws.within(step))
            if moments is None:
                z_D = self.prox(z_D - step_size * value_D, step_size)
            else:
                moments = adam.update(moments, value_D, step_size)
                z_D = self.prox(moments.z_D, step_size)
                moments = dataclasses.replace(moments, z_D=z_D)
        mean_D = (point_D - z_D) / (self.local_steps * step_size)
        if local is None or moments is None:
            return mean_D, None
        return mean_D, LocalMoments(moments.first_D, moments.second_D, moments.iteration)


class ReplicaKeys(TypedDict, total=False):
    """What may be set of every optimizer."""

    clip_norm: Annotated[float, ReplicaOptimizer]
    warmup: Annotated[int, ReplicaOptimizer]
    total: Annotated[int, ReplicaOptimizer]
    schedule: Annotated[_Schedule, ReplicaOptimizer]
    local_steps: Annotated[int, ReplicaOptimizer]
    local_step_size: Annotated[float, ReplicaOptimizer]
    local_rule: Annotated[_LocalRule, ReplicaOptimizer]


def clipped(x_D: Vector, largest: float) -> Vector:
    """The vector, scaled to a norm of at most `largest`."""
    norm = square(x_D) ** 0.5 if largest < math.inf else 0.0
    return x_D * (largest / norm) if norm > largest else x_D


def split_parameters(rule: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters of a rule, and the others. A parameter of another rule counts as the rule's, which will refuse it."""
    of_rules = {key for name in RULES for key in rule_parameters(name)}
    mine = {key: value for key, value in given.items() if key in of_rules}
    return mine, {key: value for key, value in given.items() if key not in mine}
