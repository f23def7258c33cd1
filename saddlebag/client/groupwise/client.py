"""A client of the prediction service, for any Python program: predictions, labels, and both on one stream."""

from __future__ import annotations

import contextlib
import re
import secrets
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from saddlebag.algorithms.groupwise import PartialMix
from saddlebag.algorithms.groupwise.coverage.offered import note_width
from saddlebag.algorithms.groupwise.distributed.sharding import FIELDS as SHARD_NUMBERS
from saddlebag.client.groupwise.requests import (
    Predicted,
    heard,
    predict_request,
    predicted,
    table_request,
    tickets,
    told,
    translated,
    values_request,
)
from saddlebag.client.groupwise.stream import PredictionStream
from saddlebag.errors import ConfigError, PeerLost, RemoteProtocolError
from saddlebag.proto.address import parse_address
from saddlebag.proto.channel import open_channel
from saddlebag.proto.endpoint import ClientSecurity
from saddlebag.proto.groupwise import (
    CLIENT_KEY,
    GROUPWISE_SERVICE,
    PROTOCOL,
    SEALED_KEY,
    TOKEN_KEY,
    join_labels,
    numbers,
)
from saddlebag.proto.probe import probe
from saddlebag.proto.v1 import groupwise_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    import numpy.typing as npt

    from saddlebag.compression import Vector
    from saddlebag.proto.groupwise import Members

__all__ = ["GroupwiseClient", "Predicted", "PredictionStream"]

_TIMEOUT_S = 30.0
_IDENTITY = re.compile(r"[A-Za-z0-9._-]{1,128}")


