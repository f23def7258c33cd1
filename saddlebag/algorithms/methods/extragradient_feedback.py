"""Compressed extragradient with error feedback: one memory serves both halves, on every worker and on the server.

    x_m = e_m + gamma F_m(point),   up C_m(x_m),   e_m <- x_m - C_m(x_m)
    X   = e + mean of C_m(x_m),     down g = C_s(X),   e <- X - g
    zh  = z - g at point z, then z+ = z - g at point zh

Seide et al. 2014 and Karimireddy et al. 2019 for the memory; the baseline of Beznosikov et al. 2022 ("CEG with error
feedback"). A baseline without a proven step: the compressed values do not vanish at the solution when workers differ, so it
stops in a neighbourhood or diverges. No prox: the memories hold displacements, and their bookkeeping is linear.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from saddlebag.algorithms.base import Message, Operator, Problem
from saddlebag.algorithms.methods.compressed_extragradient import CompressedReplica
from saddlebag.algorithms.methods.one_part import OnePart
from saddlebag.compression import Contractive, feed_back, kind_of
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression import Compressor, Draws, Mean, Vector

__all__ = ["ExtragradientFeedback", "extragradient_feedback"]


@dataclasses.dataclass(frozen=True, eq=False)
class Memory:
    """A displacement that is still owed."""

    memory_D: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtragradientFeedback(OnePart):
    """Extragradient on compressed values with memories; contractive compressors.

    Example:
        >>> from saddlebag.compression import Identity, TopK
        >>> ExtragradientFeedback(step_size=0.1, up=TopK(fraction=0.5), down=Identity()).up.fraction
        0.5
    """

    needs_plain_mean: ClassVar[str] = ""
    unsliceable: ClassVar[str] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, compressor in (("up", self.up), ("down", self.down)):
            if not isinstance(compressor, Contractive):
                raise ConfigError(
                    f"extragradient_feedback needs a contractive compressor {name}, got {compressor} "
                    f"({kind_of(compressor)}); use one such as top_k"
                )

    def init_replica(self, z_D: Vector) -> CompressedReplica:
        return CompressedReplica(z_D, z_D, iteration=0, at_half=False)

    def init_worker(self, replica: CompressedReplica) -> Memory:
        return Memory(np.zeros(len(replica.z_D)))

    def init_server(self, replica: CompressedReplica) -> Memory:
        return Memory(np.zeros(len(replica.z_D)))

    def worker_step(self, replica: CompressedReplica, own: Memory, operator: Operator, draws: Draws) -> tuple[Memory, Message]:
        payload, memory_D = feed_back(self.up, self.step_size * operator(replica.point_D, draws), own.memory_D, draws)
        return Memory(memory_D), Message((payload,))

    def server_step(
        self, replica: CompressedReplica, own: Memory, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[Memory, Message]:
        del replica
        payload, memory_D = feed_back(self.down, means[0].dense(), own.memory_D, draws)
        return Memory(memory_D), Message((payload,))

    def replay(self, replica: CompressedReplica, down: Message, draws: Draws) -> CompressedReplica:
        del draws
        moved_D = replica.z_D - down.parts[0].dense()
        if replica.at_half:
            return CompressedReplica(moved_D, moved_D, replica.iteration + 1, at_half=False)
        return CompressedReplica(replica.z_D, moved_D, replica.iteration, at_half=True)


def extragradient_feedback(
    problem: Problem, *, up: Compressor, down: Compressor, step_size: float | None = None
) -> ExtragradientFeedback:
    """Compressed extragradient with error feedback; there is no proven step, so one must be given.

    Raises:
        ConfigError: no step is given, the problem has a prox, or a compressor is not contractive.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method(
        ...     "extragradient_feedback",
        ...     game,
        ...     step_size=0.1,
        ...     up=sb.make_compressor("top_k", k=5),
        ...     down=sb.make_compressor("top_k", k=5),
        ... )
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=60))
        >>> run.merits["relative_error"] < 1.0
        True
    """
    if not problem.unconstrained:
        raise ConfigError(f"extragradient_feedback has no prox and {problem.name} needs one; use compressed_extragradient")
    if step_size is None:
        raise ConfigError("extragradient_feedback has no proven step size; give method.step_size a number")
    return ExtragradientFeedback(step_size=step_size, up=up, down=down)
