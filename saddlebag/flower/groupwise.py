"""Federated groupwise learning: the server holds a learner for each group and the mixer; only sums per group leave a client.

A round is one frozen block over the sampled clients' rows (`algorithms/groupwise/distributed/federation.py`): clients get the
state, predict their own rows, and reply with what adds up, group by group. The sums may go through secure aggregation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from saddlebag.algorithms.groupwise import (
    BlockSums,
    FeatureBounds,
    Groupwise,
    GroupwiseState,
    block_sums,
    from_vector,
    merge_block,
    pack_state,
    to_vector,
    unpack_state,
)
from saddlebag.compression import Draws
from saddlebag.errors import DataError, PeerLost, RemoteProtocolError
from saddlebag.flower.compression.mod import worker_of
from saddlebag.flower.compression.packing import read_array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flwr.app import Context
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid

    from saddlebag.algorithms.groupwise.base import Array as Doubles

    Rows = Callable[[Context, int], tuple[Doubles, Doubles, Doubles]]

__all__ = ["GROUPWISE", "GroupwiseFederation", "add_groupwise"]

GROUPWISE = "train.groupwise"
_STATE, _FACTS, _SUMS = "saddlebag.groupwise", "saddlebag.block", "saddlebag.sums"


class GroupwiseFederation:
    """The server's half.

    Args:
        algorithm: its mixer's range is that of the loss times the most rows of a round, as frozen blocks need.
        num_groups: G.
        prior_G: of the mixer; uniform unless given.

    Attributes:
        state: learners, mixer and accounts.
        block: rounds so far.
    """

    def __init__(self, algorithm: Groupwise, num_groups: int, prior_G: Doubles | None = None) -> None:
        self.algorithm = algorithm
        self.state: GroupwiseState = algorithm.init(num_groups, prior_G)
        self.block = 0

    def round(self, grid: Grid, nodes: Sequence[int], *, timeout: float = 3600.0) -> MetricRecord:
        """One frozen block over some clients' rows; clients that do not answer have no part in it.

        Raises:
            PeerLost: nobody answered.
            RemoteProtocolError: a client's sums are malformed.
        """
        arrays = {name: Array(np.ascontiguousarray(value)) for name, value in pack_state(self.state).items()}
        content = RecordDict({_STATE: ArrayRecord(arrays), _FACTS: ConfigRecord({"block": self.block})})
        messages = [Message(content, node, GROUPWISE, group_id=str(self.block)) for node in nodes]
        replies = [reply for reply in grid.send_and_receive(messages, timeout=timeout) if reply.has_content()]
        if not replies:
            raise PeerLost(f"block {self.block}: none of {len(messages)} clients answered")
        like = self._nothing()
        total, largest = np.zeros(len(to_vector(like))), 0.0
        for reply in sorted(replies, key=_worker):
            record = reply.content.array_records[_SUMS]
            vector, peak = read_array("sums", record["sums"]), read_array("largest", record["largest"])
            if vector.shape != total.shape or not np.isfinite(vector).all() or peak.shape != () or not np.isfinite(peak):
                raise RemoteProtocolError(f"a client's sums must be {len(total)} finite numbers, got shape {vector.shape}")
            total = total + vector
            largest = max(largest, float(peak))
        before = self.state.ledger
        self.state = merge_block(self.algorithm, self.state, from_vector(total, like, largest))
        self.block += 1
        after = self.state.ledger
        rounds = after.rounds - before.rounds
        return MetricRecord({"clients": len(replies), "rows": rounds, "loss": (after.played - before.played) / max(rounds, 1)})

    def _nothing(self) -> BlockSums:
        """The form of the sums, from no rows."""
        features = self.algorithm.learner.dimension  # type: ignore[attr-defined]
        groups = len(self.state.ledger.count_E)
        groups = (groups + 1) // 2 if self.algorithm.shadows else groups
        x_ND, y_N, awake_NG = np.zeros((0, features)), np.zeros(0), np.zeros((0, groups))
        return block_sums(self.algorithm, self.state, x_ND, y_N, awake_NG, lambda row: Draws(0, row))


def add_groupwise(
    app: ClientApp, algorithm: Groupwise, num_groups: int, rows: Rows, *, bounds: FeatureBounds | None = None
) -> None:
    """The client's half, as a phase of an app.

    Args:
        app: Flower's.
        algorithm: the same as the server's.
        num_groups: G.
        rows: (context, block) -> features (N, D), labels (N,) and memberships (N, G) of this client in that block.
        bounds: of features; by default each is at most 1e4 in size, for one row far beyond the others ruins everybody's models.

    A label outside the algorithm's interval or a feature beyond its bound is an error: the client has no part in the block.
    """
    like, bounds = algorithm.init(num_groups), bounds or FeatureBounds()

    def handle(message: Message, context: Context) -> Message:
        arrays = {name: read_array(name, array) for name, array in message.content.array_records[_STATE].items()}
        state = unpack_state(like, arrays)
        block = _whole(message, "block")
        x_ND, y_N, awake_NG = rows(context, block)
        wrong = bounds.wrong(x_ND)
        if wrong is not None:
            row, column, limit = wrong
            raise DataError(
                f"block {block}, row {row + 1}: feature {column} is {x_ND[row, column]:g}, beyond its bound {limit:g}"
            )
        sums = block_sums(algorithm, state, bounds.taken(x_ND), y_N, awake_NG, lambda row: Draws(worker_of(context), row))
        record = ArrayRecord({"sums": Array(to_vector(sums)), "largest": Array(np.array(sums.outcome.largest))})
        facts = ConfigRecord({"worker": worker_of(context)})
        return Message(RecordDict({_SUMS: record, _FACTS: facts}), reply_to=message)

    app.train(GROUPWISE.partition(".")[2])(handle)


def _whole(message: Message, key: str) -> int:
    value = message.content.config_records[_FACTS].get(key)
    if type(value) is not int:
        raise RemoteProtocolError(f"{key} must be a whole number, got {value!r}")
    return value


def _worker(reply: Message) -> int:
    return _whole(reply, "worker")
