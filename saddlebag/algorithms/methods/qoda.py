"""Quantised optimistic dual averaging: steps that set themselves, one call and one compressed vector each way a round.

    asked at   z_t = z_1 - gamma_t (V_1 + ... + V_{t-1} + V_{t-1}),  V_t = Q_s(mean of Q_m(F_m(z_t))),  V_0 = 0
    gamma_t = step_size / sqrt(1 + |V_1 - V_0|^2 + ... + |V_{t-1} - V_{t-2}|^2)

Nguyen, Markov, Wu, Ramezani-Kebrya, Antonakopoulos, Alistarh, Cevher 2025, "Layer-wise quantization for quantized optimistic
dual averaging". Layers with quantisers of their own are `per_tensor`'s work. Differs: what is added up under the root is the
change of the mean, which all machines know, not those of the workers' own values, which would have to travel; levels stay as a
recipe gives them, where theirs are fitted again to the values' quantiles; the downlink may be compressed, too.

Proven, path by path, whatever the V_t are: with x_t = z_1 - gamma_t (V_1 + ... + V_{t-1}), S = sum |V_t - V_{t-1}|^2,
G = max |V_t - V_{t-1}| and c = step_size, for every z

    sum_t <V_t, z_t - z> <= |z - z_1|^2 sqrt(1 + S)/(2c) + c (sqrt(1 + S) - 1 + G^2/2) - sum_t |z_t - x_t|^2/(2 gamma_t).

For unbiased Q, where E<V_t, z_t - z> = E<F(z_t), z_t - z>, the mean of the z_t of a monotone F has 1/T of the right side as its
gap: O(1/sqrt T) under noise, O(1/T) without, where the last sum keeps S bounded. Proof: x_t minimises <V_1 + ... + V_{t-1}, .>
+ |. - z_1|^2/(2 gamma_t), and gamma_t never grows, so the regret of the z_t is at most |z - z_1|^2/(2 gamma_T) plus the sum of
<V_t - V_{t-1}, z_t - x> - (|z_t - x|^2 + |z_t - x_t|^2)/(2 gamma_t) at x = z_t - gamma_t (V_t - V_{t-1}), which is
gamma_t |V_t - V_{t-1}|^2/2 - |z_t - x_t|^2/(2 gamma_t). Sums of a_t/sqrt(1 + a_1 + ... + a_t) are at most 2 sqrt(1 + S) - 2,
and those with the root one term behind exceed them by max a_t at most.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from saddlebag.algorithms.base import Message, Operator, Problem, square
from saddlebag.algorithms.methods.one_part import OnePart, Stateless, require_unbiased
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression import Compressor, Draws, Mean, Vector

__all__ = ["qoda"]


@dataclasses.dataclass(frozen=True, eq=False)
class QodaReplica:
    """z_t; z_1, V_1 + ... + V_{t-1}, V_{t-1}, and the sum of squares under the root."""

    z_D: Vector
    start_D: Vector
    sum_D: Vector
    before_D: Vector
    changes: float
    iteration: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qoda(OnePart):
    """The method with its hyper-parameters; see `OnePart`. `step_size` is c, that of the first step."""

    needs_plain_mean: ClassVar[str] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_unbiased("qoda", self.up, self.down)

    def init_replica(self, z_D: Vector) -> QodaReplica:
        zeros_D = np.zeros(len(z_D))
        return QodaReplica(z_D, z_D, zeros_D, zeros_D, 0.0, 0)

    def init_worker(self, replica: QodaReplica) -> Stateless:
        del replica
        return Stateless()

    def init_server(self, replica: QodaReplica) -> Stateless:
        del replica
        return Stateless()

    def worker_step(self, replica: QodaReplica, own: Stateless, operator: Operator, draws: Draws) -> tuple[Stateless, Message]:
        return own, Message((self.up.encode(operator(replica.z_D, draws), draws),))

    def server_step(
        self, replica: QodaReplica, own: Stateless, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[Stateless, Message]:
        del replica
        return own, Message((means[0].compress(self.down, draws),))

    def replay(self, replica: QodaReplica, down: Message, draws: Draws) -> QodaReplica:
        del draws
        value_D = down.parts[0].dense()
        sum_D = replica.sum_D + value_D
        changes = replica.changes + square(value_D - replica.before_D)
        step_size = self.step_size / math.sqrt(1.0 + changes)
        z_D = replica.start_D - step_size * (sum_D + value_D)
        return QodaReplica(z_D, replica.start_D, sum_D, value_D, changes, replica.iteration + 1)


def qoda(problem: Problem, *, up: Compressor, down: Compressor, step_size: float = 1.0) -> Qoda:
    """Quantised optimistic dual averaging for a problem without constraints; no constant of it is needed.

    Raises:
        ConfigError: a compressor is not unbiased, or the problem has a prox.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> run = sb.simulate(game, sb.make_method("qoda", game, up="natural", down="identity"), stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    if not problem.unconstrained:
        raise ConfigError(f"qoda has no prox, and {problem.name} has constraints or a regulariser; innovations takes both")
    return Qoda(step_size=step_size, up=up, down=down)
