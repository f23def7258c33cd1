"""Update rules of practice, as pure functions of a replicated state: SGD with momentum, AdamW, LAMB, optimistic Adam.

They are outside the theory of variational inequalities: no rate is claimed. What is kept is the contract, so that every
replica replays the same update from the same downlink, bit for bit.

AdamW: Loshchilov, Hutter 2019. LAMB: You et al. 2020, Algorithm 2. Optimistic Adam: Daskalakis et al. 2018, Algorithm 1.
Extra Adam: Gidel et al. 2019, Algorithm 4, in its form with one operator value an iteration (extrapolation from the past).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression import Vector

__all__ = ["RULES", "Adam", "AdamReplica", "ExtraAdam", "Lamb", "Momentum", "MomentumReplica", "OptimisticAdam", "Rule"]


@dataclasses.dataclass(frozen=True, eq=False)
class MomentumReplica:
    """z and the momentum."""

    z_D: Vector
    first_D: Vector
    iteration: int


@dataclasses.dataclass(frozen=True, eq=False)
class AdamReplica:
    """z and the moving means of the gradient and of its square."""

    z_D: Vector
    first_D: Vector
    second_D: Vector
    iteration: int


@dataclasses.dataclass(frozen=True, eq=False)
class PastReplica(AdamReplica):
    """With the direction of the last step."""

    past_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One update of z from a gradient.

    Attributes:
        beta1, beta2: decay of the moving means of the gradient and of its square; beta1 alone is SGD's momentum.
        eps: added to the root of the second.
        weight_decay: decoupled, times the step size; on the coordinates of `decays` alone.
        decays: what decays, a boolean mask (D,), or None for everything.
        layers: sizes of the tensors that z consists of, in order, for rules that scale each by its own norm; () for one.
    """

    replica_type: ClassVar[type[Any]]

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    decays: Vector | None = dataclasses.field(default=None, repr=False, compare=False)
    layers: tuple[int, ...] = dataclasses.field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not self.eps > 0:
            raise ConfigError(f"eps must be positive, got {self.eps}")
        if not 0 <= self.weight_decay < np.inf:
            raise ConfigError(f"weight_decay must be at least 0, got {self.weight_decay}")

    def init(self, z_D: Vector) -> Any:
        """The state at z with empty memories."""
        fields = [field.name for field in dataclasses.fields(self.replica_type) if field.name not in ("z_D", "iteration")]
        return self.replica_type(z_D=z_D, iteration=0, **{name: np.zeros(len(z_D)) for name in fields})

    def point(self, replica: Any, step_size: float) -> Vector:
        """Where the operator is asked: z, unless the rule looks ahead."""
        del step_size
        z_D: Vector = replica.z_D
        return z_D

    def update(self, replica: Any, gradient_D: Vector, step_size: float) -> Any:
        """The state after one step; the arguments stay as they are."""
        raise NotImplementedError

    def _decayed(self, z_D: Vector, step_size: float) -> Vector:
        """A new vector: z with its weights decayed."""
        if not self.weight_decay:
            return z_D.copy()
        if self.decays is None:
            return z_D * (1.0 - step_size * self.weight_decay)
        return np.where(self.decays, z_D * (1.0 - step_size * self.weight_decay), z_D)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Momentum(Rule):
    """m <- beta1 m + g; z <- z - gamma m: torch.optim.SGD without dampening, but with decoupled decay."""

    replica_type: ClassVar[type[Any]] = MomentumReplica

    def update(self, replica: Any, gradient_D: Vector, step_size: float) -> MomentumReplica:
        first_D = self.beta1 * replica.first_D
        first_D += gradient_D
        z_D = self._decayed(replica.z_D, step_size)
        z_D -= step_size * first_D
        return MomentumReplica(z_D, first_D, replica.iteration + 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam(Rule):
    """AdamW, as torch.optim.AdamW computes it."""

    replica_type: ClassVar[type[Any]] = AdamReplica

    def update(self, replica: Any, gradient_D: Vector, step_size: float) -> AdamReplica:
        first_D, second_D, direction_D = self._moments(replica, gradient_D)
        z_D = self._decayed(replica.z_D, step_size)
        direction_D *= step_size
        z_D -= direction_D
        return AdamReplica(z_D, first_D, second_D, replica.iteration + 1)

    def _moments(self, replica: Any, gradient_D: Vector) -> tuple[Vector, Vector, Vector]:
        """The moving means after this gradient, and the step's direction without step size; three new vectors."""
        count = replica.iteration + 1
        first_D = self.beta1 * replica.first_D
        work_D = (1.0 - self.beta1) * gradient_D
        first_D += work_D
        second_D = self.beta2 * replica.second_D
        np.multiply(gradient_D, gradient_D, out=work_D)
        work_D *= 1.0 - self.beta2
        second_D += work_D
        np.sqrt(second_D, out=work_D)
        work_D /= np.sqrt(1.0 - self.beta2**count)
        work_D += self.eps
        np.divide(first_D, work_D, out=work_D)
        work_D /= 1.0 - self.beta1**count
        return first_D, second_D, work_D


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lamb(Adam):
    """Adam's direction and the decay, scaled in each tensor to the norm of its weights (1 where either norm is 0)."""

    def update(self, replica: Any, gradient_D: Vector, step_size: float) -> AdamReplica:
        first_D, second_D, direction_D = self._moments(replica, gradient_D)
        if self.weight_decay:
            decay_D = self.weight_decay * replica.z_D
            direction_D += decay_D if self.decays is None else np.where(self.decays, decay_D, 0.0)
        start = 0
        for size in self.layers or (len(direction_D),):
            here = slice(start, start := start + size)
            weight, change = (float(np.linalg.norm(x_D[here])) for x_D in (replica.z_D, direction_D))
            direction_D[here] *= step_size * (weight / change if weight > 0 and change > 0 else 1.0)
        return AdamReplica(replica.z_D - direction_D, first_D, second_D, replica.iteration + 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimisticAdam(Adam):
    """z <- z - gamma (2 u - u_past), u Adam's direction."""

    replica_type: ClassVar[type[Any]] = PastReplica

    def update(self, replica: Any, gradient_D: Vector, step_size: float) -> PastReplica:
        first_D, second_D, direction_D = self._moments(replica, gradient_D)
        z_D = self._decayed(replica.z_D, step_size)
        z_D -= step_size * (2.0 * direction_D - replica.past_D if replica.iteration else direction_D)
        return PastReplica(z_D, first_D, second_D, replica.iteration + 1, direction_D)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtraAdam(OptimisticAdam):
    """The operator is asked at z - gamma u_past, and z moves by what it says there: z <- z - gamma u."""

    def point(self, replica: Any, step_size: float) -> Vector:
        ahead_D: Vector = replica.z_D - step_size * replica.past_D
        return ahead_D

    def update(self, replica: Any, gradient_D: Vector, step_size: float) -> PastReplica:
        first_D, second_D, direction_D = self._moments(replica, gradient_D)
        z_D = self._decayed(replica.z_D, step_size)
        z_D -= step_size * direction_D
        return PastReplica(z_D, first_D, second_D, replica.iteration + 1, direction_D)


RULES: dict[str, type[Rule]] = {
    "adamw": Adam,
    "extra_adam": ExtraAdam,
    "lamb": Lamb,
    "optimistic_adam": OptimisticAdam,
    "sgd": Momentum,
}
"""The rules by name; a new one is a class and a line here."""
