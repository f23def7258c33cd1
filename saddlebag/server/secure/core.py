"""The server's state machine with secure aggregation: which workers a round waits for, and what the unmasked sum becomes.

a worker is lost      before its vector has come: with `on_lost` "pause" the round waits until it is back, and begins again with
                      new keys; with "drop" it goes on over those who stay, and its own state stays where it was
                      after its vector has come: the others unmask the sum, in which it is
it comes back         as it was, from the next round on; without its state from the present boundary, with a new memory
too few are left      to mask: the round waits for others; to unmask: the run ends, and can be resumed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from saddlebag.algorithms.agreed.common_grid import require_shared
from saddlebag.algorithms.discrete_gaussian import most
from saddlebag.compression import SERVER, Draws
from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.secure.messages import Step, round_context
from saddlebag.proto.secure.ring import Ring
from saddlebag.server import effects as ef
from saddlebag.server.quorum.merging import MergingCore
from saddlebag.server.secure.attempts import Attempts

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms import AnyMethod
    from saddlebag.compression import Vector
    from saddlebag.server.effects import Effect, ServerSettings
    from saddlebag.server.gather import Said
    from saddlebag.server.quorum.pool import Pool
    from saddlebag.server.secure.attempts import Answer

__all__ = ["SecureCore"]


class SecureCore(MergingCore):
    """See the module, and `MergingCore` for what it has in common with rounds that close at a quorum.

    Raises:
        ConfigError: the method's uplinks are no sums of whole numbers, or its server needs to know whose they are.
    """

    pool: Attempts

    def _new_pool(self, method: AnyMethod, start_D: Vector, settings: ServerSettings) -> Pool:
        require_shared(method, method.init_replica(start_D))
        self._notes: list[Effect] = []
        return Attempts(settings.secure, settings.num_workers)

    def open_round(self, now: float) -> None:
        grid = require_shared(self.method, self.replica)
        sizes = self.method.uplink_sizes(self.replica, Draws(self.settings.seed, self.round, SERVER))
        context = round_context(self.settings.recipe, self.epoch, self.round)
        reach = grid.largest_level + most(self.settings.noise)
        ring = Ring(sum(sizes), reach, self.settings.num_workers, context)
        scales = [grid.scale, *(1.0 for _ in sizes[1:])]
        self.pool.prepare(self.round, ring, list(zip(sizes, scales, strict=True)))
        super().open_round(now)

    # -- steps -----------------------------------------------------------------------------------------------------------

    def secure(self, worker: int, where: tuple[int, int], step: int, attempt: int, data: bytes, now: float) -> list[Effect]:
        """Take a step of a worker at an epoch and round.

        Raises:
            RemoteProtocolError: it is no such message, and whose it was.
        """
        if step not in list(Step):
            raise RemoteProtocolError(f"worker {worker} speaks of step {step} of secure aggregation; there are {len(Step)}")
        self.roster.see(worker, now)
        self._counted_s = now if self._counted_s is None else self._counted_s
        if where != (self.epoch, self.round) or self.finished:
            return []
        before = self.pool.stage
        self.pool.say(worker, Step(step), attempt, data)
        return [] if self.pool.stage == before else self._after_step(now)  # nobody else has an answer yet

    def secure_answer(self, worker: int, where: tuple[int, int], step: int, attempt: int) -> Answer | None:
        """What the worker is told; None while it is to wait."""
        return self.pool.answer(worker, where[1] if where[0] == self.epoch else -1, Step(step), attempt)

    def _after_step(self, now: float) -> list[Effect]:
        return [ef.Wake(), *self._when_due(now)]

    def _take(self, worker: int, raw: bytes, now: float) -> list[Effect]:
        before = self.pool.stage
        effects = super()._take(worker, raw, now)
        return effects if self.pool.stage == before else [ef.Wake(), *effects]

    def _collected(self, now: float) -> Said | None:
        said = super()._collected(now)
        if said is not None:
            self._notes += [ef.Note(f"round {self.round}: {text}") for text in self.pool.refused]
        return said

    def finish_round(self, now: float, announce: Callable[[], object] = lambda: None) -> list[Effect]:
        self._notes.clear()
        effects = super().finish_round(now, announce)
        return [*self._notes, *effects]

    # -- membership ------------------------------------------------------------------------------------------------------

    def _give_up(self, workers: list[int], reason: str, now: float) -> list[Effect]:
        drops = self.settings.on_lost == "drop"
        if not drops and self.pool.step is not Step.UNMASK:
            note = f"{reason}; waiting for it to come back"
            return [ef.Note(note)] if self.roster.first_note(workers) else []
        notes: list[Effect] = [ef.Note(f"{reason}; the round goes on without it")] if self.roster.first_note(workers) else []
        ends = [ef.Close(worker, reason) for worker in workers]  # who is there all the same joins again
        self.pool.drop(workers, gone=drops)
        return [*notes, *ends, *self._after_step(now)]
