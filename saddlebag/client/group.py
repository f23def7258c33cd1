"""The ranks of one node as one worker: a point goes out to them, the sum of their parts comes back to the leader.

    leader     rank 0: speaks to the server as any worker does; its operator asks the whole node
    followers  wait for a command, evaluate their part at the point that came with it, add it up along a tree

A follower keeps no state: whatever the method, a round is some evaluations for it, so a rank that torchrun starts again needs
nothing but the recipe (`docs/decisions/0011-node-broadcasts-the-point.md`). The sum has one fixed order on every backend
(`algorithms/division.py`), so a node gives the bits of one process that computes the parts one after the other.

Shapes: D = coordinates.
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist

from saddlebag.algorithms.capabilities import OnDevice
from saddlebag.algorithms.networks.finite import all_finite
from saddlebag.algorithms.problems.division import tree_partners
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError, LocalProtocolError, NotFiniteError, PeerLost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch._C._distributed_c10d import Store

    from saddlebag.algorithms import Operator
    from saddlebag.compression import Vector

__all__ = ["NodeGroup", "process_group", "talking"]

_TAG = 0  # of the messages between two ranks: there is one kind
_BEATS = 4  # within a timeout: a leader that waits for the server tells its followers so


class _Command(enum.IntEnum):
    """What the leader wants; the first number of a header, before seed, round and worker of the draws."""

    WAIT = 0
    EVALUATE = 1
    STOP = 2


@contextlib.contextmanager
def process_group(store: Store, *, rank: int, ranks: int, timeout_s: float, device: str = "cpu") -> Iterator[dist.ProcessGroup]:
    """Meet the other ranks at `store`; gloo, and NCCL for vectors on a GPU.

    The group becomes torch's default one, though a node's need not be the whole job: nothing here speaks to other ranks.

    Raises:
        PeerLost: they did not come within `timeout_s`.
        ConfigError: this build of torch lacks a backend.
    """
    backend = "gloo" if torch.device(device).type == "cpu" else f"cpu:gloo,{torch.device(device).type}:nccl"
    timeout = datetime.timedelta(seconds=timeout_s)
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=timeout)
    except ValueError as error:
        raise ConfigError(f"torch has no backend {backend!r}: {error}") from error
    except RuntimeError as error:
        raise PeerLost(f"{ranks} ranks did not meet: {_first_line(error)}") from error
    try:
        group = dist.group.WORLD
        assert group is not None
        yield group
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def talking(who: str) -> Iterator[None]:
    """Around calls of a process group: what torch raises when a rank is gone becomes `PeerLost`, of `who`."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(f"{who} lost the others: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """What torch says, without the advice it adds."""
    return str(error).partition(" This is typically")[0].partition("\n")[0] or type(error).__name__


def exact_dtype(part: Operator) -> torch.dtype:
    """In which a part's point and value lose nothing: float64 where it does not say (`part_of`)."""
    return part.exact_dtype if isinstance(part, OnDevice) else torch.float64


