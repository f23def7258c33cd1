"""Naive compressed extragradient: extragradient with every F_m(.) compressed as it is. A baseline that does not converge.

The compression noise is proportional to F_m, which does not vanish at the solution when workers differ: with a constant
step the iterates stop in a ball around it, or diverge. The anchor of MASHA is the cure.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from saddlebag.algorithms.base import Message, Operator, Problem, Prox, identity_prox
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression import Compressor, Draws, Mean, Vector

__all__ = ["CompressedExtragradient", "compressed_extragradient"]


@dataclasses.dataclass(frozen=True, eq=False)
class CompressedReplica:
    """z and the point where F is asked next: z itself or the half point."""

    z_D: Vector
    point_D: Vector
    iteration: int
    at_half: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Stateless:
    """Workers and server remember nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompressedExtragradient:
    """Extragradient on compressed operator values; takes any compressor, and is honest about the result.

    Example:
        >>> from saddlebag.compression import Identity, Natural
        >>> CompressedExtragradient(step_size=0.1, up=Natural(), down=Identity()).step_size
        0.1
    """

    step_size: float
    up: Compressor
    down: Compressor
    prox: Prox = identity_prox

    needs_plain_mean: ClassVar[str] = ""
    unsliceable: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not (self.step_size > 0 and np.isfinite(self.step_size)):
            raise ConfigError(f"step_size must be a positive number, got {self.step_size}")

    def init_replica(self, z_D: Vector) -> CompressedReplica:
        return CompressedReplica(z_D, z_D, iteration=0, at_half=False)

    def init_worker(self, replica: CompressedReplica) -> Stateless:
        del replica
        return Stateless()

    def init_server(self, replica: CompressedReplica) -> Stateless:
        del replica
        return Stateless()

    def synchronises(self, replica: CompressedReplica, draws: Draws) -> bool:
        del draws
        return not replica.at_half and replica.iteration % 16 == 0

    def uplink_sizes(self, replica: CompressedReplica, draws: Draws) -> tuple[int, ...]:
        del draws
        return (len(replica.z_D),)

    downlink_sizes = uplink_sizes

    def worker_step(
        self, replica: CompressedReplica, own: Stateless, operator: Operator, draws: Draws
    ) -> tuple[Stateless, Message]:
        return own, Message((self.up.encode(operator(replica.point_D, draws), draws),))

    def server_step(
        self, replica: CompressedReplica, own: Stateless, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[Stateless, Message]:
        del replica
        return own, Message((means[0].compress(self.down, draws),))

    def replay(self, replica: CompressedReplica, down: Message, draws: Draws) -> CompressedReplica:
        del draws
        moved_D: Vector = self.prox(replica.z_D - self.step_size * down.parts[0].dense(), self.step_size)
        if replica.at_half:
            return CompressedReplica(moved_D, moved_D, replica.iteration + 1, at_half=False)
        return CompressedReplica(replica.z_D, moved_D, replica.iteration, at_half=True)


def compressed_extragradient(
    problem: Problem, *, up: Compressor, down: Compressor, step_size: float | None = None
) -> CompressedExtragradient:
    """Naive compressed extragradient; there is no proven step, so one must be given.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method(
        ...     "compressed_extragradient", game, step_size=0.1, up=sb.make_compressor("rand_k", k=5), down="identity"
        ... )
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    if step_size is None:
        raise ConfigError("compressed_extragradient has no proven step size; give method.step_size a number")
    return CompressedExtragradient(step_size=step_size, up=up, down=down, prox=problem.prox)
