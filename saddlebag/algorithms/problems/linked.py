"""What programs with loops of their own solve together: nobody here knows it, but for its tensors and where it starts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.problems.data.rows import norm
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from saddlebag.algorithms.base import Operator
    from saddlebag.compression import Tensor, Vector


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class LinkedPrograms:
    """A problem whose operators are programs (`LinkedProgram`).

    Attributes:
        origin_D: the start, float64 (D,).
        tensors: what it consists of, in order.
        num_workers: how many programs there are.
        averaged: how many of the last coordinates are no parameters.
        name: for people.
    """

    origin_D: Vector
    tensors: Sequence[Tensor]
    num_workers: int
    averaged: int = 0
    name: str = "linked programs"

    def __post_init__(self) -> None:
        if (total := sum(tensor.size for tensor in self.tensors)) != len(self.origin_D):
            raise ConfigError(f"{self.name}: the tensors have {total} coordinates, the start has {len(self.origin_D)}")

    @property
    def dimension(self) -> int:
        return len(self.origin_D)

    @property
    def unconstrained(self) -> bool:
        return True

    @property
    def constants(self) -> None:
        return None

    def start(self) -> Vector:
        return np.array(self.origin_D, np.float64)

    def operator(self, worker: int) -> Operator:
        """There is none here.

        Raises:
            ConfigError: always: program `worker` has it.
        """
        raise ConfigError(f"worker {worker} of {self.name} is a program of its own: it calls saddlebag.join")

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        del step_size
        return v_D

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """moved, |z - z0| / |z0|: all that can be said of somebody else's loss is whether the point runs away."""
        return {"moved": norm(z_D - self.origin_D) / (norm(self.origin_D) or 1.0)}
