"""A worker's steps of secure aggregation: its uplink goes to the server masked, see docs/secure.md."""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.agreed.common_grid import require_shared
from saddlebag.algorithms.discrete_gaussian import discrete_gaussian, most
from saddlebag.compression import SERVER, Levels
from saddlebag.errors import LocalProtocolError, RemoteProtocolError
from saddlebag.proto.secure.member import Member
from saddlebag.proto.secure.messages import Step, round_context
from saddlebag.proto.secure.primitives import KeyPair, require_cryptography
from saddlebag.proto.secure.ring import Ring
from saddlebag.proto.v1 import parameter_server_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import numpy.typing as npt

    from saddlebag.client.core import WorkerCore
    from saddlebag.proto.secure.identity import Identity

__all__ = ["Securing"]

_GO, _AGAIN, _OVER = range(3)  # as in the schema's SecureReply


@dataclasses.dataclass(frozen=True, kw_only=True)
class Securing:
    """How the workers of a run mask what they send.

    Attributes:
        threshold: t, how many workers it takes to unmask a sum.
        num_workers: of the run.
        recipe: canonical JSON.
        identity: by which workers know each other's keys; None where they take them as the server tells them.
        noise: sigma of the noise that is added to the levels first, from the random bytes of the operating system: who could
            compute it, as whoever knows a run's seed, could take it off again. The worker's memory knows nothing of it, else it
            would be owed, and sent back later. 0 for none.

    Raises:
        ConfigError: the extra is not installed.
    """

    threshold: int
    num_workers: int
    recipe: str
    noise: float = 0.0
    identity: Identity | None = None

    def __post_init__(self) -> None:
        require_cryptography()

    @functools.cached_property
    def _sealing(self) -> KeyPair:
        """Of this process: who has met it once computes no exchange again."""
        return KeyPair.new(os.urandom)

    async def exchange(
        self,
        core: WorkerCore,
        ask: Callable[[pb.SecureRequest], Awaitable[pb.SecureReply]],
        send: Callable[[bytes, int], Awaitable[None]],
    ) -> None:
        """Send the uplink of the present round; returns when the server has what it needs, or goes on without this worker.

        Args:
            core: the worker's, with a step in progress.
            ask: the server's answer to a step.
            send: sends a masked vector, of an attempt by its number.

        Raises:
            RemoteProtocolError: what came of the server or of another member is wrong, and whose it was.
        """
        ring, level_D = self._ring(core), self._levels(core)
        if self.noise:
            level_D = level_D + self._noise(core, len(level_D))
        while True:
            outcome = await self._attempt(core, ring, level_D, ask, send)
            if outcome == _OVER:
                return
            if outcome != _AGAIN:
                raise RemoteProtocolError(f"the server's answer to a step of secure aggregation has the outcome {outcome}")

    async def _attempt(self, core: WorkerCore, ring: Ring, level_D: npt.NDArray[Any], ask: Any, send: Any) -> int:
        member = Member(core.worker, threshold=self.threshold, ring=ring, identity=self.identity, sealing=self._sealing)
        about: dict[str, Any] = {"epoch": core.epoch, "round": core.round}
        reply = await ask(pb.SecureRequest(**about, step=Step.KEYS, data=member.keys()))
        about["attempt"] = reply.attempt
        if reply.outcome == _GO:
            reply = await ask(pb.SecureRequest(**about, step=Step.SHARES, data=member.shares(reply.data)))
        if reply.outcome == _GO:
            await send(member.masked(reply.data, level_D), about["attempt"])
            reply = await ask(pb.SecureRequest(**about, step=Step.MASKED))
        if reply.outcome == _GO:
            reply = await ask(pb.SecureRequest(**about, step=Step.UNMASK, data=member.unmask(reply.data)))
        return int(reply.outcome)

    def _noise(self, core: WorkerCore, size: int) -> npt.NDArray[np.int64]:
        """Of this worker in this round: drawn once, so that a vector that is sent again is the same."""
        where = (core.epoch, core.round)
        if where not in self._drawn:
            self._drawn.clear()
            self._drawn[where] = discrete_gaussian(self.noise, np.frombuffer(os.urandom(8 * size), np.uint64))
        return self._drawn[where]

    @functools.cached_property
    def _drawn(self) -> dict[tuple[int, int], npt.NDArray[np.int64]]:
        return {}

    def _ring(self, core: WorkerCore) -> Ring:
        grid = require_shared(core.method, core.replica)
        size = sum(core.method.uplink_sizes(core.replica, core.draws.of(SERVER)))
        return Ring(
            size, grid.largest_level + most(self.noise), self.num_workers, round_context(self.recipe, core.epoch, core.round)
        )

    @staticmethod
    def _levels(core: WorkerCore) -> npt.NDArray[Any]:
        """The whole numbers of an uplink, one part after the other."""
        parts = core.uplink().parts
        levels = [part.level_D for part in parts if isinstance(part, Levels)]
        if len(levels) != len(parts):
            raise LocalProtocolError("an uplink that is to be masked must be of levels")
        return np.concatenate(levels)
