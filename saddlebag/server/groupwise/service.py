"""Requests to replies, on record: the core, its journal and its checkpoints as one."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from saddlebag.algorithms.groupwise.guard import LARGEST
from saddlebag.errors import ConfigError, RemoteProtocolError, StateError
from saddlebag.proto.groupwise import PROTOCOL, numbers, split_labels, split_rows
from saddlebag.proto.v1 import groupwise_pb2 as pb
from saddlebag.server.groupwise.calls import FEEDBACK, GROW, PARTIAL, PREDICT
from saddlebag.server.groupwise.plain import plain_labels, plain_rows
from saddlebag.server.groupwise.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.proto.groupwise import Doubles, Members
    from saddlebag.server.groupwise.calls import Call
    from saddlebag.server.groupwise.core import GroupwiseCore
    from saddlebag.server.groupwise.plain import Encodes

T = TypeVar("T")


class GroupwiseService:
    """Answers serialised requests.

    Args:
        core: the state; it is brought to where the folder's checkpoint and journal lead.
        directory: for both; None keeps nothing.
        encoder: of rows of plain values; None takes encoded rows only.
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
        encoder: Encodes | None = None,
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
        self.encoder = encoder.frozen(core.features) if encoder is not None else None
        for group in core.added:
            self.encoder = self.encoder.with_group(group["name"], group["rule"]) if self.encoder is not None else None

    # -- requests --------------------------------------------------------------------------------------------------------

    def predict(self, raw: bytes, owner: int = 0) -> pb.PredictReply:
        """Answer a PredictRequest.

        Raises:
            RemoteProtocolError: it is malformed.
            StateError: the journal cannot be written; the service must end.
        """
        return self._answer_rows(self._parse(pb.PredictRequest, raw), raw, owner)

    def feedback(self, raw: bytes, owner: int = 0) -> pb.FeedbackReply:
        """Answer a FeedbackRequest; errors as `predict`."""
        return self._answer_labels(self._parse(pb.FeedbackRequest, raw), raw, owner)

    def partial(self, raw: bytes, owner: int = 0) -> pb.PartialReply:
        """Answer a Partial's PredictRequest; errors as `predict`."""
        request = self._parse(pb.PredictRequest, raw)
        plain = self._encoded(request)
        told = raw if plain is request else plain
        return self._partial(plain, functools.partial(self._record, PARTIAL, told, owner), owner)

    def add_groups(self, raw: bytes, owner: int = 0) -> pb.AddGroupsReply:
        """Answer an AddGroupsRequest; errors as `predict`."""
        request, encoder = self._parse(pb.AddGroupsRequest, raw), self.encoder
        for group in request.groups:
            if bool(group.rule) != (encoder is not None):
                why = "takes encoded rows only: leave its rule out" if encoder is None else "needs its rule"
                raise RemoteProtocolError(f"group {group.name[:60]!r}: this server {why}")
            if encoder is not None:
                try:
                    encoder = encoder.with_group(group.name, group.rule)
                except ConfigError as error:
                    raise RemoteProtocolError(str(error)) from error
        self._grow(request, functools.partial(self._record, GROW, raw, owner))
        self.encoder = encoder
        return pb.AddGroupsReply(groups=len(self.core.settings.groups))

    def _grow(self, request: pb.AddGroupsRequest, record: Callable[[], None]) -> None:
        usual = float(self.core.state.mixer.prior_E.sum()) / len(self.core.settings.groups)
        groups = [{"name": each.name, "rule": each.rule, "prior": each.prior or usual} for each in request.groups]
        self.core.grow(groups, record)

    def stream(self, raw: bytes, owner: int = 0) -> pb.StreamReply:
        """Answer a StreamRequest; errors as `predict`."""
        request = self._parse(pb.StreamRequest, raw)
        kind = request.WhichOneof("request")
        if kind == "predict":
            return pb.StreamReply(predict=self._answer_rows(request.predict, request.predict, owner))
        if kind == "feedback":
            return pb.StreamReply(feedback=self._answer_labels(request.feedback, request.feedback, owner))
        raise RemoteProtocolError("a StreamRequest holds neither predict nor feedback")

    def _answer_rows(self, request: pb.PredictRequest, raw: bytes | pb.PredictRequest, owner: int) -> pb.PredictReply:
        """What goes on record are encoded rows: they mean the same whatever is encoded how one day."""
        plain = self._encoded(request)
        told = raw if plain is request else plain
        reply = self._predict(plain, functools.partial(self._record, PREDICT, told, owner), owner)
        if plain is not request and self.encoder is not None:
            for name in ("predictions", "low", "high", "calibrated"):
                setattr(reply, name, self.encoder.decode_labels(numbers(getattr(reply, name))).tobytes())
        return reply

    def _answer_labels(self, request: pb.FeedbackRequest, raw: bytes | pb.FeedbackRequest, owner: int) -> pb.FeedbackReply:
        if request.HasField("label"):
            request = raw = plain_labels(request, self.encoder, self.core)
        return self._feedback(request, functools.partial(self._record, FEEDBACK, raw, owner), owner)

    def _encoded(self, request: pb.PredictRequest) -> pb.PredictRequest:
        return plain_rows(request, self.encoder, self.core) if request.columns else request

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
            targets=settings.intervals.rule.targets if settings.intervals is not None else (),
            given=settings.given,
            levels=settings.calibration.bins if settings.calibration is not None else 0,
            **self._about_columns(),
        )

    def _about_columns(self) -> dict[str, Any]:
        if self.encoder is None:
            return {}
        name, text = self.encoder.label_column
        columns = [pb.ColumnAbout(name=name, text=kind == "text") for name, kind in self.encoder.columns.items()]
        return {"columns": columns, "label": pb.ColumnAbout(name=name, text=text)}

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
        coverage = [pb.Coverage(**dataclasses.asdict(each)) for each in core.coverage()]
        return pb.ReportReply(
            experts=accounts,
            coverage=coverage,
            calibrated=[pb.Calibrated(**dataclasses.asdict(each)) for each in core.levels()],
            watched=[pb.FirstAlarm(kind=kind, group=group, round=first) for kind, group, first in core.watched()],
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
        rows = self._rows(request)
        given_N = self._given(request, len(rows[0]))
        offer = self.core.offer(*rows, record, given_N=given_N, owner=owner)
        return pb.PredictReply(
            first_ticket=offer.first,
            predictions=offer.block.value_N.tobytes(),
            weights=offer.block.p_NE.tobytes() if request.weights else b"",
            low=offer.low_NM.tobytes(),
            high=offer.high_NM.tobytes(),
            calibrated=b"" if offer.calibrated_N is None else offer.calibrated_N.tobytes(),
        )

    def _given(self, request: pb.PredictRequest, rows: int) -> Doubles | None:
        """The user's own predictions, which a service asks for or does not know what to do with."""
        wanted = self.core.settings.given
        if not request.given and not wanted:
            return None
        if not wanted:
            raise RemoteProtocolError("the recipe names no column intervals.prediction, so predictions of your own have no use")
        given_N = numbers(request.given)
        if len(given_N) != rows or not (np.abs(given_N) <= LARGEST).all():
            raise RemoteProtocolError(
                f"{rows} rows need as many finite predictions of your own (intervals.prediction), got {len(given_N)}"
            )
        return given_N

    def _partial(self, request: pb.PredictRequest, record: Callable[[], None], owner: int) -> pb.PartialReply:
        rows = self._rows(request)
        given_N = self._given(request, len(rows[0]))
        first, part, note_NK = self.core.partial(*rows, record, given_N=given_N, owner=owner)
        return pb.PartialReply(first_ticket=first, sums=part.to_array().tobytes(), notes=note_NK.tobytes())

    def _feedback(self, request: pb.FeedbackRequest, record: Callable[[], None], owner: int) -> pb.FeedbackReply:
        played_N = numbers(request.played) if request.played else None
        labels = split_labels(request.tickets, request.labels)
        joined_NK = _table_of(numbers(request.notes), len(labels[1])) if request.notes else None
        outcome_N = self.core.feedback(*labels, record, played_N=played_N, joined_NK=joined_NK, owner=owner)
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
            elif kind == GROW:
                self._grow(self._parse(pb.AddGroupsRequest, raw), _nothing)
            else:
                raise StateError(f"the journal holds a call of unknown kind {kind}")
        except RemoteProtocolError as error:
            raise StateError(f"the journal holds a call that is refused now: {error}") from error


def _nothing() -> None:
    """It is on record already."""


def _table_of(number_K: Doubles, rows: int) -> Doubles:
    """Numbers as a table of so many rows."""
    if not rows or len(number_K) % rows:
        raise RemoteProtocolError(f"{len(number_K)} numbers are no table of {rows} rows")
    return number_K.reshape(rows, -1)