class GroupwiseClient:
    """A connection to the service; use it as a context manager.

    Args:
        address: HOST:PORT.
        security: TLS files; none for plain text.
        token: the server's secret, or empty.
        identity: whose the tickets are. By default a new random one for each client; give it, or keep `identity`, where labels
            come from another process than predictions, or after a restart. A certificate goes before it.
        timeout_s: of each call, and of each reply on a stream.

    Raises:
        PeerLost: nobody answers at the address.
        ConfigError: the address is none, TLS does not fit (and how), or the server refuses the secret or speaks another
            protocol version.
    """

    def __init__(
        self,
        address: str,
        *,
        security: ClientSecurity | None = None,
        token: str = "",
        identity: str = "",
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        place, security = parse_address(address), security or ClientSecurity()
        self._address, self._timeout_s = address, timeout_s
        self.identity = identity or secrets.token_hex(16)
        if not _IDENTITY.fullmatch(self.identity):
            raise ConfigError(f"identity must be 1 to 128 letters, digits or one of ._-, got {self.identity!r}")
        self._metadata = ((CLIENT_KEY, self.identity), (SEALED_KEY, "1"), *(((TOKEN_KEY, token),) if token else ()))
        self._channel = open_channel(place, security)
        try:
            self.about: pb.DescribeReply = self._call("Describe", pb.DescribeRequest(), pb.DescribeReply)
        except PeerLost as error:
            self.close()
            if (found := probe(place, security)) is None:
                raise
            kind = ConfigError if found.lasting else PeerLost
            raise kind(f"no answer from the server at {address}: {found.text}") from error
        if self.about.protocol != PROTOCOL:
            raise ConfigError(f"the server speaks protocol version {self.about.protocol}, not {PROTOCOL}; use the same release")

    def __enter__(self) -> GroupwiseClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def predict(self, x_ND: Vector, member_NG: Members, *, weights: bool = False, given_N: Vector | None = None) -> Predicted:
        """Predict rows.

        Args:
            x_ND: features, in the order of `about.features`.
            member_NG: memberships, in the order of `about.groups`.
            weights: whether to fetch the experts' weights.
            given_N: predictions of your own, scaled as labels are, where the recipe puts intervals around these.

        Raises:
            ConfigError: the rows are no tables of finite features and of booleans (or 0 and 1), as wide as the service's.
            RemoteProtocolError: the server refuses the rows, and why.
            PeerLost: it does not answer.
        """
        request = predict_request(self.about, x_ND, member_NG, weights, given_N)
        return predicted(self._call("Predict", request, pb.PredictReply))

    def predict_table(self, rows: Any, *, weights: bool = False) -> Predicted:
        """Predict rows of plain values, which the service encodes; predictions are in units of the label's column.

        Args:
            rows: a list of dictionaries, a dictionary of columns, an Arrow table or a data frame, with at least the columns of
                `about.columns`; None (for numbers, NaN too) is a missing value.
            weights: whether to fetch the experts' weights.

        Raises:
            ConfigError: a column is missing or of the wrong kind, or the service takes encoded rows only.
            RemoteProtocolError: the server refuses the rows, and why: values that are missing, unknown or out of bounds.
            PeerLost: it does not answer.
        """
        return predicted(self._call("Predict", table_request(self.about, rows, weights), pb.PredictReply))

    def feedback_values(self, ticket_N: Any, values: Any) -> npt.NDArray[np.uint8]:
        """As `feedback`, with values of the label's column (`about.label`), such as "yes", or dollars. Errors as there."""
        reply = self._call("Feedback", values_request(self.about, ticket_N, values), pb.FeedbackReply)
        return np.frombuffer(reply.outcomes, np.uint8)

    def partial(
        self, x_ND: Vector, member_NG: Members, given_N: Vector | None = None
    ) -> tuple[npt.NDArray[np.uint64], PartialMix, Vector]:
        """Tickets of a shard, its part of a prediction, and its notes of intervals and levels. Errors as `predict`."""
        return self._partial(predict_request(self.about, x_ND, member_NG, False, given_N), len(x_ND))

    def partial_table(self, rows: Any) -> tuple[npt.NDArray[np.uint64], PartialMix, Vector]:
        """As `partial`, of plain values: see `predict_table`."""
        request = table_request(self.about, rows, False)
        column = request.columns[0]
        return self._partial(request, len(column.texts) or len(column.numbers) // 8)

    def _partial(self, request: pb.PredictRequest, rows: int) -> tuple[npt.NDArray[np.uint64], PartialMix, Vector]:
        reply = self._call("Partial", request, pb.PartialReply)
        try:
            part = PartialMix.from_array(numbers(reply.sums).reshape(-1, SHARD_NUMBERS))
            width = (note_width(len(self.about.targets)) if self.about.targets else 0) + self.about.levels
            notes = numbers(reply.notes).reshape(rows, width)
        except ValueError as error:
            raise RemoteProtocolError(f"the shard at {self._address} sent no sums of {rows} rows: {error}") from error
        if len(part.top_N) != rows:
            raise RemoteProtocolError(f"the shard at {self._address} sent {len(part.top_N)} sums for {rows} rows")
        return tickets(reply.first_ticket, rows), part, notes

    def feedback(
        self, ticket_N: Any, label_N: Any, played_N: Any = None, joined_NK: Vector | None = None
    ) -> npt.NDArray[np.uint8]:
        """Give labels, and to a shard what was played and the notes of all shards; returns what came of each.

        1 applied, 2 repeated, 3 unknown, 4 refused: the service's state would not have been finite. Errors as `predict`.
        """
        tickets, labels = join_labels(ticket_N, label_N)
        played = b"" if played_N is None else join_labels((), played_N)[1]
        notes = b"" if joined_NK is None else np.ascontiguousarray(joined_NK, "<f8").tobytes()
        request = pb.FeedbackRequest(tickets=tickets, labels=labels, played=played, notes=notes)
        reply = self._call("Feedback", request, pb.FeedbackReply)
        return np.frombuffer(reply.outcomes, np.uint8)

    def report(self) -> pb.ReportReply:
        """The accounts of every expert. Errors as `predict`."""
        reply: pb.ReportReply = self._call("Report", pb.ReportRequest(), pb.ReportReply)
        return reply

    @contextlib.contextmanager
    def stream(self) -> Iterator[PredictionStream]:
        """Both calls on one stream, several under way at once; for programs that predict all the time."""
        call = PredictionStream(self._channel, self._metadata, self._address, self.about, self._timeout_s)
        try:
            yield call
        finally:
            call.close()

    def add_groups(self, rules: Mapping[str, str], *, prior: float = 0.0) -> None:
        """Add groups to the running service, at the end of `about.groups`, from the next prediction on.

        Args:
            rules: name -> expression over the columns of `about.columns`; "" of a service that takes encoded rows only.
            prior: mass of each beside those of the present groups; 0 for the mean of theirs.

        Raises:
            RemoteProtocolError: a name, rule or prior is refused; then none has joined.
            PeerLost: no answer within the time-out.
        """
        groups = [pb.NewGroup(name=name, rule=rule, prior=prior) for name, rule in rules.items()]
        self._call("AddGroups", pb.AddGroupsRequest(groups=groups), pb.AddGroupsReply)
        self.about = self._call("Describe", pb.DescribeRequest(), pb.DescribeReply)

    def _call(self, name: str, request: Any, reply_type: Any) -> Any:
        call = self._channel.unary_unary(f"/{GROUPWISE_SERVICE}/{name}")
        try:
            raw = call(told(request), timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise translated(error, self._address) from error
        return heard(raw, reply_type, self._address)
