"""Optimistic gradient with compressed innovations in both directions: one exchange an iteration, few bits each way.

Every side keeps a memory of what the other side knows and sends only what is new, compressed:

    worker m   up   C(F_m(z) - h_m),    h_m <- h_m + C(.)           server: the mean of the h_m, exactly
    server     down C_s(mean - h),      h <- h + C_s(.)             every replica
    replicas   z+ = prox(z - gamma (2 h - h_previous))

Memories approach F_m(z*) although it is not zero, so innovations, and with them the errors of any contractive compressor,
vanish at the solution. Where a problem says which part R of the F_m they have in common (`common_part.py`), memories follow
F_m - R, and replicas add R(z) to h. A `grid` of step "auto" sets itself (`auto_grid.py`). The uplink is EF21's (Richtarik,
Sokolov, Fatkhullin 2021), both ways as in EF21-BC (Fatkhullin et al. 2021); the step is Popov's (1980). The proof for the
combination is ours: docs/theory/innovations.md.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.agreed.auto_grid import DOWN, UP, UP_REST, Gauge, contraction, sets_itself, setting
from saddlebag.algorithms.agreed.auto_step import AutoStep, StepSize, Strain, automatic, optimistic_strain
from saddlebag.algorithms.agreed.common_part import CommonPart, common_part, tracked_constants
from saddlebag.algorithms.base import Message, Operator, Problem, identity_prox, known_constants, square
from saddlebag.algorithms.methods.one_part import OnePart
from saddlebag.compression import Compressor, Contractive, Draws, Mean, Vector, kind_of, track
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.agreed.auto_grid import Limits
    from saddlebag.algorithms.base import Constants

__all__ = ["Innovations", "innovations"]


@dataclasses.dataclass(frozen=True, eq=False)
class InnovationsReplica:
    """z, and what everybody knows of F at z's predecessor; where a grid sets itself, what it is set by.

    Attributes:
        z_D, iteration: as for every method.
        known_D: h, of F without what the workers have in common.
        common_D: R at z's predecessor; None for a problem without.
        gauge: of grids that set themselves.
    """

    z_D: Vector
    known_D: Vector
    iteration: int
    gauge: Gauge | None = None
    common_D: Vector | None = None

    @property
    def value_D(self) -> Vector:
        """What is known of F."""
        return self.known_D if self.common_D is None else self.known_D + self.common_D


@dataclasses.dataclass(frozen=True, eq=False)
class InnovationsWorker:
    """What the server knows of F_m: h_m."""

    known_D: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class InnovationsServer:
    """The mean of the h_m, exactly as the workers hold them."""

    mean_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class Innovations(OnePart):
    """The method with its hyper-parameters; see `OnePart`. Both compressors are contractive, or grids that set themselves.

    Attributes:
        common: what the problem's operators have in common, if it says so.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.compression import TopK
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = Innovations(step_size=0.02, up=TopK(fraction=0.5), down=TopK(fraction=0.5))
        >>> sb.simulate(game, method, stop=sb.Stop(max_rounds=60)).merits["relative_error"] < 1.0
        True
    """

    common: CommonPart | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, compressor in (("up", self.up), ("down", self.down)):
            if not isinstance(compressor, Contractive):
                raise ConfigError(
                    f"innovations needs a contractive compressor {name}, got {compressor} ({kind_of(compressor)}), "
                    "whose errors its memories would pile up; use one such as grid"
                )

    @property
    def _gauged(self) -> bool:
        return sets_itself(self.up) or sets_itself(self.down)

    def init_replica(self, z_D: Vector) -> InnovationsReplica:
        common_D = None if self.common is None else np.zeros(len(z_D))
        return InnovationsReplica(z_D, np.zeros(len(z_D)), 0, Gauge.new(len(z_D)) if self._gauged else None, common_D)

    def init_worker(self, replica: InnovationsReplica) -> InnovationsWorker:
        return InnovationsWorker(np.zeros(len(replica.z_D)))

    def init_server(self, replica: InnovationsReplica) -> InnovationsServer:
        return InnovationsServer(np.zeros(len(replica.z_D)))

    def worker_step(
        self, replica: InnovationsReplica, own: InnovationsWorker, operator: Operator, draws: Draws
    ) -> tuple[InnovationsWorker, Message]:
        value_D = operator(replica.z_D, draws)
        if self.common is not None:
            value_D = value_D - self.common(replica.z_D)
        payload, known_D = track(setting(self.up, _uplink(self.common), replica.gauge), value_D, own.known_D, draws)
        return InnovationsWorker(known_D), Message((payload,))

    def server_step(
        self, replica: InnovationsReplica, own: InnovationsServer, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[InnovationsServer, Message]:
        mean_D = own.mean_D + means[0].dense()
        payload, _ = track(setting(self.down, DOWN, replica.gauge), mean_D, replica.known_D, draws)
        return InnovationsServer(mean_D), Message((payload,))

    def replay(self, replica: InnovationsReplica, down: Message, draws: Draws) -> InnovationsReplica:
        del draws
        known_D = replica.known_D.copy()
        down.parts[0].add_to(known_D)
        common_D = None if self.common is None else self.common(replica.z_D)
        value_D = known_D if common_D is None else known_D + common_D
        slope_D = 2.0 * value_D - replica.value_D if replica.iteration else value_D
        z_D = self.prox(replica.z_D - self.step_size * slope_D, self.step_size)
        gauge = None if replica.gauge is None else replica.gauge.after(value_D - replica.value_D, z_D - replica.z_D)
        return InnovationsReplica(z_D, known_D, replica.iteration + 1, gauge, common_D)

    def strain(self, before: InnovationsReplica, down: Message, after: InnovationsReplica) -> Strain | None:
        """Of the optimistic step, on what is known of F; all of it is news at first.

        Under a prox F itself does not vanish at the solution, only the displacement does.
        """
        del down
        news_D = after.value_D - before.value_D
        strain = optimistic_strain(before, after, news_D)
        if after.gauge is not None:  # gradients bear gamma L = 2/3 where rotations bear 1/sqrt(3)
            strain = dataclasses.replace(strain, change=strain.change * (1.0 - after.gauge.lag / 4.0))
        unconstrained = self.prox is identity_prox
        slope = square(after.value_D + news_D) if unconstrained else strain.moved / self.step_size**2
        return dataclasses.replace(strain, news=square(news_D) / slope if slope > 0 else 0.0)

    def stay(self, before: InnovationsReplica, after: InnovationsReplica) -> InnovationsReplica:
        """With z where it was."""
        gauge = None if after.gauge is None else dataclasses.replace(after.gauge, moved_D=np.zeros(len(before.z_D)))
        return dataclasses.replace(after, z_D=before.z_D, gauge=gauge)


def _uplink(common: CommonPart | None) -> Limits:
    """Of the grids that workers set themselves."""
    return UP if common is None else UP_REST


def proven_step(constants: Constants, alpha: float, alpha_down: float) -> float:
    """The largest step of docs/theory/innovations.md, Theorem 1: the Lyapunov function contracts by 1 - gamma mu / 2.

    With eps^2 = (1 - alpha) / (1 - sqrt(1 - alpha))^2, which is 0 for alpha = 1 and at most 4 / alpha^2,

        gamma = min{ 1 / (4 L),  3 min(theta, theta_s) / (4 mu),  mu / (c L~^2) },   theta = 1 - sqrt(1 - alpha),
        c = 56 eps^2 with an uncompressed downlink, else 112 eps^2 + 896 eps_s^2 + 2091 eps^2 eps_s^2.

    Requires mu > 0.
    """
    theta, theta_down = (1.0 - math.sqrt(1.0 - value) for value in (alpha, alpha_down))
    gain, gain_down = (1.0 - alpha) / theta**2, (1.0 - alpha_down) / theta_down**2
    factor = 56.0 * gain if gain_down == 0.0 else 112.0 * gain + 896.0 * gain_down + 2091.0 * gain * gain_down
    mu = constants.strong_monotonicity
    step_size = min(1.0 / (4.0 * constants.lipschitz), 0.75 * min(theta, theta_down) / mu)
    return min(step_size, mu / (factor * constants.lipschitz_rms**2)) if factor > 0 else step_size


def innovations(problem: Problem, *, up: Compressor, down: Compressor, step_size: StepSize = None) -> Innovations | AutoStep:
    """Optimistic gradient with compressed innovations for a problem.

    Without a step size the proven one (`proven_step`), which holds for every contractive compressor and is far smaller than
    what grids bear: about 1 / (2 L), as without compression. Compressors that are left out are grids that set themselves.

    Raises:
        ConfigError: a compressor is not contractive, or constants are needed and unknown, or mu = 0.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method("innovations", game, step_size="auto")
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    common = common_part(problem)
    if isinstance(step_size, str):
        method = Innovations(step_size=1.0, up=up, down=down, prox=problem.prox, common=common)
        return automatic(method, step_size, problem)
    if step_size is None:
        checked = Innovations(step_size=1.0, up=up, down=down)
        constants = known_constants(problem, "innovations")
        if not constants.strong_monotonicity > 0:
            raise ConfigError("innovations has no proven step for a merely monotone problem; give method.step_size a number")
        alphas = (
            contraction(checked.up, _uplink(common), problem.dimension),
            contraction(checked.down, DOWN, problem.dimension),
        )
        step_size = proven_step(tracked_constants(constants, common), *alphas)
    return Innovations(step_size=step_size, up=up, down=down, prox=problem.prox, common=common)


innovations.compressors = {  # type: ignore[attr-defined]  # where a recipe names none: both set themselves
    "up": {"name": "grid", "step": "auto"},
    "down": {"name": "grid", "step": "auto"},
}
