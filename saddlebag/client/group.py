"""The ranks of one node as one worker: NCCL between GPUs, gloo otherwise, and a leader that alone talks to the server.

For each value of the operator the leader broadcasts the point and the round's key, every rank computes its part, and the sum is
reduced to the leader. So only the leader has a state: a rank that was restarted needs none.
"""

from __future__ import annotations

import contextlib
import datetime
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist

from saddlebag.compression import Draws
from saddlebag.errors import NotFiniteError, PeerLost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saddlebag.algorithms import Operator
    from saddlebag.compression import Vector

__all__ = ["NodeGroup"]

_END, _VALUE = 0, 1
_WAIT = datetime.timedelta(days=7)  # followers wait while the leader waits for the server; a dead peer closes its connection


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's errors; torch.distributed's own are sub-classes
        first, *_ = str(error).splitlines() or [""]
        raise PeerLost(f"a rank of this node is lost: {first}") from error


class NodeGroup:
    """The ranks of a node, after `torch.distributed.init_process_group` or as a sub-group of it.

    Args:
        dimension: D.
        group: the process group of the node's ranks; None for all processes.
        device: where vectors are summed: "cpu" with gloo, "cuda:N" with NCCL.
    """

    def __init__(self, dimension: int, *, group: dist.ProcessGroup | None = None, device: str = "cpu") -> None:
        self._group, self._device = group, device
        self.rank, self.ranks = dist.get_rank(group), dist.get_world_size(group)
        self._leader = dist.get_global_rank(group, 0) if group is not None else 0
        self._header = torch.empty(4, dtype=torch.int64, device=device)
        self._point_D = torch.empty(dimension, dtype=torch.float64, device=device)

    def lead(self, part: Operator) -> Operator:
        """The node's operator, the mean of its ranks' parts; to be called by rank 0, one value at a time.

        Raises (when it is asked):
            PeerLost: a rank is gone.
            NotFiniteError: a part is not finite.
        """

        def ask(z_D: Vector, draws: Draws) -> Vector:
            key = np.array([draws.seed, draws.round, draws.worker], np.uint64).view(np.int64)
            self._send(_VALUE, key)
            with _peers():
                self._point_D.copy_(torch.from_numpy(z_D))
                dist.broadcast(self._point_D, self._leader, group=self._group)
            value_D = self._sum(part, z_D, draws) / self.ranks
            if not np.isfinite(value_D).all():
                raise NotFiniteError("the node's operator value is not finite")
            return value_D

        return ask

    def follow(self, part: Operator) -> None:
        """Compute parts for the leader until it ends; the loop of every other rank.

        Raises:
            PeerLost: the leader is gone.
        """
        while True:
            with _peers():
                dist.broadcast(self._header, self._leader, group=self._group)
                command, *_ = header = self._header.cpu().numpy()
                if command == _END:
                    return
                dist.broadcast(self._point_D, self._leader, group=self._group)
            seed, round_, worker = (int(n) for n in header[1:].view(np.uint64))
            self._sum(part, self._point_D.cpu().numpy().copy(), Draws(seed, round_, worker))

    def end(self) -> None:
        """Let the followers go."""
        with contextlib.suppress(PeerLost):
            self._send(_END, np.zeros(3, np.int64))

    def _send(self, command: int, key: np.ndarray) -> None:
        with _peers():
            self._header.copy_(torch.from_numpy(np.array([command, *key], np.int64)))
            dist.broadcast(self._header, self._leader, group=self._group)

    def _sum(self, part: Operator, z_D: Vector, draws: Draws) -> Vector:
        """The sum of the parts, on the leader; a part that fails counts as NaN, so that nobody waits for it."""
        try:
            value_D = part(z_D, draws)
        except NotFiniteError:
            value_D = np.full(len(z_D), np.nan)
        with _peers():
            total_D = torch.from_numpy(np.ascontiguousarray(value_D)).to(self._device)
            dist.reduce(total_D, self._leader, group=self._group)
        return total_D.cpu().numpy()


def start_processes(*, cuda: bool) -> None:
    """Join torchrun's processes: NCCL with GPUs, gloo otherwise.

    Raises:
        PeerLost: the others did not come.
    """
    with _peers():
        dist.init_process_group("nccl" if cuda else "gloo", timeout=_WAIT)
