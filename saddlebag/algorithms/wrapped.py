"""A method around a method: it does what the inner one does, but for what a subclass says otherwise."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Message, Operator
    from saddlebag.compression import Draws, Mean, Vector

__all__ = ["Wrapped"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wrapped:
    """Passes every function of `Method` on.

    Attributes:
        method: the inner one. Its type is Any, for a subclass asks for more than `Method` has.
    """

    method: Any

    @property
    def probability(self) -> float | None:
        """Of the method, where it has one."""
        return getattr(self.method, "probability", None)

    def init_replica(self, z_D: Vector) -> Any:
        return self.method.init_replica(z_D)

    def init_worker(self, replica: Any) -> Any:
        return self.method.init_worker(replica)

    def init_server(self, replica: Any) -> Any:
        return self.method.init_server(replica)

    def uplink_sizes(self, replica: Any, draws: Draws) -> tuple[int, ...]:
        sizes: tuple[int, ...] = self.method.uplink_sizes(replica, draws)
        return sizes

    def downlink_sizes(self, replica: Any, draws: Draws) -> tuple[int, ...]:
        sizes: tuple[int, ...] = self.method.downlink_sizes(replica, draws)
        return sizes

    def synchronises(self, replica: Any, draws: Draws) -> bool:
        return bool(self.method.synchronises(replica, draws))

    def worker_step(self, replica: Any, own: Any, operator: Operator, draws: Draws) -> tuple[Any, Message]:
        done: tuple[Any, Message] = self.method.worker_step(replica, own, operator, draws)
        return done

    def server_step(self, replica: Any, own: Any, means: tuple[Mean, ...], draws: Draws) -> tuple[Any, Message]:
        done: tuple[Any, Message] = self.method.server_step(replica, own, means, draws)
        return done

    def replay(self, replica: Any, down: Message, draws: Draws) -> Any:
        return self.method.replay(replica, down, draws)
