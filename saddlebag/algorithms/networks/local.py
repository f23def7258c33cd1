"""Variables of a game that belong to samples: how they look, and the operator of the worker that keeps them.

Shapes: N = samples of a worker, B = a batch, E = coordinates of all its samples' variables, D = of z.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Protocol

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from saddlebag.compression import Draws, Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalBlock:
    """Variables that belong to samples, such as perturbations: the worker that holds a sample keeps and raises its own.

    Attributes:
        shape: one sample's, from the worker's arrays.
        move: (variables, the loss's gradient in them, batch without them) -> the variables after a step of ascent.
        by_place: a worker keeps one for each place of a batch, not for each sample: what stands there is handed on to the next
            batch, as Shafahi et al. 2019 do, where all samples' would fill the memory.
    """

    shape: Callable[[tuple[Any, ...]], tuple[int, ...]]
    move: Callable[[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]], torch.Tensor]
    by_place: bool = False


class Blocks(Protocol):
    """What a keeper needs of its game."""

    @property
    def name(self) -> str: ...

    def block_shape(self, worker: int) -> tuple[int, ...]: ...

    def step(self, worker: int, z_D: Vector, block_E: Vector, draws: Draws) -> tuple[Vector, Vector]: ...


@dataclasses.dataclass(frozen=True)
class Keeper:
    """The operator of a worker that keeps local blocks."""

    game: Blocks
    worker: int

    @property
    def block_size(self) -> int:
        return math.prod(self.game.block_shape(self.worker))

    def step(self, z_D: Vector, block_E: Vector, draws: Draws) -> tuple[Vector, Vector]:
        return self.game.step(self.worker, z_D, block_E, draws)

    def __call__(self, z_D: Vector, draws: Draws) -> Vector:
        raise ConfigError(f"{self.game.name} keeps local blocks: make its method with make_method")
