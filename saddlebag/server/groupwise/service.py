"""Requests to replies, on record: the core, its journal and its checkpoints as one."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError

from saddlebag.errors import RemoteProtocolError, StateError
from saddlebag.proto.checkpoint import CheckpointStore
from saddlebag.proto.groupwise import PROTOCOL, numbers, split_labels, split_rows
from saddlebag.proto.v1 import groupwise_pb2 as pb
from saddlebag.server.groupwise.journal import FEEDBACK, PARTIAL, PREDICT, Journal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.proto.groupwise import Doubles, Members
    from saddlebag.server.groupwise.core import GroupwiseCore

__all__ = ["GroupwiseService"]

T = TypeVar("T")


class GroupwiseService:
    """Answers serialised requests.

    Args:
        core: the state; it is brought to where the folder's checkpoint and journal lead.
        directory: for both; None keeps nothing.
        checkpoint_every: calls between checkpoints.
        sync: see `Journal`.

    Raises:
        StateError: a checkpoint or journal is damaged or of another recipe.
    """

    def __init__(
        self, core: GroupwiseCore, directory: Path | None = None, *, checkpoint_every: int = 4096, sync: bool = False
    ) -> None:
        self.core, self.calls = core, 0
        self._every, self._begun = checkpoint_every, 0
        self._store = CheckpointStore(directory, "groupwise") if directory else None
        self._journal = Journal(directory, sync=sync) if directory else None
        if self._store is not None:
            self._recover()
            self.checkpoint()

    # -- requests --------------------------------------------------------------------------------------------------------

    def predict(self, raw: bytes) -> pb.PredictReply:
        """Answer a PredictRequest.

        Raises:
            RemoteProtocolError: it is malformed.
            StateError: the journal cannot be written; the service must end.
        """
        return self._predict(self._parse(pb.PredictRequest, raw), functools.partial(self._record, PREDICT, raw))

    def feedback(self, raw: bytes) -> pb.FeedbackReply:
        """Answer a FeedbackRequest; errors as `predict`."""
        return self._feedback(self._parse(pb.FeedbackRequest, raw), functools.partial(self._record, FEEDBACK, raw))

    def partial(self, raw: bytes) -> pb.PartialReply:
        """Answer a Partial's PredictRequest; errors as `predict`."""
        return self._partial(self._parse(pb.PredictRequest, raw), functools.partial(self._record, PARTIAL, raw))

    def stream(self, raw: bytes) -> pb.StreamReply:
        """Answer a StreamRequest; errors as `predict`."""
        request = self._parse(pb.StreamRequest, raw)
        kind = request.WhichOneof("request")
        if kind == "predict":
            record = functools.partial(self._record, PREDICT, request.predict)
            return pb.StreamReply(predict=self._predict(request.predict, record))
        if kind == "feedback":
            record = functools.partial(self._record, FEEDBACK, request.feedback)
            return pb.StreamReply(feedback=self._feedback(request.feedback, record))
        raise RemoteProtocolError("a StreamRequest holds neither predict nor feedback")

    def describe(self) -> pb.DescribeReply:
        """Answer a DescribeRequest."""
        settings, interval = self.core.settings, self.core.algorithm.interval
        return pb.DescribeReply(
            protocol=PROTOCOL,
            features=settings.features,
            groups=settings.groups,
            bounded=interval is not None,
            low=interval[0] if interval else 0.0,
            high=interval[1] if interval else 0.0,
            max_rows=settings.max_rows,
            max_pending=settings.max_pending,
            shard=settings.shard,
            shards=settings.shards,
            default=self.core.algorithm.default,
        )

    def report(self) -> pb.ReportReply:
        """Answer a ReportRequest."""
        core, ledger = self.core, self.core.state.ledger
        accounts = [
            pb.ExpertAccount(
                name=account.name,
                rounds=account.rounds,
                loss=account.loss,
                own_loss=account.own_loss,
                regret=account.regret,
                bound=account.bound,
                weight=account.weight,
            )
            for account in core.accounts()
        ]
        return pb.ReportReply(
            experts=accounts,
            predicted=core.tickets.next,
            learned=core.learned,
            repeated=core.repeated,
            unknown=core.unknown,
            pending=core.tickets.pending,
            forgotten=core.tickets.forgotten,
            fell_back=ledger.fell_back,
            orphans=ledger.orphans,
            loss=ledger.played,
            alarms=[alarm.message for alarm in core.alarms()],
        )

    def _rows(self, request: pb.PredictRequest) -> tuple[Doubles, Members]:
        settings = self.core.settings
        return split_rows(request.features, request.groups, len(settings.features), len(settings.groups))

    def _predict(self, request: pb.PredictRequest, record: Callable[[], None]) -> pb.PredictReply:
        first, block = self.core.predict(*self._rows(request), record)
        weights = block.p_NE.tobytes() if request.weights else b""
        return pb.PredictReply(first_ticket=first, predictions=block.value_N.tobytes(), weights=weights)

    def _partial(self, request: pb.PredictRequest, record: Callable[[], None]) -> pb.PartialReply:
        first, part = self.core.partial(*self._rows(request), record)
        return pb.PartialReply(first_ticket=first, sums=part.to_array().tobytes())

    def _feedback(self, request: pb.FeedbackRequest, record: Callable[[], None]) -> pb.FeedbackReply:
        played_N = numbers(request.played) if request.played else None
        labels = split_labels(request.tickets, request.labels)
        return pb.FeedbackReply(outcomes=self.core.feedback(*labels, record, played_N=played_N).tobytes())

    def _parse(self, kind: type[T], raw: bytes) -> T:
        try:
            message: T = kind.FromString(raw)  # type: ignore[attr-defined]
            return message
        except DecodeError as error:
            raise RemoteProtocolError(f"these bytes are no {kind.__name__}") from error

    # -- records ---------------------------------------------------------------------------------------------------------

    def _record(self, kind: int, request: bytes | pb.PredictRequest | pb.FeedbackRequest) -> None:
        """Before a call is applied: put it on record, in a new journal where a checkpoint is due."""
        if self._journal is not None:
            if self.calls - self._begun >= self._every:
                self.checkpoint()
            self._journal.append(kind, request if isinstance(request, bytes) else request.SerializeToString())
        self.calls += 1

    def checkpoint(self) -> None:
        """Write the state, and begin a journal of the calls after it.

        Raises:
            StateError: the disk does not take it.
        """
        if self._store is None or self._journal is None:
            return
        arrays, facts = self.core.capture()
        self._store.save(self.calls, arrays, facts)
        self._begun = self.calls
        self._journal.begin(self.calls)
        self._journal.forget_before(self._store.rounds()[0])

    def _recover(self) -> None:
        assert self._store is not None
        assert self._journal is not None
        saved = self._store.rounds()
        if saved:
            arrays, facts = self._store.load(saved[-1])
            self.core.restore(arrays, facts)
            self.calls = saved[-1]
        for number in self._journal.numbers():
            if number < self.calls:
                continue
            if number > self.calls:
                raise StateError(f"calls {self.calls} to {number} are on no journal in {self._journal.path(number).parent}")
            for kind, raw in self._journal.read(number):
                self._again(kind, raw)
                self.calls += 1

    def _again(self, kind: int, raw: bytes) -> None:
        if kind == PREDICT:
            self._predict(self._parse(pb.PredictRequest, raw), lambda: None)
        elif kind == PARTIAL:
            self._partial(self._parse(pb.PredictRequest, raw), lambda: None)
        elif kind == FEEDBACK:
            self._feedback(self._parse(pb.FeedbackRequest, raw), lambda: None)
        else:
            raise StateError(f"the journal holds a call of unknown kind {kind}")
