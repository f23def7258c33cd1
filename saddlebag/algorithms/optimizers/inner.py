"""A worker's own steps between two exchanges, where they are ours: a rule with its schedule, decay and clipped gradients.

    z_0 = the replica's z
    g_h = clip(F_m(z_h));    z_{h+1} = prox(rule(z_h, g_h, gamma_h)),  h = 0 ... H - 1
    z_0 - z_H goes up

The moving means of the rule stay from round to round; the schedule counts inner steps. A gradient is clipped, never the walk.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, Unpack, get_args

import numpy as np

from saddlebag.algorithms.base import square
from saddlebag.algorithms.capabilities import HasTensors
from saddlebag.algorithms.optimizers.muon import Muon, matrices_of
from saddlebag.algorithms.optimizers.rules import Adam, Momentum
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Operator, Problem, Prox
    from saddlebag.algorithms.optimizers.rule import Rule
    from saddlebag.compression import Draws, Vector

InnerRule = Literal["sgd", "adamw", "muon"]
_InnerSchedule = Literal["constant", "linear", "cosine"]


def _inner_rule(
    name: InnerRule,
    problem: Problem,
    *,
    weight_decay: float,
    momentum: float | None = None,
    beta1: float = 0.9,
    beta2: float = 0.95,
    eps: float = 1e-8,
) -> Rule:
    """The rule of local steps; vectors (biases, norms) of a problem with tensors do not decay.

    `momentum` is that of sgd (0 without) and muon (0.95 without); the betas and eps are of adamw, and of what muon leaves it.

    Raises:
        ConfigError: a parameter is out of range or of another rule, or muon has no tensors to work on.
    """
    check_choice("local_rule", name, get_args(InnerRule))
    tensors = problem.tensors if isinstance(problem, HasTensors) else ()
    decays: Any = None
    if tensors and weight_decay:
        decays = np.concatenate([np.full(tensor.size, len(tensor.shape) > 1) for tensor in tensors])
    if name == "sgd":
        return Momentum(momentum=momentum or 0.0, weight_decay=weight_decay, decays=decays)
    adam = {"beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": weight_decay, "decays": decays}
    if name == "muon":
        if not (matrices := matrices_of(tensors)):
            raise ConfigError(f"local_rule 'muon' needs a problem with matrices, {problem.name} has none; take 'adamw'")
        return Muon(momentum=0.95 if momentum is None else momentum, matrices=matrices, **adam)
    if momentum is not None:
        raise ConfigError(f"local_momentum is for sgd and muon, got {momentum} for {name}; adamw has beta1")
    return Adam(**adam)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    """H steps of a rule; see the module.

    Attributes:
        steps: H, at least 1.
        rule: of a step.
        step_size: gamma, the largest of the schedule.
        clip_norm: the largest norm of a gradient.
        warmup: inner steps over which the step size rises.
        total: inner steps at whose end the schedule has fallen to 0; needed for "linear" and "cosine".
        schedule: "constant", "linear" or "cosine".
    """

    steps: int
    rule: Rule
    step_size: float
    clip_norm: float = math.inf
    warmup: int = 0
    total: int = 0
    schedule: _InnerSchedule = "constant"

    def __post_init__(self) -> None:
        if not 1 <= self.steps < 2**16:
            raise ConfigError(f"local_steps must lie in [1, 2^16), got {self.steps}")
        if not 0 < self.step_size < math.inf:
            raise ConfigError(f"local_step_size must be positive, got {self.step_size}")
        if not self.clip_norm > 0:
            raise ConfigError(f"clip_norm must be positive, got {self.clip_norm}")
        check_choice("schedule", self.schedule, get_args(_InnerSchedule))
        if self.warmup < 0 or self.total < 0:
            raise ConfigError(f"warmup and total must be at least 0, got {self.warmup} and {self.total}")
        if self.schedule != "constant" and self.total <= self.warmup:
            raise ConfigError(f"schedule {self.schedule!r} needs total above warmup = {self.warmup}, got total = {self.total}")

    def pace(self, step: int) -> float:
        """The step size of an inner step, counted from 0 over the whole run; 0 from `total` on."""
        if step < self.warmup:
            return self.step_size * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.step_size
        done = min((step - self.warmup) / (self.total - self.warmup), 1.0)
        return self.step_size * (1.0 - done if self.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done)))

    def moments(self, d: int) -> dict[str, Vector]:
        """What the rule remembers, before the first step."""
        return {name: np.zeros(d) for name in self.rule.vectors() if name != "z_D"}

    def walk(
        self, z_D: Vector, moments: dict[str, Vector], done: int, first: int, operator: Operator, draws: Draws, prox: Prox
    ) -> tuple[Vector, dict[str, Vector]]:
        """Where the steps lead from z, and what the rule remembers there.

        Args:
            z_D: where they begin.
            moments: as the last walk left them.
            done: steps that these moments have seen.
            first: number of the first of these steps in the run, for the schedule.
            operator: of the worker.
            draws: of the round.
            prox: of the problem.
        """
        state = self.rule.replica_type(z_D=z_D, iteration=done, **moments)
        for step in range(self.steps):
            pace = self.pace(first + step)
            value_D = operator(self.rule.point(state, pace), draws.within(step))
            norm = square(value_D) ** 0.5 if self.clip_norm < math.inf else 0.0
            state = self.rule.update(state, value_D * (self.clip_norm / norm) if norm > self.clip_norm else value_D, pace)
            near_D = prox(state.z_D, pace)
            state = state if near_D is state.z_D else dataclasses.replace(state, z_D=near_D)
        return state.z_D, {name: getattr(state, name) for name in moments}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Walk:
    """What methods with local steps are told alike, as keys of a recipe; what they differ in are arguments of their own.

    Attributes:
        beta1: weight of the past in adamw's moving mean of gradients, and in that of what muon leaves it.
        beta2: weight of the past in the moving mean of squared gradients.
        eps: added to the root of the second mean.
        schedule: of the local step size: "constant", "linear" or "cosine".
        warmup: local steps over which the local step size rises.
        total: local steps at whose end it has fallen to 0; needed for "linear" and "cosine".
    """

    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    schedule: _InnerSchedule = "constant"
    warmup: int = 0
    total: int = 0


class WalkKeys(TypedDict, total=False):
    """`Walk` as keys."""

    beta1: Annotated[float, Walk]
    beta2: Annotated[float, Walk]
    eps: Annotated[float, Walk]
    schedule: Annotated[_InnerSchedule, Walk]
    warmup: Annotated[int, Walk]
    total: Annotated[int, Walk]


def inner_of(
    problem: Problem,
    rule: InnerRule,
    *,
    steps: int,
    step_size: float,
    momentum: float | None,
    weight_decay: float,
    clip_norm: float,
    **keys: Unpack[WalkKeys],
) -> Inner:
    """The local steps that these keys ask for.

    Raises:
        ConfigError: a parameter is out of range or of another rule, or the rule does not fit the problem.

    Example:
        >>> from saddlebag.algorithms.problems import quadratic
        >>> problem = quadratic(None, num_workers=2)
        >>> own = {"steps": 4, "step_size": 0.1, "momentum": None, "weight_decay": 0.0, "clip_norm": 1.0}
        >>> inner_of(problem, "sgd", **own, schedule="linear", total=8).pace(4)
        0.05
    """
    walk = Walk(**keys)
    betas = {"beta1": walk.beta1, "beta2": walk.beta2, "eps": walk.eps}
    return Inner(
        steps=steps,
        rule=_inner_rule(rule, problem, weight_decay=weight_decay, momentum=momentum, **betas),
        step_size=step_size,
        clip_norm=clip_norm,
        warmup=walk.warmup,
        total=walk.total,
        schedule=walk.schedule,
    )
