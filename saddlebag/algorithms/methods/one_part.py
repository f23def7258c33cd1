"""What methods share that send one vector up and one down in every round: the schema, and checks of their parameters."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from saddlebag.algorithms.base import Prox, check_step, identity_prox
from saddlebag.compression import Unbiased, kind_of, mean_noise
from saddlebag.compression.base import jointly
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Problem, ReplicaState
    from saddlebag.compression import Compressor, Draws

_SYNC_EVERY = 16  # rounds between comparisons of digests, for methods without synchronisations of their own


@dataclasses.dataclass(frozen=True, eq=False)
class Stateless:
    """Workers or a server that remember nothing."""


def require_unbiased(method: str, up: Compressor, down: Compressor) -> None:
    """Raise `ConfigError` unless both compressors are unbiased.

    Example:
        >>> import saddlebag as sb
        >>> try:
        ...     require_unbiased("qsgda", sb.make_compressor("top_k", k=1), sb.make_compressor("identity"))
        ... except sb.ConfigError as error:
        ...     print(str(error).partition(",")[0])
        qsgda needs an unbiased compressor up
    """
    for name, compressor in (("up", up), ("down", down)):
        if not isinstance(compressor, Unbiased):
            raise ConfigError(
                f"{method} needs an unbiased compressor {name}, got {compressor} ({kind_of(compressor)}); "
                "use one such as rand_k or natural"
            )
    refuse_joint(method, up, down)


def refuse_joint(method: str, up: Compressor, down: Compressor, *, whole: bool = True) -> None:
    """Raise `ConfigError` where a compressor that is dealt to all workers would be used by a server, or by some of them."""
    if jointly(down):
        raise ConfigError(f"{method} cannot compress the downlink with {down}, which is dealt to the workers; use it for up")
    if not whole and jointly(up):
        raise ConfigError(f"{method} needs all workers in every round for {up}; leave participants out")


def variance(problem: Problem, up: Compressor) -> float:
    """A with E|mean Q_m(x_m) - mean x_m|^2 <= A mean|x_m|^2: omega/M where errors average, omega on a common support.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=5)  # ten coordinates
        >>> [variance(game, sb.make_compressor("rand_k", k=5, support=support)) for support in ("own", "common")]
        [0.2, 1.0]
    """
    assert isinstance(up, Unbiased)
    a, b = mean_noise(up, problem.dimension, problem.num_workers)
    return a + max(-b, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnePart:
    """One compressed vector up and one down in every round.

    Attributes:
        step_size: gamma > 0.
        up, down: the workers' and the server's compressor.
        prox: of the problem.
    """

    step_size: float
    up: Compressor
    down: Compressor
    prox: Prox = identity_prox

    def __post_init__(self) -> None:
        check_step(self.step_size)

    def synchronises(self, replica: ReplicaState, draws: Draws) -> bool:
        return draws.round % _SYNC_EVERY == 0

    def uplink_sizes(self, replica: ReplicaState, draws: Draws) -> tuple[int, ...]:
        del draws
        return (len(replica.z_D),)

    downlink_sizes = uplink_sizes
