"""The contracts of the mathematics: operator, problem, message, method.

A method is three pure functions that one round strings together:

    worker_step    replica, own state, operator  ->  own state', uplink       on every worker
    server_step    replica, own state, means     ->  own state', downlink     on the server
    replay         replica, downlink             ->  replica'                 everywhere, the server included

The *replica* is the state that is the same on every machine because all replay the same downlinks; it is never sent in an
ordinary round. The server half sees the uplinks only through their means over the workers, part by part, so a mean may be
formed while chunks arrive, in shards, or by an all-reduce. Drivers know these functions and nothing else.

Shapes: D = coordinates of the iterate, K = kept ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from saddlebag.compression import Draws, Mean, Payload, Vector
from saddlebag.errors import ConfigError

__all__ = [
    "Constants",
    "Message",
    "Method",
    "Operator",
    "Problem",
    "Prox",
    "ReplicaState",
    "Restartable",
    "identity_prox",
    "known_constants",
    "restarted",
]

Operator = Callable[[Vector, Draws], Vector]
"""F_m(z, draws): float64 (D,) -> float64 (D,). A function: equal arguments give bitwise equal values."""

Prox = Callable[[Vector, float], Vector]
"""prox_{gamma h}(v) = argmin_u h(u) + |u - v|^2 / (2 gamma): (vector, gamma) -> vector."""


def identity_prox(v_D: Vector, step_size: float) -> Vector:
    """The prox of h = 0.

    Example:
        >>> identity_prox(np.array([1.0, -2.0]), 0.5).tolist()
        [1.0, -2.0]
    """
    del step_size
    return v_D


@dataclasses.dataclass(frozen=True)
class Constants:
    """Known constants of a problem; every one is an upper (Lipschitz) or lower (mu) bound.

    Attributes:
        lipschitz: L of the mean operator F.
        lipschitz_workers: L_m of each F_m, in worker order.
        strong_monotonicity: mu of F; 0 for merely monotone.
        similarity: s, a Lipschitz constant of every F_m - F (0 for identical workers); None when nothing better is known
            than max L_m + L.

    Example:
        >>> import saddlebag as sb
        >>> sb.Constants(1.0, (1.0, 2.0), 0.1).lipschitz_rms
        1.5811388300841898
    """

    lipschitz: float
    lipschitz_workers: tuple[float, ...]
    strong_monotonicity: float
    similarity: float | None = None

    @property
    def lipschitz_rms(self) -> float:
        """L~ = sqrt(mean L_m^2)."""
        return float((sum(c * c for c in self.lipschitz_workers) / len(self.lipschitz_workers)) ** 0.5)


class Problem(Protocol):
    """A variational inequality, divided among workers: F = mean of the F_m, plus h by its prox.

    Example:
        >>> from saddlebag.algorithms.problems import BilinearGame
        >>> problem: Problem = BilinearGame.build(None, n=2, num_workers=3, seed=0)
        >>> problem.dimension, problem.num_workers, sorted(problem.merits(problem.start()))
        (4, 3, ['natural_residual', 'relative_error'])
    """

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def num_workers(self) -> int: ...

    @property
    def unconstrained(self) -> bool:
        """Whether h = 0, that is, the prox is the identity."""

    @property
    def constants(self) -> Constants | None:
        """Known constants, or None."""

    def start(self) -> Vector:
        """The starting point z^0, float64 (D,), feasible."""

    def operator(self, worker: int) -> Operator:
        """F_m of one worker."""

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        """prox_{gamma h}; the identity when h = 0."""

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """Named measures of quality at z, the first of which is the one to stop on; smaller is better."""


def known_constants(problem: Problem, method: str) -> Constants:
    """The problem's constants, or an error that says what to give instead.

    Example:
        >>> import saddlebag as sb
        >>> known_constants(sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2), "mine").strong_monotonicity
        0.2
    """
    if problem.constants is None:
        raise ConfigError(f"{method}: {problem.name} has no known constants; give method.step_size a number")
    return problem.constants


def check_step(step_size: float) -> None:
    """Raise `ConfigError` unless this is a positive number."""
    if not (step_size > 0 and np.isfinite(step_size)):
        raise ConfigError(f"step_size must be a positive number, got {step_size}")


def square(x_D: Vector) -> float:
    """|x|^2 by numpy's pairwise sum, whose bits depend on neither threads nor BLAS: replicas must agree on it."""
    return float(np.square(x_D).sum())


