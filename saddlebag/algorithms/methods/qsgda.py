"""Quantised descent-ascent: z+ = prox(z - gamma Q_s(mean of Q_m(F_m(z)))). One compressed vector each way a round.

Alistarh et al. 2017 for minimisation; Beznosikov, Gorbunov, Berard, Loizou 2022, "Stochastic gradient descent-ascent: unified
theory and new efficient methods", for saddle points (QSGDA). Differs: Lipschitz constants in place of star-cocoercivity, and
a compressed downlink.

Proven, with A = (1 + 2 omega_s) L^2 + 2 (1 + omega_s) (omega/M) L~^2, B = 2 omega_s |F(z*)|^2
+ 2 (1 + omega_s) (omega/M) mean |F_m(z*)|^2 and gamma <= mu/A (omega/M is omega on a common support):

    E|z+ - z*|^2 <= (1 - gamma mu) |z - z*|^2 + gamma^2 B,

hence linear convergence to a ball of squared radius gamma B / mu. Proof: z* = prox(z* - gamma F(z*)) and the prox is
nonexpansive; the mean of the estimate g is F(z), and E|g - F(z)|^2 <= omega_s |F(z)|^2 + (1 + omega_s)(omega/M) mean |F_m(z)|^2
with |F_m(z)|^2 <= 2 L_m^2 |z - z*|^2 + 2 |F_m(z*)|^2; then -2 gamma mu + gamma^2 A <= -gamma mu.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from saddlebag.algorithms.base import Message, Operator, Problem, known_constants
from saddlebag.algorithms.methods.one_part import OnePart, Stateless, require_unbiased, variance
from saddlebag.compression import Unbiased
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression import Compressor, Draws, Mean, Vector

__all__ = ["Qsgda", "qsgda"]


@dataclasses.dataclass(frozen=True, eq=False)
class PlainReplica:
    """The iterate alone."""

    z_D: Vector
    iteration: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qsgda(OnePart):
    """Descent-ascent on compressed operator values; it stops in a ball unless every F_m(z*) vanishes.

    Example:
        >>> from saddlebag.compression import Identity, Natural
        >>> Qsgda(step_size=0.05, up=Natural(), down=Identity()).needs_plain_mean  # any robust mean will do
        ''
    """

    needs_plain_mean: ClassVar[str] = ""
    unsliceable: ClassVar[str] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_unbiased("qsgda", self.up, self.down)

    def init_replica(self, z_D: Vector) -> PlainReplica:
        return PlainReplica(z_D, iteration=0)

    def init_worker(self, replica: PlainReplica) -> Stateless:
        del replica
        return Stateless()

    def init_server(self, replica: PlainReplica) -> Stateless:
        del replica
        return Stateless()

    def worker_step(self, replica: PlainReplica, own: Stateless, operator: Operator, draws: Draws) -> tuple[Stateless, Message]:
        return own, Message((self.up.encode(operator(replica.z_D, draws), draws),))

    def server_step(
        self, replica: PlainReplica, own: Stateless, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[Stateless, Message]:
        del replica
        return own, Message((means[0].compress(self.down, draws),))

    def replay(self, replica: PlainReplica, down: Message, draws: Draws) -> PlainReplica:
        del draws
        moved_D = replica.z_D - self.step_size * down.parts[0].dense()
        return PlainReplica(self.prox(moved_D, self.step_size), replica.iteration + 1)


def qsgda_growth(problem: Problem, up: Unbiased, down: Unbiased) -> float:
    """The constant A with E|g - F(z*)|^2 <= A |z - z*|^2 + B; see the module."""
    constants, d = known_constants(problem, "qsgda"), problem.dimension
    omega_down = down.omega(d)
    noise = 2.0 * (1.0 + omega_down) * variance(problem, up) * constants.lipschitz_rms**2
    return (1.0 + 2.0 * omega_down) * constants.lipschitz**2 + noise


def qsgda(problem: Problem, *, up: Compressor, down: Compressor, step_size: float | None = None) -> Qsgda:
    """Quantised descent-ascent for a problem; without a step size the proven mu/A.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method("qsgda", game, step_size=0.02, up="natural", down="identity")
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    if step_size is None:
        checked = Qsgda(step_size=1.0, up=up, down=down)
        mu = known_constants(problem, "qsgda").strong_monotonicity
        if not mu > 0:
            raise ConfigError("qsgda's theory needs strong monotonicity; give method.step_size a number")
        assert isinstance(checked.up, Unbiased)
        assert isinstance(checked.down, Unbiased)
        step_size = mu / qsgda_growth(problem, checked.up, checked.down)
    return Qsgda(step_size=step_size, up=up, down=down, prox=problem.prox)
