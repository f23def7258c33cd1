"""What a worker holds: its state and its checkpoints. What it tells a server of them, where it goes on, and when it saves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from saddlebag.algorithms.merging import WHOLE
from saddlebag.errors import BrokenStream, StateError
from saddlebag.proto.checkpoint import crosses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.client.core import WorkerCore

__all__ = ["Checkpoints", "Keeper", "Position"]


class Checkpoints(Protocol):
    """Where checkpoints are read: a `CheckpointStore` is one."""

    def rounds(self) -> list[int]: ...

    def facts(self, round_: int) -> Mapping[str, Any]: ...

    def load(self, round_: int) -> tuple[dict[str, Any], dict[str, Any]]: ...

    def forget_after(self, round_: int) -> None: ...


class Position(Protocol):
    """From where a worker goes on; a join's reply says it."""

    @property
    def epoch(self) -> int: ...
    @property
    def epoch_start(self) -> int: ...
    @property
    def resume(self) -> int: ...
    @property
    def fresh(self) -> bool: ...
    @property
    def heal(self) -> bool: ...
    @property
    def share(self) -> int: ...


class Keeper:
    """A worker's core and its checkpoints, if it keeps any."""

    def __init__(self, core: WorkerCore, store: Checkpoints | None) -> None:
        self._core, self._store = core, store
        self._damaged: set[int] = set()

    def rounds(self) -> list[int]:
        """The boundaries of the present epoch whose states it holds, ascending; what is damaged is none of them."""
        saved = self._store.rounds() if self._store else []
        here = (self._core.round,) if self._core.placed else ()
        return sorted({*(round_ for round_ in saved if self._offers(round_)), *here})

    def _offers(self, round_: int) -> bool:
        """Whether a checkpoint seems to be one of this epoch; whether it is sound is seen when it is needed."""
        assert self._store is not None
        try:
            return round_ not in self._damaged and self._store.facts(round_).get("epoch") == self._core.epoch
        except StateError:
            return False

    def go_to(self, position: Position) -> bool:
        """Bring the core to where the server says; True when that takes the server's snapshot.

        Raises:
            BrokenStream: the checkpoint that the worker has named is damaged; it is to join again, and names the others.
            StateError: the worker does not hold what the server takes it to hold.
        """
        core = self._core
        if position.fresh:
            if position.epoch_start == 0:
                core.begin_run(position.epoch)
            core.share = min(1.0, position.share / WHOLE) if position.share else 1.0
        elif position.resume != core.round:
            if self._store is None:
                raise StateError(f"the server resumes at round {position.resume}, which this worker does not hold")
            core.restore(*self._load(self._store, position.resume))
        if self._store is not None:  # a worker that begins anew where rounds are merged has no past
            self._store.forget_after(-1 if position.fresh and core.merging else position.resume)
        return position.heal or (position.fresh and (position.epoch_start > 0 or not core.starts_alike))

    def _load(self, store: Checkpoints, round_: int) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            return store.load(round_)
        except StateError as error:
            self._damaged.add(round_)
            raise BrokenStream(f"{error}; it goes on from another one") from error

    def take_snapshot(self, position: Position, replica: Any, *, every: int) -> bool:
        """Go on from the server's replica; True when it is to be saved at once.

        Else a worker that dies before its next checkpoint would have nothing of this epoch.
        """
        if position.heal:
            self._core.heal(replica)
            return False
        self._core.begin(position.epoch, position.resume, replica)
        return every > 0

    def saves(self, before: int, *, every: int, final: bool) -> bool:
        """Whether a worker that has come from the boundary `before` is to save."""
        return crosses(before, self._core.round, every) or (every > 0 and final)
