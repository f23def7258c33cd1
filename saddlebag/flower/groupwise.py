"""Federated groupwise learning: the server holds a learner for each group and the mixer; only sums per group leave a client.

A round is one frozen block over the sampled clients' rows (`algorithms/groupwise/distributed/federation.py`): clients get the
state, predict their own rows, and reply with what adds up, group by group. The sums may go through secure aggregation.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from saddlebag.algorithms.groupwise import (
    BlockSums,
    Calibration,
    FeatureBounds,
    Groupwise,
    GroupwiseState,
    Intervals,
    block_sums,
    from_vector,
    merge_block,
    pack_state,
    to_vector,
    unpack_state,
)
from saddlebag.algorithms.groupwise.packing import pack_part, unpack_part
from saddlebag.compression import Draws
from saddlebag.errors import DataError, PeerLost, RemoteProtocolError, StateError
from saddlebag.flower.compression.mod import worker_of
from saddlebag.flower.compression.packing import read_array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    from flwr.app import Context
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid

    from saddlebag.algorithms.groupwise.base import Array as Doubles
    from saddlebag.algorithms.groupwise.coverage.calibration import CalibrationState

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
        intervals, calibration: to give out with the predictions, if any.

    Attributes:
        state: learners, mixer and accounts.
        intervals_state: thresholds and scores; None without intervals.
        calibration_state: what the cells have missed; None without calibration.
        block: rounds so far.
    """

    def __init__(
        self,
        algorithm: Groupwise,
        num_groups: int,
        prior_G: Doubles | None = None,
        *,
        intervals: Intervals | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.algorithm, self.intervals, self.calibration = algorithm, intervals, calibration
        self.intervals_state = None if intervals is None else intervals.init(num_groups)
        self.calibration_state = None if calibration is None else calibration.init(num_groups)
        self.state: GroupwiseState = algorithm.init(num_groups, prior_G)
        self.block = 0

    def round(self, grid: Grid, nodes: Sequence[int], *, timeout: float = 3600.0) -> MetricRecord:
        """One frozen block over some clients' rows; clients that do not answer have no part in it.

        Raises:
            PeerLost: nobody answered.
            RemoteProtocolError: a client's sums are malformed.
        """
        packed = pack_state(self.state)
        if self.intervals is not None and self.intervals_state is not None:
            packed |= self.intervals.pack(self.intervals_state)
        if self.calibration_state is not None:
            packed |= pack_part(self.calibration_state, "calibration")
        arrays = {name: Array(np.array(value, order="C")) for name, value in packed.items()}
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
        sums = from_vector(total, like, largest)
        self.state = merge_block(self.algorithm, self.state, sums)
        if self.intervals is not None and self.intervals_state is not None:
            self.intervals_state = self.intervals.merge(self.intervals_state, sums.intervals)
        if self.calibration is not None and self.calibration_state is not None:
            self.calibration_state = self.calibration.merge(self.calibration_state, sums.calibration)
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
        known = None if self.intervals is None or self.intervals_state is None else (self.intervals, self.intervals_state)
        cells = None
        if self.calibration is not None and self.calibration_state is not None:
            cells = (self.calibration, self.calibration_state)
        rows = (x_ND, y_N, awake_NG, lambda row: Draws(0, row))
        return block_sums(self.algorithm, self.state, *rows, intervals=known, calibration=cells)


def add_groupwise(
    app: ClientApp,
    algorithm: Groupwise,
    num_groups: int,
    rows: Rows,
    *,
    bounds: FeatureBounds | None = None,
    intervals: Intervals | None = None,
    calibration: Calibration | None = None,
) -> None:
    """The client's half, as a phase of an app.

    Args:
        app: Flower's.
        algorithm: the same as the server's.
        num_groups: G.
        rows: (context, block) -> features (N, D), labels (N,) and memberships (N, G) of this client in that block.
        intervals: the same as the server's.
        calibration: the same as the server's.
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
        known = None if intervals is None else (intervals, intervals.unpack(intervals.init(num_groups), arrays))
        cells = None if calibration is None else (calibration, _cells(calibration, num_groups, arrays))
        draws = functools.partial(Draws, worker_of(context))
        sums = block_sums(algorithm, state, bounds.taken(x_ND), y_N, awake_NG, draws, intervals=known, calibration=cells)
        record = ArrayRecord({"sums": Array(to_vector(sums)), "largest": Array(np.array(sums.outcome.largest))})
        facts = ConfigRecord({"worker": worker_of(context)})
        return Message(RecordDict({_SUMS: record, _FACTS: facts}), reply_to=message)

    app.train(GROUPWISE.partition(".")[2])(handle)


def _cells(rule: Calibration, num_groups: int, arrays: Mapping[str, npt.NDArray[Any]]) -> CalibrationState:
    try:
        state: CalibrationState = unpack_part(rule.init(num_groups), arrays, "calibration")
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"the state does not fit: {error}") from error
    return state


def _whole(message: Message, key: str) -> int:
    value = message.content.config_records[_FACTS].get(key)
    if type(value) is not int:
        raise RemoteProtocolError(f"{key} must be a whole number, got {value!r}")
    return value


def _worker(reply: Message) -> int:
    return _whole(reply, "worker")
