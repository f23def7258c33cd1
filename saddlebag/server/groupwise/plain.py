"""Requests of plain values as requests of encoded ones, which are what goes on record.

What was recorded means the same whatever is encoded how one day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.groupwise import column_length, encode_rows, split_column, split_columns
from saddlebag.proto.v1 import groupwise_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from saddlebag.proto.groupwise import Doubles, Members
    from saddlebag.server.groupwise.core import GroupwiseCore

_PLAIN = "this server takes encoded rows and labels only: it was made without a recipe's columns"


class Encodes(Protocol):
    """Encodes rows and labels of plain values."""

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns that a row needs: "numbers" or "text"."""

    @property
    def label_column(self) -> tuple[str, bool]:
        """The label's column, and whether it is text."""

    def frozen(self, facts: Sequence[dict[str, Any]]) -> Encodes:
        """The same with the features' constants of an earlier start."""

    def with_group(self, name: str, rule: str) -> Encodes:
        """The same with one more group; `ConfigError` where the rule is none."""

    def encode(self, values: Mapping[str, npt.NDArray[Any]], first: int) -> tuple[Doubles, Members, Doubles | None]:
        """Features, memberships and the user's own predictions of rows, the first of which is the round `first`."""

    def encode_labels(self, values: npt.NDArray[Any]) -> Doubles:
        """Labels as learners see them."""

    def decode_labels(self, value_N: Doubles) -> Doubles:
        """Predictions in units of the label's column."""


def plain_rows(request: pb.PredictRequest, encoder: Encodes | None, core: GroupwiseCore) -> pb.PredictRequest:
    """A request of columns as one of encoded rows.

    Raises:
        RemoteProtocolError: there is no encoder; columns are missing or of the wrong kind, or a value is refused.
    """
    if encoder is None:
        raise RemoteProtocolError(_PLAIN)
    if request.features or request.groups or request.given:
        raise RemoteProtocolError("a request has either columns, or features and groups, not both")
    for column in request.columns:  # before texts become arrays, in which each takes the room of the longest
        core.check_rows(column_length(column))
    values = split_columns(request.columns, encoder.columns)
    x_ND, member_NG, given_N = encoder.encode(values, core.tickets.next)
    features, groups = encode_rows(x_ND, member_NG)
    given = b"" if given_N is None else given_N.astype("<f8").tobytes()
    return pb.PredictRequest(features=features, groups=groups, weights=request.weights, given=given)


def plain_labels(request: pb.FeedbackRequest, encoder: Encodes | None, core: GroupwiseCore) -> pb.FeedbackRequest:
    """A request with values of the label's column as one of encoded labels; errors as `plain_rows`."""
    if encoder is None:
        raise RemoteProtocolError(_PLAIN)
    if request.labels:
        raise RemoteProtocolError("a request's labels are either encoded or values of the label's column, not both")
    name, text = encoder.label_column
    if request.label.name != name:
        raise RemoteProtocolError(f"labels are values of the column {name!r}, got {request.label.name[:60]!r}")
    core.check_rows(column_length(request.label))
    label_N = encoder.encode_labels(split_column(request.label, "text" if text else "numbers"))
    return pb.FeedbackRequest(
        tickets=request.tickets, labels=label_N.astype("<f8").tobytes(), played=request.played, notes=request.notes
    )
