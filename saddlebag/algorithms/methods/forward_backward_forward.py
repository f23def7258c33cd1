"""Forward-backward-forward, uncompressed: zh = prox(z - gamma F(z)), z+ = P(zh - gamma (F(zh) - F(z))).

Tseng 2000, "A modified forward-backward splitting method for maximal monotone mappings"; P projects on the domain of h.
One prox an iteration where extragradient takes two; two exchanges, as there.

With gamma <= min{1/(2L), 3/(8 mu)} every iteration contracts |z - z*|^2 by 1 - gamma mu. Proof: the prox inequality of zh at
z* and the strong monotonicity of F at zh give |z+-z*|^2 <= |z-z*|^2 - (1 - gamma^2 L^2)|z-zh|^2 - 2 gamma mu |zh-z*|^2, and
2|zh-z*|^2 >= |z-z*|^2 - 2|z-zh|^2, whose last term the second one covers: gamma^2 L^2 + 2 gamma mu <= 1.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.agreed.auto_step import AutoStep, StepSize, automatic
from saddlebag.algorithms.base import known_constants
from saddlebag.algorithms.methods.extragradient import Extragradient, ExtragradientReplica

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Message, Problem
    from saddlebag.algorithms.methods.full import WireType
    from saddlebag.compression import Draws

__all__ = ["ForwardBackwardForward", "forward_backward_forward"]

_PROJECTION = float(np.finfo(np.float64).tiny)
"""A step so small that prox_{gamma h} is the projection on the domain of h."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForwardBackwardForward(Extragradient):
    """Tseng's method with a constant step; rounds and states are those of extragradient.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> run = sb.simulate(game, ForwardBackwardForward(step_size=0.2), stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """

    def replay(self, replica: ExtragradientReplica, down: Message, draws: Draws) -> ExtragradientReplica:
        if not replica.at_half:
            return super().replay(replica, down, draws)
        change_D = down.parts[0].dense()  # F(zh) - F(z): full vectors travel as increments
        z_D = self.prox(replica.point_D - self.step_size * change_D, _PROJECTION)
        return ExtragradientReplica(z_D, z_D, replica.operator_D + change_D, replica.iteration + 1, at_half=False)


def forward_backward_forward(
    problem: Problem, *, step_size: StepSize = None, wire: WireType = "float32"
) -> ForwardBackwardForward | AutoStep:
    """Forward-backward-forward for a problem; without a step size min{1/(2L), 3/(8 mu)}.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method("forward_backward_forward", game, step_size=0.2)
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    if isinstance(step_size, str):
        return automatic(ForwardBackwardForward(step_size=1.0, prox=problem.prox, wire=wire), step_size, problem)
    if step_size is None:
        constants = known_constants(problem, "forward_backward_forward")
        step_size = 1.0 / (2.0 * constants.lipschitz)
        if constants.strong_monotonicity > 0:
            step_size = min(step_size, 3.0 / (8.0 * constants.strong_monotonicity))
    return ForwardBackwardForward(step_size=step_size, prox=problem.prox, wire=wire)
