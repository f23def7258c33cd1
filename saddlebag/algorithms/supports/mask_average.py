"""Masks instead of weights: workers train the odds of every bit, and send the bits of a mask that they draw from them.

z are log-odds, p = 1 / (1 + exp(-z)) the chances of a mask's bits; the weights under it are frozen and known to all.

    worker m   z_m,H = H own steps from z;    b_m = 1 with probability p(z_m,H), else 0   up: b_m xor [z > 0], D bits
    server     how many of the b_m are not as [z > 0] says                                  down: counts, 0 ... M
    replicas   p <- (1 - alpha) p + alpha mean b_m,   z <- log(p / (1 - p))

What travels is where a mask is not what everybody would guess, coded by its frequencies: a bit each at first, and the less the
more is settled. E b_m = p(z_m,H), so the mean is unbiased, without memories, and of a worker only drawn bits are known. Nothing
is proven of the training.

Sources: training a mask over random weights, Zhou, Lan, Liu, Yosinski 2019 and Ramanujan et al. 2020; drawn masks as messages
of federated training, Isik, Pase, Gunduz, Weissman, Zorzi 2023. Differs: a moving mean where they count from a Beta law.

Shapes: D = bits of the mask.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from saddlebag.algorithms.base import Message, identity_prox
from saddlebag.algorithms.capabilities import HasMask
from saddlebag.algorithms.methods.one_part import Stateless
from saddlebag.algorithms.optimizers.inner import Inner, InnerRule, WalkKeys, inner_of
from saddlebag.compression import Levels
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Operator, Problem
    from saddlebag.compression import Draws, Mean, Vector

__all__ = ["mask_average"]

_SYNC_EVERY = 16  # rounds between comparisons of digests
_LEAST = 2.0**-10  # of a chance, and what it lacks of 1 at most: no bit is decided for ever
_MOST_WORKERS = 127  # counts are int8


@dataclasses.dataclass(frozen=True, eq=False)
class MaskReplica:
    """The log-odds."""

    z_D: Vector
    iteration: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskAverage:
    """Averages of drawn masks; see the module.

    Attributes:
        step_size: alpha in (0, 1], the weight of a round's mean mask.
        inner: the workers' own steps, whose moving means begin anew in every round.
        num_workers: M, at most 127.
    """

    step_size: float
    inner: Inner
    num_workers: int

    def __post_init__(self) -> None:
        if not 0 < self.step_size <= 1:
            raise ConfigError(f"mask_average.step_size must lie in (0, 1], got {self.step_size}")
        if not 1 <= self.num_workers <= _MOST_WORKERS:
            raise ConfigError(f"mask_average counts the masks of at most {_MOST_WORKERS} workers, got {self.num_workers}")

    def init_replica(self, z_D: Vector) -> MaskReplica:
        return MaskReplica(z_D, 0)

    def init_worker(self, replica: MaskReplica) -> Stateless:
        del replica
        return Stateless()

    init_server = init_worker

    def synchronises(self, replica: MaskReplica, draws: Draws) -> bool:
        del draws
        return replica.iteration % _SYNC_EVERY == 0

    def uplink_sizes(self, replica: MaskReplica, draws: Draws) -> tuple[int, ...]:
        del draws
        return (len(replica.z_D),)

    downlink_sizes = uplink_sizes

    def worker_step(self, replica: MaskReplica, own: Stateless, operator: Operator, draws: Draws) -> tuple[Stateless, Message]:
        d, first = len(replica.z_D), replica.iteration * self.inner.steps
        z_D, _ = self.inner.walk(replica.z_D, self.inner.moments(d), 0, first, operator, draws, identity_prox)
        bit_D = draws.own(Purpose.ROUNDING).uniforms(d) < _chance(z_D)
        return own, Message((_levels(bit_D != (replica.z_D > 0.0), 1),))

    def server_step(
        self, replica: MaskReplica, own: Stateless, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[Stateless, Message]:
        del replica, draws
        count_D = np.rint(means[0].dense() * self.num_workers)
        return own, Message((_levels(count_D, self.num_workers),))

    def replay(self, replica: MaskReplica, down: Message, draws: Draws) -> MaskReplica:
        del draws
        chance_D, changed_D = _chance(replica.z_D), down.parts[0].dense()
        mean_D = np.where(replica.z_D > 0.0, 1.0 - changed_D, changed_D)
        chance_D += self.step_size * (mean_D - chance_D)
        np.clip(chance_D, _LEAST, 1.0 - _LEAST, out=chance_D)
        return MaskReplica(np.log(chance_D) - np.log1p(-chance_D), replica.iteration + 1)


def _chance(z_D: Vector) -> Vector:
    """1 / (1 + exp(-z)), without overflow."""
    chance_D: Vector = 0.5 * (1.0 + np.tanh(0.5 * z_D))
    return chance_D


def _levels(count_D: Any, most: int) -> Levels:
    """Whole numbers of 0 to `most`, as shares of it."""
    return Levels(count_D.astype(np.int8), np.full(1, 1.0 / most, np.float32), max(len(count_D), 1))


def mask_average(
    problem: Problem,
    *,
    step_size: float | None = None,
    local_steps: int = 10,
    local_step_size: float = 0.3,
    local_rule: InnerRule = "adamw",
    **walk: Unpack[WalkKeys],
) -> MaskAverage:
    """Average drawn masks over frozen weights.

    Args:
        problem: what is solved, one that `HasMask`: z are the log-odds of its bits.
        step_size: the weight of a round's mean mask; 0.3 without.
        local_steps: of a worker in a round.
        local_step_size: of these, in log-odds.
        local_rule: of these.
        **walk: see `Walk`.

    Raises:
        ConfigError: the problem has no mask, or a parameter is out of range.

    Example:
        >>> import saddlebag as sb
        >>> problem = sb.make_problem("masked_network", data="digits", workers=2, hidden=[16])
        >>> run = sb.simulate(problem, sb.make_method("mask_average", problem), stop=sb.Stop(max_rounds=2))
        >>> run.up_bytes / 2 / problem.num_workers < problem.dimension / 8 + 64  # a bit each, and headers
        True
    """
    if not isinstance(problem, HasMask):
        raise ConfigError(
            f"mask_average needs a problem whose z are log-odds of a mask, such as masked_network; got {problem.name}"
        )
    none: dict[str, Any] = {"momentum": None, "weight_decay": 0.0, "clip_norm": float("inf")}
    inner = inner_of(problem, local_rule, steps=local_steps, step_size=local_step_size, **none, **walk)
    return MaskAverage(step_size=0.3 if step_size is None else step_size, inner=inner, num_workers=problem.num_workers)


mask_average.sends = "sends bits of masks, coded"  # type: ignore[attr-defined]  # what a list of methods says of it