@dataclasses.dataclass(frozen=True)
class Message:
    """An uplink or a downlink: payloads, in an order that the method fixes.

    Example:
        >>> from saddlebag.compression import Dense
        >>> [part.dimension for part in Message((Dense(np.zeros(3)), Dense(np.zeros(1)))).parts]
        [3, 1]
    """

    parts: tuple[Payload, ...]


class ReplicaState(Protocol):
    """What drivers read of a replica.

    Example:
        >>> from saddlebag.algorithms import Ogda
        >>> replica: ReplicaState = Ogda(step_size=0.1).init_replica(np.zeros(2))
        >>> replica.z_D.tolist(), replica.iteration
        ([0.0, 0.0], 0)
    """

    @property
    def z_D(self) -> Vector:
        """The iterate."""

    @property
    def iteration(self) -> int:
        """Completed iterations of the method; an iteration may take more than one round."""


R = TypeVar("R", bound=ReplicaState)
W = TypeVar("W")
S = TypeVar("S")


class Method(Protocol[R, W, S]):
    """A distributed method; a frozen dataclass whose fields are its hyper-parameters.

    States are frozen dataclasses of float64 vectors, numbers and further states (see `state.py`); arguments are never mutated.
    Every replica has the fields and shapes of `init_replica`'s, every own state those of `init_worker`'s or `init_server`'s.

    Example:
        >>> from saddlebag.algorithms import Ogda
        >>> from saddlebag.compression import Draws
        >>> method: Method = Ogda(step_size=0.1)
        >>> replica = method.init_replica(np.zeros(2))
        >>> own, up = method.worker_step(replica, method.init_worker(replica), lambda z_D, draws: z_D + 1, Draws(0, 0))
        >>> up.parts[0].dense().tolist()
        [1.0, 1.0]
    """

    def init_replica(self, z_D: Vector) -> R:
        """The replicated state at the start, or at a restart from z."""

    def init_worker(self, replica: R) -> W: ...

    def init_server(self, replica: R) -> S: ...

    def uplink_sizes(self, replica: R, draws: Draws) -> tuple[int, ...]:
        """The dimension of each part of this round's uplink: the schema against which messages are checked."""

    def downlink_sizes(self, replica: R, draws: Draws) -> tuple[int, ...]:
        """The dimension of each part of this round's downlink."""

    def synchronises(self, replica: R, draws: Draws) -> bool:
        """Whether this round exchanges full vectors, so that replicas should compare digests."""

    def worker_step(self, replica: R, own: W, operator: Operator, draws: Draws) -> tuple[W, Message]: ...

    def server_step(self, replica: R, own: S, means: tuple[Mean, ...], draws: Draws) -> tuple[S, Message]:
        """The server's half of a round. The means are on loan: neither state nor message may keep their memory."""

    def replay(self, replica: R, down: Message, draws: Draws) -> R: ...


AnyMethod = Method[Any, Any, Any]


@runtime_checkable
class Restartable(Protocol):
    """A method that keeps more than z over a new epoch: moving means, the place in a schedule.

    Example:
        >>> class Keeps:
        ...     def restart(self, replica):
        ...         return replica
        >>> isinstance(Keeps(), Restartable)
        True
    """

    def restart(self, replica: Any) -> Any:
        """The replica with which the epoch begins."""


def restarted(method: AnyMethod, replica: Any) -> Any:
    """The replica with which an epoch begins: all memories are new, on workers and server; see `Restartable`.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=2, workers=2)
        >>> method = sb.make_method("extragradient", game, step_size=0.1)
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=10))
        >>> again = restarted(method, run.replica)
        >>> again.iteration, bool((again.z_D == run.z).all())
        (0, True)
    """
    return method.restart(replica) if isinstance(method, Restartable) else method.init_replica(replica.z_D)
