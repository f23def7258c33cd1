"""A method on the coordinates that still move: the others are left out of every message, and which they are costs no bits.

A problem that `HasActiveSet` says which coordinates A(z) move at a point z, which all replicas know. A round is then one of the
inner method in |A| coordinates:

    messages, memories and the rule's moving means of A alone;  F and the prox are asked at the whole z and read on A

What lies outside A stays as it is, memories included. Where the support may be wrong, as on l1 where zeros may return, every
`every`-th iteration is one of all coordinates; with `every` = 0 there is none, for problems whose coordinates leave for good.

Sources: proximal methods identify active sets after finitely many steps (Wright 1993; Nutini, Schmidt, Hare 2019); here
they spare bytes and work. The combination with memories on both sides is ours, and nothing is proven of it.

Shapes: D = coordinates of z, A = those that move.
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.base import identity_prox
from saddlebag.algorithms.capabilities import HasActiveSet
from saddlebag.algorithms.supports.narrowing import OfTable, inner_of, put, taken
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from saddlebag.algorithms.base import Message, Operator, Problem, Prox
    from saddlebag.compression import Compressor, Draws, Index, Mean, Vector

__all__ = ["active_set"]

_OF = MappingProxyType({"name": "innovations"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActiveSet(OfTable):
    """An inner method on the coordinates that still move; itself a method, with the inner one's states.

    Attributes:
        method: the inner one.
        active: z -> the coordinates that move there, ascending.
        prox: of the problem.
        every: an iteration in so many is one of all coordinates; 0 for none.
    """

    active: Callable[[Vector], Index]
    prox: Prox = identity_prox
    every: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.every, int) or isinstance(self.every, bool) or self.every < 0:
            raise ConfigError(f"active_set.every must be a whole number of at least 0, got {self.every!r}")

    def _index(self, replica: Any) -> Index | None:
        """The coordinates of this round; None for all."""
        if self.every and replica.iteration % self.every == 0:
            return None
        index_A = self.active(replica.z_D)
        return None if len(index_A) == len(replica.z_D) else index_A

    def _small(self, replica: Any, index_A: Index) -> tuple[Any, Any]:
        """The inner method and its replica in the coordinates of this round."""
        d, z_D = len(replica.z_D), replica.z_D

        def prox(v_A: Vector, step_size: float) -> Vector:
            whole_D = z_D.astype(v_A.dtype)
            whole_D[index_A] = v_A
            moved_A: Vector = self.prox(whole_D, step_size)[index_A]
            return moved_A

        return taken(self.method, index_A, d, prox), taken(replica, index_A, d)

    def uplink_sizes(self, replica: Any, draws: Draws) -> tuple[int, ...]:
        index_A = self._index(replica)
        return self.method.uplink_sizes(replica if index_A is None else self._small(replica, index_A)[1], draws)

    def downlink_sizes(self, replica: Any, draws: Draws) -> tuple[int, ...]:
        index_A = self._index(replica)
        return self.method.downlink_sizes(replica if index_A is None else self._small(replica, index_A)[1], draws)

    def worker_step(self, replica: Any, own: Any, operator: Operator, draws: Draws) -> tuple[Any, Message]:
        index_A = self._index(replica)
        if index_A is None:
            return self.method.worker_step(replica, own, operator, draws)
        (method, small), z_D, d = self._small(replica, index_A), replica.z_D, len(replica.z_D)

        def asked(z_A: Vector, key: Draws) -> Vector:
            point_D = z_D.astype(z_A.dtype)
            point_D[index_A] = z_A
            value_A: Vector = operator(point_D, key)[index_A]
            return value_A

        after, up = method.worker_step(small, taken(own, index_A, d), asked, draws)
        return put(own, after, index_A, d), up

    def server_step(self, replica: Any, own: Any, means: tuple[Mean, ...], draws: Draws) -> tuple[Any, Message]:
        index_A = self._index(replica)
        if index_A is None:
            return self.method.server_step(replica, own, means, draws)
        (method, small), d = self._small(replica, index_A), len(replica.z_D)
        after, down = method.server_step(small, taken(own, index_A, d), means, draws)
        return put(own, after, index_A, d), down

    def replay(self, replica: Any, down: Message, draws: Draws) -> Any:
        index_A = self._index(replica)
        if index_A is None:
            return self.method.replay(replica, down, draws)
        method, small = self._small(replica, index_A)
        return put(replica, method.replay(small, down, draws), index_A, len(replica.z_D))


def active_set(
    problem: Problem,
    *,
    up: Compressor,
    down: Compressor,
    of: Mapping[str, Any] = _OF,
    every: int = 0,
    step_size: float | None = None,
) -> ActiveSet:
    """A method on the coordinates that still move.

    Args:
        problem: what is solved, one that `HasActiveSet`.
        up: of the inner method's workers; give it a share of the coordinates (`fraction`), not their number.
        down: of its server.
        of: the inner method as a table: its name, and what it takes beside compressors and a step size.
        every: an iteration in so many is one of all coordinates; 0 for none.
        step_size: of the inner method; without one its theory's.

    Raises:
        ConfigError: the problem has no active set, or the inner method is unknown or cannot leave coordinates out.

    Example:
        >>> import saddlebag as sb
        >>> problem = sb.make_problem("pruning_game", data="digits", workers=2, hidden=[8, 8])
        >>> grid, adamw = {"name": "grid", "step": 0.25}, {"name": "compressed_adamw"}
        >>> method = sb.make_method("active_set", problem, of=adamw, step_size=0.01, up=grid, down=grid)
        >>> run = sb.simulate(problem, method, stop=sb.Stop(max_rounds=2))
        >>> run.rounds
        2
    """
    if not isinstance(problem, HasActiveSet):
        raise ConfigError(
            f"active_set needs a problem that says which coordinates move, such as pruning_game; got {problem.name}"
        )
    method = inner_of("active_set", problem, of, up, down, step_size)
    return ActiveSet(method=method, active=problem.active, prox=problem.prox, every=every)
