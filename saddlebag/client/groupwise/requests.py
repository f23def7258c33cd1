"""What a client of the prediction service asks and is told, as messages."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from saddlebag.client.groupwise.rows import columns_of, values_of
from saddlebag.errors import BrokenStream, ConfigError, PeerLost, RemoteProtocolError
from saddlebag.proto.groupwise import join_columns, join_labels, join_rows, numbers
from saddlebag.proto.seal import opened, sealed
from saddlebag.proto.v1 import groupwise_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from saddlebag.compression import Vector

__all__ = ["Predicted"]

_NAMED = 6  # names of columns in a message
_OURS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.FAILED_PRECONDITION)


@dataclasses.dataclass(frozen=True, eq=False)
class Predicted:
    """A batch's predictions.

    Attributes:
        ticket_N: uint64, to be given back with the labels.
        value_N: float64.
        weight_NE: float64 if asked for, else None.
        low_NM, high_NM: the ends of the intervals, a column for each of the service's `about.targets`; an interval whose low
            end is the higher one holds no label.
        calibrated_N: the predictions corrected for every group and level; None where `about.levels` is 0.
    """

    ticket_N: npt.NDArray[np.uint64]
    value_N: Vector
    weight_NE: Vector | None
    low_NM: Vector
    high_NM: Vector
    calibrated_N: Vector | None = None


def predict_request(
    about: pb.DescribeReply, x_ND: Any, member_NG: Any, weights: bool, given_N: Any = None
) -> pb.PredictRequest:
    """The request for encoded rows; errors as `GroupwiseClient.predict`."""
    x_ND, member_NG = np.asarray(x_ND), np.asarray(member_NG)
    features, groups = join_rows(x_ND, member_NG)
    shape = (x_ND.shape[1], member_NG.shape[1])
    if shape != (len(about.features), len(about.groups)):
        for count, names, what in zip(shape, (about.features, about.groups), ("features", "groups"), strict=True):
            if count != len(names):
                raise ConfigError(f"rows need the {len(names)} {what} {_few(names)}, got {count} columns")
    counts = {"rows": len(x_ND), "num_features": shape[0], "num_groups": shape[1]}
    given = b"" if given_N is None else join_labels((), given_N)[1]
    return pb.PredictRequest(features=features, groups=groups, weights=weights, given=given, **counts)


def table_request(about: pb.DescribeReply, rows: Any, weights: bool) -> pb.PredictRequest:
    """The request for rows of plain values; errors as `GroupwiseClient.predict_table`."""
    if not about.columns:
        raise ConfigError("the service takes encoded rows only: it was made without a recipe's columns")
    needed = {column.name: column.text for column in about.columns}
    return pb.PredictRequest(columns=join_columns(columns_of(rows, needed)), weights=weights)


def values_request(about: pb.DescribeReply, ticket_N: Any, values: Any) -> pb.FeedbackRequest:
    """The request for labels of plain values; errors as `GroupwiseClient.feedback_values`."""
    if not about.label.name:
        raise ConfigError("the service takes encoded labels only: it was made without a recipe's columns")
    label = values_of(values, about.label.name, about.label.text)
    return pb.FeedbackRequest(tickets=join_labels(ticket_N, np.empty(0))[0], label=join_columns({about.label.name: label})[0])


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMED else f"{', '.join(names[:_NAMED])}, ..."


def predicted(reply: pb.PredictReply) -> Predicted:
    """What a reply says."""
    value_N = numbers(reply.predictions)
    weight_NE = numbers(reply.weights).reshape(len(value_N), -1) if reply.weights else None
    low_NM = high_NM = np.empty((len(value_N), 0))
    if reply.low or reply.high:
        low_NM, high_NM = (numbers(end).reshape(len(value_N), -1) for end in (reply.low, reply.high))
    calibrated_N = numbers(reply.calibrated) if reply.calibrated else None
    return Predicted(tickets(reply.first_ticket, len(value_N)), value_N, weight_NE, low_NM, high_NM, calibrated_N)


def tickets(first: int, count: int) -> npt.NDArray[np.uint64]:
    """The tickets of a batch."""
    return np.arange(first, first + count, dtype=np.uint64)


def told(request: Any) -> bytes:
    """A request as it travels, with its checksum."""
    return sealed(request.SerializeToString())


def heard(raw: bytes, kind: Any, address: str) -> Any:
    """The reply of this kind that has come.

    Raises:
        PeerLost: it is not what was sent: as good as none, and the call may be repeated.
        RemoteProtocolError: it is what was sent, and no such reply.
    """
    try:
        opened(raw, f"a {kind.__name__}")
        return kind.FromString(raw)
    except BrokenStream as error:
        raise PeerLost(f"no answer from the server at {address}: {error}") from error
    except DecodeError as error:
        raise RemoteProtocolError(f"the answer of the server at {address} is no {kind.__name__}") from error


def translated(error: grpc.RpcError, address: str) -> Exception:
    """The error that a call's status stands for."""
    code, details = error.code(), error.details()
    if code == grpc.StatusCode.UNAUTHENTICATED:
        return ConfigError(f"the server at {address} refuses: {details}")
    if code in _OURS:
        return RemoteProtocolError(f"the server at {address} refuses: {details}")
    return PeerLost(f"no answer from the server at {address}: {details or code.name}")
