"""Update rules of practice, as pure functions of a replicated state: SGD with momentum, AdamW, LAMB, optimistic Adam.

They are outside the theory of variational inequalities: no rate is claimed. What is kept is the contract, so that every
replica replays the same update from the same downlink, bit for bit.

AdamW: Loshchilov, Hutter 2019. LAMB: You et al. 2020, Algorithm 2. Optimistic Adam: Daskalakis et al. 2018, Algorithm 1.
Extra Adam: Gidel et al. 2019, Algorithm 4, in its form with one operator value an iteration (extrapolation from the past).

Shapes: D = coordinates, B = those of a block.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from saddlebag.algorithms.base import square
from saddlebag.algorithms.capabilities import HasTensors
from saddlebag.algorithms.optimizers.rule import Fused, Rule, Vectors
from saddlebag.compression.kernels.loader import LARGE, compiled
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from saddlebag.algorithms.base import Problem
    from saddlebag.compression import Vector


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
class Momentum(Rule):
    """m <- momentum m + g; z <- z - gamma m: torch.optim.SGD without dampening, but with decoupled decay.

    Attributes:
        momentum: weight of the past in the moving direction, in [0, 1); 0 for plain steps.
        nesterov: whether momentum looks one step ahead: z <- z - gamma (g + momentum m).
    """

    replica_type: ClassVar[type[Any]] = MomentumReplica

    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_decay("momentum", self.momentum)

    def advance(self, old: Vectors, new: Vectors, gradient_B: Vector, here: slice, done: int) -> Vector:
        np.multiply(old["first_D"], self.momentum, out=new["first_D"])
        new["first_D"] += gradient_B
        if not self.nesterov:
            return new["first_D"].copy()
        change_B: Vector = self.momentum * new["first_D"]
        change_B += gradient_B
        return change_B


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam(Rule):
    """AdamW, as torch.optim.AdamW computes it.

    Attributes:
        beta1: weight of the past in the moving mean of gradients.
        beta2: weight of the past in the moving mean of squared gradients.
        eps: added to the root of the second mean.
    """

    replica_type: ClassVar[type[Any]] = AdamReplica

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_decay("beta1", self.beta1)
        _check_decay("beta2", self.beta2)
        if not self.eps > 0:
            raise ConfigError(f"eps must be positive, got {self.eps}")

    def update(self, replica: Any, gradient_D: Vector, step_size: float) -> Any:
        fused = _compiled() if len(gradient_D) >= LARGE and type(self).advance is Adam.advance else None
        if fused is None:
            return super().update(replica, gradient_D, step_size)
        new = [np.empty(len(gradient_D)) for _ in range(3)]
        fused.advance(
            *(np.ascontiguousarray(x_D) for x_D in (replica.z_D, replica.first_D, replica.second_D, gradient_D)),
            np.empty(0, bool) if self.decays is None else self.decays,
            *new,
            (self.beta1, self.beta2),
            self.eps,
            self._corrections(replica.iteration),
            step_size,
            1.0 - step_size * self.weight_decay,
        )
        fields = dict(zip(("z_D", "first_D", "second_D"), new, strict=True))
        return dataclasses.replace(replica, iteration=replica.iteration + 1, **fields)

    def advance(self, old: Vectors, new: Vectors, gradient_B: Vector, here: slice, done: int) -> Vector:
        return self._direction(old, new, gradient_B, done)

    def fused(self, d: int, done: int, step_size: float) -> Fused | None:
        kernel = _compiled() if d >= LARGE and type(self).advance is Adam.advance else None
        if kernel is None:
            return None
        rates = (step_size, step_size * self.weight_decay)
        numbers = (self.beta1, self.beta2, 1.0 - self.beta1, 1.0 - self.beta2, self.eps, *self._corrections(done), *rates)
        narrow, none = tuple(np.float32(number) for number in numbers), np.empty(0, bool)
        still = (*narrow[:-1], np.float32(0.0))

        def advance(of: Vectors, rest_B: Any, gradient_B: Vector, here: slice) -> None:
            decays_B = none if self.decays is None else self.decays[here]
            alike = not len(decays_B) or bool(decays_B.all())
            plain = alike or not decays_B.any()  # most blocks lie within a tensor: no mask to read
            given = (none if plain else decays_B, narrow if alike or not plain else still)
            kernel.advance_narrow(of["z_D"], rest_B, of["first_D"], of["second_D"], gradient_B, *given)

        return advance

    def _corrections(self, done: int) -> tuple[float, float]:
        """What makes the moving means unbiased, after `done` steps."""
        return 1.0 / (1.0 - self.beta1 ** (done + 1)), 1.0 / float(np.sqrt(1.0 - self.beta2 ** (done + 1)))

    def _direction(self, old: Vectors, new: Vectors, gradient_B: Vector, done: int) -> Vector:
        """The step's direction, a new vector, (B,); the moving means are filled."""
        first, second = self._corrections(done)
        work_B = (1.0 - self.beta1) * gradient_B
        np.multiply(old["first_D"], self.beta1, out=new["first_D"])
        new["first_D"] += work_B
        np.multiply(gradient_B, gradient_B, out=work_B)
        work_B *= 1.0 - self.beta2
        np.multiply(old["second_D"], self.beta2, out=new["second_D"])
        new["second_D"] += work_B
        np.sqrt(new["second_D"], out=work_B)
        work_B *= second
        work_B += self.eps
        np.divide(new["first_D"], work_B, out=work_B)
        work_B *= first
        return work_B


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lamb(Adam):
    """Adam's direction and the decay, scaled in each tensor to the norm of its weights (1 where either norm is 0)."""

    blockwise: ClassVar[bool] = False

    def advance(self, old: Vectors, new: Vectors, gradient_B: Vector, here: slice, done: int) -> Vector:
        change_B = self._direction(old, new, gradient_B, done)
        if self.weight_decay:
            change_B += self._decay(here) * old["z_D"]
        return change_B

    def _move(self, old: Vectors, new: Vectors, change_B: Vector, here: slice, step_size: float) -> None:
        new["z_D"][:] = change_B

    def finish(self, old: Vectors, new: Vectors, step_size: float) -> None:
        start = 0
        for size in self.layers or (len(new["z_D"]),):
            z_R, change_R = (of["z_D"][start : start + size] for of in (old, new))
            weight, change = square(z_R) ** 0.5, square(change_R) ** 0.5
            change_R *= -step_size * (weight / change if weight > 0 and change > 0 else 1.0)
            change_R += z_R
            start += size


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimisticAdam(Adam):
    """z <- z - gamma (2 u - u_past), u Adam's direction.

    Differs: beta1 is 0 unless given, where the papers on generative networks take 0.5; on a rotation momentum undoes optimism.
    """

    replica_type: ClassVar[type[Any]] = PastReplica

    beta1: float = 0.0
    beta2: float = 0.9

    def advance(self, old: Vectors, new: Vectors, gradient_B: Vector, here: slice, done: int) -> Vector:
        direction_B = self._direction(old, new, gradient_B, done)
        new["past_D"][:] = direction_B
        if done:
            direction_B *= 2.0
            direction_B -= old["past_D"]
        return direction_B


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtraAdam(OptimisticAdam):
    """The operator is asked at z - gamma u_past, and z moves by what it says there: z <- z - gamma u."""

    def point(self, replica: Any, step_size: float) -> Vector:
        ahead_D: Vector = replica.past_D * -step_size
        ahead_D += replica.z_D
        return ahead_D

    def advance(self, old: Vectors, new: Vectors, gradient_B: Vector, here: slice, done: int) -> Vector:
        new["past_D"][:] = self._direction(old, new, gradient_B, done)
        return new["past_D"].copy()