class NodeGroup:
    """The ranks of a node, seen from one of them.

    Args:
        group: torch's process group of these ranks, numbered from 0.
        timeout_s: of the group; how long a rank may be busy before the others take it for lost.
        device: where vectors are added up.

    Attributes:
        evaluations: how often the operator was asked.
        evaluate_s: seconds in this rank's own part.
        exchange_s: seconds in which the point went out and the parts were added, waiting for slower ranks included.
    """

    def __init__(self, group: dist.ProcessGroup, *, timeout_s: float, device: str = "cpu") -> None:
        self._group, self._device, self._beat_s = group, torch.device(device), timeout_s / _BEATS
        self.rank, self.ranks = group.rank(), group.size()
        self._sources, self._target = tree_partners(self.rank, self.ranks)
        self._kept: dict[int | None, torch.Tensor] = {}
        self._turn = threading.Lock()  # one conversation with the followers at a time
        self._ended = threading.Event()
        self._heart: threading.Thread | None = None
        self._heart_failure: Exception | None = None
        self._whole = True  # a conversation that broke off cannot be taken up again
        self.evaluations, self.evaluate_s, self.exchange_s = 0, 0.0, 0.0

    # -- the leader ------------------------------------------------------------------------------------------------------

    def operator(self, part: Operator) -> Operator:
        """The node's operator, for the leader to ask: the mean over the ranks of their parts, this rank's being `part`.

        The operator raises `NotFiniteError` where a part is not finite, and `PeerLost` when a rank is gone.
        """
        if self.rank != 0:
            raise LocalProtocolError(f"only rank 0 leads a node, this is rank {self.rank}")

        def ask(z_D: Vector, draws: Draws) -> Vector:
            with self._turn:
                if self._heart_failure is not None:
                    raise self._heart_failure
                return self._ask(part, z_D, draws)

        if self.ranks > 1 and self._heart is None:
            self._heart = threading.Thread(target=self._beat, name="node-beat", daemon=True)
            self._heart.start()
        return ask

    def stop(self, status: int = 0) -> None:
        """Tell the followers that the run is over, and how they should end; those that are gone need not know.

        After an error in the midst of an evaluation nobody listens: the followers learn from the end of this process.
        """
        self._ended.set()
        if self.rank == 0 and self.ranks > 1 and self._whole:
            with self._turn, contextlib.suppress(PeerLost):
                self._command(_Command.STOP, status)

    def _ask(self, part: Operator, z_D: Vector, draws: Draws) -> Vector:
        begin = time.perf_counter()
        self.evaluations += 1
        if self.ranks == 1:  # nobody to talk to: no copy of the point, no second look at the value
            value_D = part(z_D, draws)
            self.evaluate_s += time.perf_counter() - begin
            return value_D
        point_D = self._room(None, len(z_D), exact_dtype(part)).copy_(
            torch.from_numpy(np.require(z_D, requirements=["C", "W"]))
        )
        self._whole = False
        self._command(_Command.EVALUATE, draws.seed, draws.round, draws.worker)
        self._broadcast(point_D)
        total_D, spent_s = self._sum(part, point_D, draws)
        self._whole = True
        if not all_finite(total_D):
            raise NotFiniteError(f"the operator of worker {draws.worker} is not finite at round {draws.round}")
        total_D /= self.ranks
        mean_D: Vector = total_D.cpu().numpy()
        self.evaluate_s += spent_s
        self.exchange_s += time.perf_counter() - begin - spent_s
        return mean_D

    def _beat(self) -> None:
        """Say now and then that there is nothing to do, for followers wait no longer than the group's timeout."""
        while not self._ended.wait(self._beat_s):
            with self._turn:
                if self._ended.is_set() or not self._whole:
                    return
                try:
                    self._command(_Command.WAIT)
                except Exception as error:  # the operator, asked next, raises it
                    self._heart_failure, self._whole = error, False
                    return

    # -- a follower ------------------------------------------------------------------------------------------------------

    def follow(self, part: Operator, dimension: int) -> int:
        """Evaluate this rank's part whenever the leader asks, until it ends the run; returns the status it gives.

        Raises:
            PeerLost: a rank is gone.
        """
        while True:
            command, *key = self._heard()
            if command == _Command.STOP:
                return key[0]
            if command == _Command.EVALUATE:
                z_D = self._room(None, dimension, exact_dtype(part))
                self._broadcast(z_D)
                seed, round_, worker = key
                self._sum(part, z_D, Draws(seed, round_, worker))

    # -- both ------------------------------------------------------------------------------------------------------------

    def _command(self, command: _Command, *numbers: int) -> None:
        header = np.zeros(4, np.uint64)
        header[: 1 + len(numbers)] = [command, *numbers]
        self._broadcast(torch.from_numpy(header.view(np.int64)))

    def _heard(self) -> list[int]:
        header = torch.empty(4, dtype=torch.int64)
        self._broadcast(header)
        return [int(number) for number in header.numpy().view(np.uint64)]

    def _broadcast(self, tensor: torch.Tensor) -> None:
        with self._talking():
            self._group.broadcast(tensor, 0).wait()

    def _sum(self, part: Operator, z_D: torch.Tensor, draws: Draws) -> tuple[torch.Tensor, float]:
        """The sum of this rank's part and those of all behind it in the tree, and the seconds in the own one.

        Sums are float64; a rank with nobody behind it gives its part as it is, of the type that `part` loses nothing in. A part
        that is not finite goes on as NaN, so that every rank finishes the exchange and the leader learns of it.
        """
        begin = time.perf_counter()
        try:
            value_D = self._own(part, z_D, draws)
        except NotFiniteError:
            value_D = torch.full_like(z_D, torch.nan)
        spent_s = time.perf_counter() - begin
        with self._talking():
            if self._sources:
                value_D = value_D.to(torch.float64, copy=True)
            for source in self._sources:
                alone = not tree_partners(source, self.ranks)[0]
                other_D = self._room(source, len(value_D), exact_dtype(part) if alone else torch.float64)
                self._group.recv([other_D], source, _TAG).wait()
                value_D += other_D
            if self._target is not None:
                self._group.send([value_D], self._target, _TAG).wait()
        return value_D, spent_s

    def _own(self, part: Operator, z_D: torch.Tensor, draws: Draws) -> torch.Tensor:
        """This rank's part, without a way over the host where it computes on the device (`algorithms/networks/part.py`)."""
        asked: object = part
        if isinstance(asked, OnDevice):
            value_D = asked.on_device(z_D, draws)
        else:  # may keep the point that it is given
            value_D = torch.from_numpy(np.require(part(z_D.numpy(force=True).copy(), draws), np.float64, ["C", "W"]))
        return value_D.to(self._device, exact_dtype(part))

    def _room(self, whose: int | None, dimension: int, dtype: torch.dtype) -> torch.Tensor:
        """Memory for a point (of None) or a rank's sum, the same every time: fresh pages cost as much as a vector's way."""
        kept = self._kept.get(whose)
        if kept is None or (len(kept), kept.dtype) != (dimension, dtype):
            kept = self._kept[whose] = torch.empty(dimension, dtype=dtype, device=self._device)
        return kept

    def _talking(self) -> contextlib.AbstractContextManager[None]:
        return talking(f"rank {self.rank} of {self.ranks} on this node")
