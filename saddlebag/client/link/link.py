"""A link: what a program with a training loop of its own holds of a run."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.distributed as dist

from saddlebag.errors import ConfigError, LocalProtocolError, NotFiniteError, PeerLost, StateError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from saddlebag.client.account import ClientLedger
    from saddlebag.client.link.meeting import Meeting
    from saddlebag.client.link.vector import ModelVector
    from saddlebag.compression import Vector

__all__ = ["Connection", "Link"]

_FORMAT = 1
_END_S = 30.0  # for the server to hear that this program is done


class Connection(Protocol):
    """What a link needs of its worker.

    Attributes:
        meeting: where the worker asks.
        ledger: bytes on the wire.
        worker: its rank among the programs.
    """

    meeting: Meeting
    ledger: ClientLedger
    worker: int

    def open(self, start_D: Vector) -> None:
        """Make the worker, whose parameters begin at `start_D`."""

    async def run(self) -> None:
        """Take part until the run is over or the program leaves."""

    def share(self) -> float:
        """Of the steps between exchanges, in (0, 1]: how many of them this program is to make."""

    def last_point(self) -> Vector:
        """The replica's z."""

    def capture(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The worker's state at the last boundary: arrays and facts."""

    def restore(self, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Continue from it; `StateError` where it does not fit."""


class Link:
    """Exchanges what a program's own steps have changed; made by `saddlebag.join`.

    `step` counts the optimizer's steps; every so many of them the change of the parameters goes up, and the model gets the
    point on which all programs agree. Optimizer states, schedules, precision and data are the program's. Nothing is connected
    before the model's first forward pass (or `begin`), so a checkpoint can be loaded until then. In a torchrun job with several
    ranks that of rank 0 talks, and spreads what it hears; all of them call the same.

    Attributes:
        every: steps between exchanges.
        since: steps since the last one.
        samples: behind these steps.
        over: whether the run has ended; later steps are the program's alone.
    """

    def __init__(self, model: torch.nn.Module, vector: ModelVector, connection: Connection, *, every: int) -> None:
        self.every, self.since, self.samples, self.over = every, 0, 0, False
        self._vector, self._connection, self._meeting = vector, connection, connection.meeting
        self._base_D: Vector | None = None  # what was in the model after the last exchange
        self._loaded: Mapping[str, Any] | None = None
        self._thread: threading.Thread | None = None
        self._due = every
        self._ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        self._leads = self._ranks == 1 or dist.get_rank() == 0
        self._first = model.register_forward_pre_hook(self._before_forward)

    @property
    def round(self) -> int:
        """The round that this program's steps are for, from 0."""
        return self._meeting.round

    @property
    def steps(self) -> int:
        """The place in the run, in steps: of a program that joins late, too, for its schedule."""
        return self.round * self.every + self.since

    @property
    def due(self) -> int:
        """Steps between this program's exchanges: fewer than `every` where the server balances unlike machines."""
        return max(1, round(self.every * self._connection.share())) if self._leads else self._due

    @property
    def bytes_up(self) -> int:
        """Bytes this program has handed to gRPC."""
        return self._connection.ledger.up

    @property
    def bytes_down(self) -> int:
        """Bytes this program has taken from gRPC."""
        return self._connection.ledger.down

    def __repr__(self) -> str:
        state = "over" if self.over else "not begun" if self._base_D is None else f"round {self.round}"
        return f"<Link of worker {self._connection.worker}, {state}: {self.bytes_up:,} bytes up, {self.bytes_down:,} down>"

    # -- the loop --------------------------------------------------------------------------------------------------------

    def _before_forward(self, module: torch.nn.Module, arguments: Any) -> None:
        del module, arguments
        self.begin()

    def begin(self) -> None:
        """Connect, and take the point at which the run stands; the model's first forward pass does it by itself.

        Raises:
            ConfigError: the server refuses this program, and why.
            PeerLost: there is no server.
        """
        if self._base_D is not None:
            return
        self._first.remove()
        self._base_D = self._vector.read()
        if self._leads:
            self._connection.open(self._base_D)
            kept = self._take_up() if self._loaded is not None else None
            self._thread = threading.Thread(target=self._work, name="saddlebag-link", daemon=True)
            self._thread.start()
            point_D, self.over = self._meeting.next_point()
            if kept is not None and kept[:2] == self._where():
                self._settle()
                self._base_D = kept[2]  # the model is some steps away from it
                return
            self.since = self.samples = 0
            self._vector.write(point_D)
        self._settle()

    def step(self, samples: int = 1) -> bool:
        """Count a step of the optimizer; whether it was followed by an exchange.

        Args:
            samples: behind the step, such as sequences or tokens: what this program weighs where the server weighs by samples.
        """
        if type(samples) is not int or not 0 < samples < 1 << 32:
            raise ConfigError(f"samples must lie in [1, 2^32), got {samples!r}")
        self.begin()
        self.since += 1
        self.samples += samples
        if self.since < self.due:
            return False
        self.exchange()
        return True

    def exchange(self) -> None:
        """Exchange now, whatever `every` says; all programs of the run have to.

        Raises:
            NotFiniteError: a parameter is not finite; nothing was sent.
            PeerLost: the server did not come back in time.
        """
        self.begin()
        assert self._base_D is not None
        measures = {"samples": max(1, self.samples), "steps": max(1, self.since)}
        self.since = self.samples = 0
        if self._leads and not self.over:
            change_D = self._base_D - self._vector.read()
            if not np.isfinite(change_D).all():
                raise NotFiniteError(f"the model is not finite before the exchange of round {self.round}; nothing was sent")
            self._meeting.bring(change_D, **measures)
            point_D, self.over = self._meeting.next_point()
            self._vector.write(point_D)
        self._settle()

    def finish(self) -> None:
        """Exchange what is left, and leave the run to the others; the model is then at their common point."""
        if self._base_D is None:
            self._first.remove()
            return
        if self.since and not self.over:
            self.exchange()
        if self._thread is not None:
            self._meeting.leave()
            self._thread.join(_END_S)
            if self._thread.is_alive():
                raise PeerLost(f"the server has not heard within {_END_S:g} s that worker {self._connection.worker} is done")
            self._thread = None
        self.over = True

    def drop(self) -> None:
        """Go without a word, as an error in the link's context does: the run waits for this rank as its policy says."""
        if self._thread is not None:
            self._meeting.drop()
            self._thread.join(_END_S)
            self._thread = None
        self.over = True

    def __enter__(self) -> Link:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.finish()
        else:
            self.drop()

    def _settle(self) -> None:
        """All ranks have what the leader has; changes count from here."""
        if self._ranks > 1:
            self._vector.spread()
            self._due = self._vector.spread_number(self.due if self._leads else 0)
        self._base_D = self._vector.read()

    # -- the worker's thread ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        failure: Exception | None = None
        try:
            asyncio.run(self._connection.run())
        except Exception as error:  # raised in the program's thread
            failure = error
        self._meeting.close(self._connection.last_point(), failure)

    # -- checkpoints -----------------------------------------------------------------------------------------------------

    def _where(self) -> tuple[Any, Any]:
        facts = self._connection.capture()[1]
        return facts["epoch"], facts["round"]

    def state_dict(self) -> dict[str, Any]:
        """What a program keeps beside its model, its optimizer and its place in the data, to go on exactly there.

        On the rank that talks: the worker's state at the last exchange, where the model stood then, and the steps since.
        """
        if not self._leads or self._base_D is None:
            return {"format": _FORMAT, "since": self.since, "samples": self.samples, "arrays": {}, "facts": {}}
        arrays, facts = self._connection.capture()
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        return {
            "format": _FORMAT,
            "since": self.since,
            "samples": self.samples,
            "arrays": tensors,
            "facts": facts,
            "base": torch.from_numpy(self._base_D.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, whose model has been loaded; before the first forward pass.

        Where the run has kept this worker's place, the program takes part as if it had never been away. Where it went on
        without it, the model gets the run's point instead, and the steps since the last exchange are lost.

        Raises:
            LocalProtocolError: the link has begun.
            StateError: it is no such state.
        """
        if self._base_D is not None:
            raise LocalProtocolError("load a link's state before the model's first forward pass")
        if state.get("format") != _FORMAT:
            raise StateError(f"a link's state has format {_FORMAT}, got {state.get('format')!r}")
        if state["facts"]:
            self._loaded = state
        self.since, self.samples = int(state["since"]), int(state.get("samples", 0))

    def _take_up(self) -> tuple[Any, Any, Vector]:
        """Put a loaded state in place; returns epoch, round, and the point from which the change counts."""
        assert self._loaded is not None
        state, self._loaded = self._loaded, None
        self._connection.restore({name: value.numpy() for name, value in state["arrays"].items()}, state["facts"])
        return state["facts"]["epoch"], state["facts"]["round"], state["base"].numpy()
