"""A min-max game written in torch: each worker gives its part of the objective, autograd gives the operator.

torch is imported when the operator is first asked, so a server that only replays never loads it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.base import Constants, Operator, Prox, identity_prox
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Vector

    Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

__all__ = ["TorchGame"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class TorchGame:
    """Solve min over x, max over y of (1/M) sum_m f_m(x, y) + h, each f_m a torch function on one worker.

    z = (x, y) and F_m(z) = (grad_x f_m, -grad_y f_m), in float64.

    Attributes:
        objectives: f_m, one for each worker: two float64 tensors of the shapes of `x` and `y` to a scalar. A function: equal
            arguments give equal values.
        x, y: the starting point, any shapes.
        prox: prox_{gamma h} on the flat z; the identity for h = 0.
        solution: z*, flat, when it is known; the first merit is then the distance to it.
        constants: L and mu, when they are known, for the theory's step sizes.
        name: for people.

    Example:
        >>> import numpy as np
        >>> import saddlebag as sb
        >>> game = sb.TorchGame(objectives=(lambda x, y: x @ x + x @ y - y @ y,), x=np.ones(2), y=np.ones(2))
        >>> run = sb.simulate(game, sb.make_method("extragradient", game, step_size=0.2), stop=1e-6)
        >>> float(abs(run.z).max()) < 1e-6
        True
    """

    objectives: tuple[Objective, ...]
    x: Vector
    y: Vector
    prox: Prox = identity_prox
    solution: Vector | None = None
    constants: Constants | None = None
    name: str = "torch game"

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ConfigError("objectives must hold a function for each worker, got none")
        if self.solution is not None and len(self.solution) != self.dimension:
            raise ConfigError(f"solution must have {self.dimension} coordinates, got {len(self.solution)}")
        start_D = self.start()
        if (shape := np.shape(self.prox(start_D.copy(), 1.0))) != start_D.shape:
            raise ConfigError(f"prox must return the whole point, of shape {start_D.shape}, got one of shape {shape}")

    @property
    def dimension(self) -> int:
        return int(np.size(self.x) + np.size(self.y))

    @property
    def num_workers(self) -> int:
        return len(self.objectives)

    @property
    def unconstrained(self) -> bool:
        return self.prox is identity_prox

    def start(self) -> Vector:
        return np.concatenate((np.ravel(self.x), np.ravel(self.y))).astype(np.float64)

    def operator(self, worker: int) -> Operator:
        def ask(z_D: Vector, draws: Draws) -> Vector:
            """F_m(z).

            Raises:
                ConfigError: z has other than D coordinates, or the objective gives no scalar that torch can differentiate.
            """
            del draws
            return self._gradient(worker, z_D)

        return ask

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """Evaluate |z - z*| / |z0 - z*| if z* is known, then the natural residual |z - prox(z - F(z), 1)|."""
        mean_D = np.mean([self._gradient(worker, z_D) for worker in range(self.num_workers)], axis=0)
        residual = {"natural_residual": float(np.linalg.norm(z_D - self.prox(z_D - mean_D, 1.0)))}
        if self.solution is None:
            return residual
        scale = float(np.linalg.norm(self.start() - self.solution))
        return {"relative_error": float(np.linalg.norm(z_D - self.solution)) / (scale or 1.0), **residual}

    def _gradient(self, worker: int, z_D: Vector) -> Vector:
        import torch

        if np.shape(z_D) != (self.dimension,):
            raise ConfigError(f"{self.name}: z must have shape ({self.dimension},), that of x and y, got {np.shape(z_D)}")
        z = torch.from_numpy(z_D.astype(np.float64))
        x = z[: np.size(self.x)].reshape(np.shape(self.x)).requires_grad_()
        y = z[np.size(self.x) :].reshape(np.shape(self.y)).requires_grad_()
        value: Any = self.objectives[worker](x, y)
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise ConfigError(f"{self.name}: objective {worker} must return a scalar tensor, got {got}")
        if not value.requires_grad:
            raise ConfigError(
                f"{self.name}: objective {worker} does not depend on x or y as torch sees it; "
                "compute it from these tensors, by torch's functions and without detach or no_grad"
            )
        grad_x, grad_y = torch.autograd.grad(value, (x, y), materialize_grads=True)
        flat: Vector = torch.cat((grad_x.reshape(-1), -grad_y.reshape(-1))).numpy()
        return flat
