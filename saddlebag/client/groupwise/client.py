"""A client of the prediction service, for any Python program: predictions, labels, and both on one stream."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import re
import secrets
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from saddlebag.algorithms.groupwise import PartialMix
from saddlebag.algorithms.groupwise.distributed.sharding import FIELDS as SHARD_NUMBERS
from saddlebag.errors import ConfigError, PeerLost, RemoteProtocolError
from saddlebag.proto.address import parse_address
from saddlebag.proto.channel import open_channel
from saddlebag.proto.endpoint import ClientSecurity
from saddlebag.proto.groupwise import CLIENT_KEY, GROUPWISE_SERVICE, PROTOCOL, TOKEN_KEY, join_labels, join_rows, numbers
from saddlebag.proto.probe import probe
from saddlebag.proto.v1 import groupwise_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    import numpy.typing as npt

    from saddlebag.compression import Vector
    from saddlebag.proto.groupwise import Members

__all__ = ["GroupwiseClient", "Predicted", "PredictionStream"]

_TIMEOUT_S = 30.0
_NAMED = 6  # names of columns in a message
_IDENTITY = re.compile(r"[A-Za-z0-9._-]{1,128}")
_OURS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.FAILED_PRECONDITION)


@dataclasses.dataclass(frozen=True, eq=False)
class Predicted:
    """A batch's predictions.

    Attributes:
        ticket_N: uint64, to be given back with the labels.
        value_N: float64.
        weight_NE: float64 if asked for, else None.
    """

    ticket_N: npt.NDArray[np.uint64]
    value_N: Vector
    weight_NE: Vector | None


class GroupwiseClient:
    """A connection to the service; use it as a context manager.

    Args:
        address: HOST:PORT.
        security: TLS files; none for plain text.
        token: the server's secret, or empty.
        identity: whose the tickets are. By default a new random one for each client; give it, or keep `identity`, where labels
            come from another process than predictions, or after a restart. A certificate goes before it.
        timeout_s: of each call.

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
        self._metadata = ((CLIENT_KEY, self.identity), *(((TOKEN_KEY, token),) if token else ()))
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

    def predict(self, x_ND: Vector, member_NG: Members, *, weights: bool = False) -> Predicted:
        """Predict rows.

        Args:
            x_ND: features, in the order of `about.features`.
            member_NG: memberships, in the order of `about.groups`.
            weights: whether to fetch the experts' weights.

        Raises:
            ConfigError: the rows are no tables of finite features and of booleans (or 0 and 1), as wide as the service's.
            RemoteProtocolError: the server refuses the rows, and why.
            PeerLost: it does not answer.
        """
        reply = self._call("Predict", _predict_request(self.about, x_ND, member_NG, weights), pb.PredictReply)
        return _predicted(reply)

    def partial(self, x_ND: Vector, member_NG: Members) -> tuple[npt.NDArray[np.uint64], PartialMix]:
        """A shard's part of a prediction, and its tickets. Errors as `predict`."""
        reply = self._call("Partial", _predict_request(self.about, x_ND, member_NG, False), pb.PartialReply)
        try:
            part = PartialMix.from_array(numbers(reply.sums).reshape(-1, SHARD_NUMBERS))
        except ValueError as error:
            raise RemoteProtocolError(f"the shard at {self._address} sent no sums of {len(x_ND)} rows: {error}") from error
        if len(part.top_N) != len(x_ND):
            raise RemoteProtocolError(f"the shard at {self._address} sent {len(part.top_N)} sums for {len(x_ND)} rows")
        return _tickets(reply.first_ticket, len(x_ND)), part

    def feedback(self, ticket_N: Any, label_N: Any, played_N: Any = None) -> npt.NDArray[np.uint8]:
        """Give labels, and to a shard what was played; returns what came of each.

        1 applied, 2 repeated, 3 unknown, 4 refused: the service's state would not have been finite. Errors as `predict`.
        """
        tickets, labels = join_labels(ticket_N, label_N)
        played = b"" if played_N is None else join_labels((), played_N)[1]
        reply = self._call("Feedback", pb.FeedbackRequest(tickets=tickets, labels=labels, played=played), pb.FeedbackReply)
        return np.frombuffer(reply.outcomes, np.uint8)

    def report(self) -> pb.ReportReply:
        """The accounts of every expert. Errors as `predict`."""
        reply: pb.ReportReply = self._call("Report", pb.ReportRequest(), pb.ReportReply)
        return reply

    @contextlib.contextmanager
    def stream(self) -> Iterator[PredictionStream]:
        """Both calls on one stream, several under way at once; for programs that predict all the time."""
        call = PredictionStream(self._channel, self._metadata, self._address, self.about)
        try:
            yield call
        finally:
            call.close()

    def _call(self, name: str, request: Any, reply_type: Any) -> Any:
        call = self._channel.unary_unary(
            f"/{GROUPWISE_SERVICE}/{name}", lambda message: message.SerializeToString(), reply_type.FromString
        )
        try:
            return call(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _translated(error, self._address) from error


class PredictionStream:
    """A stream of requests; replies come in their order."""

    def __init__(self, channel: grpc.Channel, metadata: Any, address: str, about: pb.DescribeReply) -> None:
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._address, self.about = address, about
        call = channel.stream_stream(f"/{GROUPWISE_SERVICE}/Stream", None, pb.StreamReply.FromString)
        self._replies = call(iter(self._queue.get, None), metadata=metadata)

    def send_rows(self, x_ND: Vector, member_NG: Members, *, weights: bool = False) -> None:
        """Ask for predictions; `receive` gives them."""
        self._queue.put(pb.StreamRequest(predict=_predict_request(self.about, x_ND, member_NG, weights)).SerializeToString())

    def send_labels(self, ticket_N: Any, label_N: Any) -> None:
        """Give labels; `receive` says what came of them."""
        tickets, labels = join_labels(ticket_N, label_N)
        self._queue.put(pb.StreamRequest(feedback=pb.FeedbackRequest(tickets=tickets, labels=labels)).SerializeToString())

    def receive(self) -> Predicted | npt.NDArray[np.uint8]:
        """The next reply: predictions, or the outcomes of labels. Errors as `GroupwiseClient.predict`."""
        try:
            reply = next(self._replies)
        except grpc.RpcError as error:
            raise _translated(error, self._address) from error
        except StopIteration:
            raise PeerLost(f"the server at {self._address} ended the stream") from None
        if reply.WhichOneof("reply") == "predict":
            return _predicted(reply.predict)
        return np.frombuffer(reply.feedback.outcomes, np.uint8)

    def close(self) -> None:
        """End the stream."""
        self._queue.put(None)
        self._replies.cancel()


def _predict_request(about: pb.DescribeReply, x_ND: Any, member_NG: Any, weights: bool) -> pb.PredictRequest:
    features, groups = join_rows(x_ND, member_NG)
    shape = (np.shape(x_ND)[1], np.shape(member_NG)[1])
    for count, names, what in zip(shape, (about.features, about.groups), ("features", "groups"), strict=True):
        if count != len(names):
            raise ConfigError(f"rows need the {len(names)} {what} {_few(names)}, got {count} columns")
    counts = {"rows": len(x_ND), "num_features": shape[0], "num_groups": shape[1]}
    return pb.PredictRequest(features=features, groups=groups, weights=weights, **counts)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMED else f"{', '.join(names[:_NAMED])}, ..."


def _predicted(reply: pb.PredictReply) -> Predicted:
    value_N = numbers(reply.predictions)
    weight_NE = numbers(reply.weights).reshape(len(value_N), -1) if reply.weights else None
    return Predicted(_tickets(reply.first_ticket, len(value_N)), value_N, weight_NE)


def _tickets(first: int, count: int) -> npt.NDArray[np.uint64]:
    return np.arange(first, first + count, dtype=np.uint64)


def _translated(error: grpc.RpcError, address: str) -> Exception:
    code, details = error.code(), error.details()
    if code == grpc.StatusCode.UNAUTHENTICATED:
        return ConfigError(f"the server at {address} refuses: {details}")
    if code in _OURS:
        return RemoteProtocolError(f"the server at {address} refuses: {details}")
    return PeerLost(f"no answer from the server at {address}: {details or code.name}")
