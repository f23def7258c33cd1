"""Requests to replies, on record: the core, its journal and its checkpoints as one."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError

from saddlebag.errors import RemoteProtocolError, StateError
from saddlebag.proto.groupwise import PROTOCOL, numbers, split_labels, split_rows
from saddlebag.proto.v1 import groupwise_pb2 as pb
from saddlebag.server.groupwise.calls import FEEDBACK, PARTIAL, PREDICT
from saddlebag.server.groupwise.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.proto.groupwise import Doubles, Members
    from saddlebag.server.groupwise.calls import Call
    from saddlebag.server.groupwise.core import GroupwiseCore

__all__ = ["GroupwiseService"]

T = TypeVar("T")


class GroupwiseService:
    """Answers serialised requests.

    Args:
        core: the state; it is brought to where the folder's checkpoint and journal lead.
        directory: for both; None keeps nothing.
        checkpoint_every, sync, mode, note: see `Records`.

    A request comes with the number of the client that its tickets belong to; 0 is everybody who shows no identity.

    Raises:
        StateError: a checkpoint or journal is damaged, of another version or of another meaning.
    """

    def __init__(
        self,
        core: GroupwiseCore,
        directory: Path | None = None,
        *,
        checkpoint_every: int = 4096,
        sync: bool = False,
        mode: int = 0o600,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.core, self.calls = core, 0
        self.records = (
            Records(core, directory, every=checkpoint_every, sync=sync, mode=mode, note=note) if directory is not None else None
        )
        if self.records is not None:
            self.calls = self.records.recover(self._again)
            core.limit()
            self.records.checkpoint(self.calls)

    # -- requests --------------------------------------------------------------------------------------------------------

    def predict(self, raw: bytes, owner: int = 0) -> pb.PredictReply:
        """Answer a PredictRequest.

        Raises:
            RemoteProtocolError: it is malformed.
            StateError: the journal cannot be written; the service must end.
        """
        return self._predict(self._parse(pb.PredictRequest, raw), functools.partial(self._record, PREDICT, raw, owner), owner)

    def feedback(self, raw: bytes, owner: int = 0) -> pb.FeedbackReply:
        """Answer a FeedbackRequest; errors as `predict`."""
        return self._feedback(
            self._parse(pb.FeedbackRequest, raw), functools.partial(self._record, FEEDBACK, raw, owner), owner
        )

    def partial(self, raw: bytes, owner: int = 0) -> pb.PartialReply:
        """Answer a Partial's PredictRequest; errors as `predict`."""
        return self._partial(self._parse(pb.PredictRequest, raw), functools.partial(self._record, PARTIAL, raw, owner), owner)

    def stream(self, raw: bytes, owner: int = 0) -> pb.StreamReply:
        """Answer a StreamRequest; errors as `predict`."""
        request = self._parse(pb.StreamRequest, raw)
        kind = request.WhichOneof("request")
        if kind == "predict":
            record = functools.partial(self._record, PREDICT, request.predict, owner)
            return pb.StreamReply(predict=self._predict(request.predict, record, owner))
        if kind == "feedback":
            record = functools.partial(self._record, FEEDBACK, request.feedback, owner)
            return pb.StreamReply(feedback=self._feedback(request.feedback, record, owner))
        raise RemoteProtocolError("a StreamRequest holds neither predict nor feedback")

    def describe(self) -> pb.DescribeReply:
        """Answer a DescribeRequest."""
        settings, interval = self.core.settings, self.core.algorithm.label_interval
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
            meaning=json.dumps(self.core.meaning),
        )

    def report(self) -> pb.ReportReply:
        """Answer a ReportRequest."""
        core, ledger = self.core, self.core.state.ledger
        alarms = [alarm.message for alarm in core.alarms()]
        if self.records is not None and self.records.failure:
            alarms.append(f"the last checkpoint failed: {self.records.failure}")
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
            alarms=alarms,
        )

    def _rows(self, request: pb.PredictRequest) -> tuple[Doubles, Members]:
        settings = self.core.settings
        told = (request.rows, request.num_features, request.num_groups)
        return split_rows(request.features, request.groups, len(settings.features), len(settings.groups), told)

    def _predict(self, request: pb.PredictRequest, record: Callable[[], None], owner: int) -> pb.PredictReply:
        first, block = self.core.predict(*self._rows(request), record, owner=owner)
        weights = block.p_NE.tobytes() if request.weights else b""
        return pb.PredictReply(first_ticket=first, predictions=block.value_N.tobytes(), weights=weights)

    def _partial(self, request: pb.PredictRequest, record: Callable[[], None], owner: int) -> pb.PartialReply:
        first, part = self.core.partial(*self._rows(request), record, owner=owner)
        return pb.PartialReply(first_ticket=first, sums=part.to_array().tobytes())

    def _feedback(self, request: pb.FeedbackRequest, record: Callable[[], None], owner: int) -> pb.FeedbackReply:
        played_N = numbers(request.played) if request.played else None
        labels = split_labels(request.tickets, request.labels)
        outcome_N = self.core.feedback(*labels, record, played_N=played_N, owner=owner)
        return pb.FeedbackReply(outcomes=outcome_N.tobytes())

    def _parse(self, kind: type[T], raw: bytes) -> T:
        try:
            message: T = kind.FromString(raw)  # type: ignore[attr-defined]
            return message
        except DecodeError as error:
            raise RemoteProtocolError(f"these bytes are no {kind.__name__}") from error

    # -- records ---------------------------------------------------------------------------------------------------------

    def _record(self, kind: int, request: bytes | pb.PredictRequest | pb.FeedbackRequest, owner: int) -> None:
        """Before a call is applied: put it on record, in a new journal where a checkpoint is due."""
        if self.records is not None:
            raw = request if isinstance(request, bytes) else request.SerializeToString()
            self.records.append(kind, raw, owner, self.calls)
        self.calls += 1

    def checkpoint(self) -> None:
        """Write the state, and wait for it.

        Raises:
            StateError: the disk does not take it; the journal holds every answered call.
        """
        if self.records is not None:
            self.records.checkpoint(self.calls)

    def _again(self, call: Call) -> None:
        kind, owner, raw = call
        try:
            if kind == PREDICT:
                self._predict(self._parse(pb.PredictRequest, raw), _nothing, owner)
            elif kind == PARTIAL:
                self._partial(self._parse(pb.PredictRequest, raw), _nothing, owner)
            elif kind == FEEDBACK:
                self._feedback(self._parse(pb.FeedbackRequest, raw), _nothing, owner)
            else:
                raise StateError(f"the journal holds a call of unknown kind {kind}")
        except RemoteProtocolError as error:
            raise StateError(f"the journal holds a call that is refused now: {error}") from error


def _nothing() -> None:
    """It is on record already."""
