"""One rank's share of a worker's operator: of vectors on the host, as methods ask, and of tensors where the modules compute.

Shapes: D = parameters.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch

    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Vector


class Evaluates(Protocol):
    """What a part asks of its game: `ModuleGame.value`, and what the modules compute in."""

    @property
    def dtype(self) -> torch.dtype: ...

    def value(self, worker: int, z_D: Any, draws: Draws, parts: range, total: int) -> torch.Tensor: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """The mean of some of the equal parts of a worker's batch; both ways of asking give the same bits."""

    game: Evaluates
    worker: int
    parts: range
    total: int

    @property
    def exact_dtype(self) -> torch.dtype:
        """In which point and value lose nothing: what the modules compute in, unless a mean is taken of their gradients."""
        import torch

        return self.game.dtype if len(self.parts) == 1 else torch.float64

    def __call__(self, z_D: Vector, draws: Draws) -> Vector:
        """F at z, float64; float32 at a float32 point where nothing is lost by it, as narrow methods ask."""
        value_D = self.on_device(z_D, draws)
        narrow = z_D.dtype == np.float32 and value_D.dtype == self.game.dtype
        host_D: Vector = (value_D if narrow else value_D.double()).cpu().numpy()
        return host_D

    def on_device(self, z_D: torch.Tensor | Vector, draws: Draws) -> torch.Tensor:
        """F at z, of `exact_dtype`, (D,), on the game's device; z may lie anywhere. So a node adds up where gradients are."""
        return self.game.value(self.worker, z_D, draws, self.parts, self.total)