RULES: dict[str, type[Rule]] = {
    "adamw": Adam,
    "extra_adam": ExtraAdam,
    "lamb": Lamb,
    "optimistic_adam": OptimisticAdam,
    "sgd": Momentum,
}
"""The rules by name; a new one is a class and a line here, and a line in the registry of methods."""


def rule_parameters(name: str) -> dict[str, dataclasses.Field[Any]]:
    """What a recipe may set of a rule, in order."""
    return {field.name: field for field in dataclasses.fields(RULES[name]) if field.name not in ("decays", "layers")}


@functools.cache
def _compiled() -> Any | None:
    """AdamW's compiled step, or None where numba is not installed."""
    return importlib.import_module("saddlebag.algorithms.optimizers.compiled_adam") if compiled() is not None else None


def make_rule(name: str, problem: Problem, parameters: Mapping[str, Any]) -> Rule:
    """A rule that knows the problem's tensors: vectors (biases, norms) do not decay, LAMB scales each by itself.

    Raises:
        ConfigError: the name is unknown, or a parameter does not belong to the rule or is out of range.
    """
    check_choice("rule", name, sorted(RULES))
    known = rule_parameters(name)
    for key in parameters:
        if key not in known:
            raise ConfigError(f"rule {name!r} has no parameter {key!r}; known: {', '.join(known)}")
    tensors = problem.tensors if isinstance(problem, HasTensors) else ()
    decays: Any = None
    if tensors and parameters.get("weight_decay"):
        decays = np.concatenate([np.full(tensor.size, len(tensor.shape) > 1) for tensor in tensors])
    make: Callable[..., Rule] = RULES[name]
    return make(**parameters, decays=decays, layers=tuple(tensor.size for tensor in tensors))


def _check_decay(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} must lie in [0, 1), got {value}")
