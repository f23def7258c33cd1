"""A method around a method: it does what the inner one does, but for what a subclass says otherwise."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.lean import StartsNarrow
from saddlebag.algorithms.method_capabilities import Narrow

if TYPE_CHECKING:
    from saddlebag.algorithms.base import AnyMethod, Message, Operator, Problem
    from saddlebag.compression import Draws, Mean, Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wrapped:
    """Passes every function of `Method` on.

    A subclass whose replica holds the inner one's says so in `_inner`, and one that changes the method from round to round in
    `_at`. What the inner method can do beside the contract is asked of `unwrapped`.

    Attributes:
        method: the inner one.
    """

    method: AnyMethod

    def _at(self, replica: Any) -> AnyMethod:
        """The method that makes this round's steps."""
        del replica
        return self.method

    def _inner(self, replica: Any) -> Any:
        """The inner method's replica."""
        return replica

    def init_replica(self, z_D: Vector) -> Any:
        return self.method.init_replica(z_D)

    def init_worker(self, replica: Any) -> Any:
        return self.method.init_worker(self._inner(replica))

    def init_server(self, replica: Any) -> Any:
        return self.method.init_server(self._inner(replica))

    def uplink_sizes(self, replica: Any, draws: Draws) -> tuple[int, ...]:
        return self.method.uplink_sizes(self._inner(replica), draws)

    def downlink_sizes(self, replica: Any, draws: Draws) -> tuple[int, ...]:
        return self.method.downlink_sizes(self._inner(replica), draws)

    def synchronises(self, replica: Any, draws: Draws) -> bool:
        return self.method.synchronises(self._inner(replica), draws)

    def worker_step(self, replica: Any, own: Any, operator: Operator, draws: Draws) -> tuple[Any, Message]:
        return self._at(replica).worker_step(self._inner(replica), own, operator, draws)

    def server_step(self, replica: Any, own: Any, means: tuple[Mean, ...], draws: Draws) -> tuple[Any, Message]:
        return self._at(replica).server_step(self._inner(replica), own, means, draws)

    def replay(self, replica: Any, down: Message, draws: Draws) -> Any:
        return self._at(replica).replay(self._inner(replica), down, draws)


def unwrapped(method: AnyMethod) -> AnyMethod:
    """The method inside: what knows compressors, a step size, a probability.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=2, workers=2)
        >>> steered = sb.make_method("extragradient", game, step_size="auto")
        >>> type(steered).__name__, type(unwrapped(steered)).__name__
        ('AutoStep', 'Extragradient')
    """
    while isinstance(method, Wrapped):
        method = method.method
    return method


def is_narrow(method: AnyMethod) -> bool:
    """Whether steps change the states that they are given; see `Narrow`."""
    inner: object = unwrapped(method)
    return isinstance(inner, Narrow) and inner.narrow


def start_of(method: AnyMethod, problem: Problem) -> Vector:
    """Where a run begins, for `init_replica`: as float32 where the method keeps no more and the problem can say it so."""
    if is_narrow(method) and isinstance(problem, StartsNarrow):
        return problem.start_narrow()
    return problem.start()


def sum_dtype(method: AnyMethod) -> type[np.float32] | type[np.float64]:
    """In which the workers' messages are summed."""
    return np.float32 if is_narrow(method) else np.float64
