"""Batches of the prediction service as bytes: rows, memberships, tickets and labels, checked before they are believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.proto.frames import FRAME_BYTES
from saddlebag.proto.v1 import groupwise_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "CLIENT_KEY",
    "GROUPWISE_SERVICE",
    "PROTOCOL",
    "SEALED_KEY",
    "TOKEN_KEY",
    "column_length",
    "encode_rows",
    "join_columns",
    "join_labels",
    "join_rows",
    "numbers",
    "rows_of_a_frame",
    "split_column",
    "split_columns",
    "split_labels",
    "split_rows",
]

GROUPWISE_SERVICE = "saddlebag.proto.v1.Groupwise"
PROTOCOL = 2
"""Since 2 messages end with their checksum, both ways, where the call's metadata say so; others may leave it out."""
SEALED_KEY = "saddlebag-sealed"
"""Metadata key of a call whose messages are sealed, with the value 1."""
TOKEN_KEY = "saddlebag-token"
"""Metadata key of the shared secret."""
CLIENT_KEY = "saddlebag-client"
"""Metadata key of the identity that tickets belong to."""

Doubles = npt.NDArray[np.float64]
Members = npt.NDArray[np.bool_]
_F8, _U8 = np.dtype("<f8"), np.dtype("<u8")
LONGEST_TEXT = 1000
"""Characters of a text in a row: numpy gives every row the room of the longest."""


def join_rows(x_ND: Any, member_NG: Any) -> tuple[bytes, bytes]:
    """The fields `features` and `groups` of a request.

    Args:
        x_ND: finite numbers.
        member_NG: booleans, or numbers that are all 0 or 1.

    Raises:
        ConfigError: one is no table of such values, or their rows are not as many.

    Example:
        >>> features, groups = join_rows([[0.5, 1.0]], [[True, False, True]])
        >>> len(features), list(groups)
        (16, [5])
    """
    x_ND, member_NG = _table(x_ND, "features"), np.asarray(member_NG)
    if not np.vdot(x_ND, x_ND) < np.inf and not np.isfinite(x_ND).all():  # the usual case in one pass
        row, column = np.argwhere(~np.isfinite(x_ND))[0]
        raise ConfigError(f"features must be finite, got {x_ND[row, column]} in row {row}, column {column}")
    if member_NG.dtype.kind != "b":
        number_NG = _table(member_NG, "memberships")
        other_NG = ~np.isin(number_NG, (0.0, 1.0))
        if other_NG.any():
            row, column = np.argwhere(other_NG)[0]
            raise ConfigError(
                f"memberships must be booleans, 0 or 1, got {number_NG[row, column]} in row {row}, column {column}; "
                "a service takes no fractions"
            )
        member_NG = number_NG == 1.0
    if member_NG.ndim != 2 or len(member_NG) != len(x_ND):
        raise ConfigError(f"memberships must be a table of {len(x_ND)} rows, as the features, got shape {member_NG.shape}")
    return encode_rows(x_ND, member_NG)


def encode_rows(x_ND: Doubles, member_NG: Members) -> tuple[bytes, bytes]:
    """As `join_rows`, of tables that are known to be right."""
    return np.asarray(x_ND, _F8).tobytes(), np.packbits(member_NG, axis=1, bitorder="little").tobytes()


def _table(values: Any, what: str) -> Doubles:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or array.ndim != 2:
        raise ConfigError(f"{what} must be a table of numbers (rows, columns), got {array.dtype} of shape {array.shape}")
    return np.asarray(array, _F8)


def rows_of_a_frame(num_features: int, num_groups: int) -> int:
    """The most rows that a message holds, in a request or in a reply with the weights of groups and shadows; at least 1.

    Example:
        >>> rows_of_a_frame(25, 10), rows_of_a_frame(25, 20_000)
        (5242, 3)
    """
    return max(1, FRAME_BYTES // (8 * max(num_features, 2 * num_groups)))


def split_rows(
    features: bytes, groups: bytes, num_features: int, num_groups: int, told: tuple[int, int, int] = (0, 0, 0)
) -> tuple[Doubles, Members]:
    """Rows (N, D) and memberships (N, G) of a request.

    Args:
        features: the field.
        groups: the field.
        num_features: D.
        num_groups: G.
        told: rows, features and groups as the client counts them; 0 where it does not say.

    Raises:
        RemoteProtocolError: the lengths do not fit each other or what was told, or a padding bit is set.
    """
    for count, expected, what in ((told[1], num_features, "features"), (told[2], num_groups, "groups")):
        if count and count != expected:
            raise RemoteProtocolError(f"rows need {expected} {what}, got {count}")
    width = -(-num_groups // 8)
    rows, rest = divmod(len(features), 8 * num_features)
    if rest or len(groups) != rows * width or (told[0] and told[0] != rows):
        said = f"{told[0]} rows" if told[0] else "rows"
        raise RemoteProtocolError(
            f"{len(features)} bytes of features and {len(groups)} of groups are not {said} of {num_features} features "
            f"({8 * num_features} bytes) and {num_groups} groups ({width} bytes)"
        )
    packed = np.frombuffer(groups, np.uint8).reshape(rows, width)
    if num_groups % 8 and np.bitwise_or.reduce(packed[:, -1]) >> num_groups % 8:
        raise RemoteProtocolError(f"a row names a group beyond the {num_groups} there are")
    bits = np.unpackbits(packed, axis=1, count=num_groups, bitorder="little")
    return np.frombuffer(features, _F8).reshape(rows, num_features), bits.view(np.bool_)


def join_labels(ticket_N: Any, label_N: Any) -> tuple[bytes, bytes]:
    """The fields `tickets` and `labels` of a request.

    Raises:
        ConfigError: tickets are no whole numbers of 64 bits, labels no finite numbers, or one is no flat list.

    Example:
        >>> len(join_labels([7], [0.5])[0])
        8
    """
    ticket_N, label_N = np.asarray(ticket_N), np.asarray(label_N)
    if ticket_N.ndim != 1 or (ticket_N.size and ticket_N.dtype.kind not in "iu"):
        raise ConfigError(f"tickets must be a list of whole numbers, got {ticket_N.dtype} of shape {ticket_N.shape}")
    if ticket_N.dtype.kind == "i" and ticket_N.size and ticket_N.min() < 0:
        raise ConfigError(f"tickets lie in 0 to 2^64 - 1, got {ticket_N.min()}")
    if label_N.ndim != 1 or (label_N.size and label_N.dtype.kind not in "biuf"):
        raise ConfigError(f"labels must be a list of numbers, got {label_N.dtype} of shape {label_N.shape}")
    return ticket_N.astype(_U8).tobytes(), label_N.astype(_F8).tobytes()


def split_labels(tickets: bytes, labels: bytes) -> tuple[npt.NDArray[np.uint64], Doubles]:
    """Tickets and labels of a request, shape (N,) each.

    Raises:
        RemoteProtocolError: the lengths do not fit each other.
    """
    if len(tickets) % 8 or len(tickets) != len(labels):
        raise RemoteProtocolError(f"{len(tickets)} bytes of tickets and {len(labels)} of labels are no pairs of 8 bytes")
    return np.frombuffer(tickets, _U8), np.frombuffer(labels, _F8)


def numbers(data: bytes) -> Doubles:
    """A field of float64 numbers.

    Raises:
        RemoteProtocolError: its length is no multiple of 8.
    """
    if len(data) % 8:
        raise RemoteProtocolError(f"{len(data)} bytes are no float64 numbers")
    return np.frombuffer(data, _F8)


def join_columns(values: Mapping[str, npt.NDArray[Any]]) -> list[pb.Column]:
    """The field `columns` of a request: arrays of float64 (NaN where missing) or of text ("" where missing).

    Example:
        >>> [column.name for column in join_columns({"age": np.array([30.0]), "sex": np.array(["Female"])})]
        ['age', 'sex']
    """
    return [
        pb.Column(name=name, texts=value.tolist())
        if value.dtype.kind == "U"
        else pb.Column(name=name, numbers=value.astype(_F8).tobytes())
        for name, value in values.items()
    ]


def column_length(column: pb.Column) -> int:
    """How many values a column holds."""
    return max(len(column.texts), len(column.numbers) // 8)


def split_columns(columns: Iterable[pb.Column], kinds: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    """The columns of a request by name, all of one length.

    Args:
        columns: the field.
        kinds: the columns that a row needs: "numbers" or "text".

    Raises:
        RemoteProtocolError: one is missing, unknown, given twice or of the wrong kind, or they differ in length.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    for column in columns:
        if column.name not in kinds or column.name in found:
            why = "given twice" if column.name in found else "not one of the row's columns"
            raise RemoteProtocolError(f"column {column.name[:60]!r} is {why}; they are {', '.join(kinds)}")
        found[column.name] = split_column(column, kinds[column.name])
    missing = [name for name in kinds if name not in found]
    if missing:
        raise RemoteProtocolError(f"rows need column {missing[0]!r}; the columns are {', '.join(kinds)}")
    lengths = {name: len(value) for name, value in found.items()}
    if len(set(lengths.values())) > 1:
        raise RemoteProtocolError(f"columns must be of one length, got {lengths}")
    return found


def split_column(column: pb.Column, kind: str) -> npt.NDArray[Any]:
    """The values of a column: float64, or text.

    Raises:
        RemoteProtocolError: they are of the other kind, infinite, or too long.
    """
    got = "numbers" if column.numbers else "text" if column.texts else kind
    if got != kind or (column.numbers and column.texts):
        raise RemoteProtocolError(f"column {column.name[:60]!r} must hold {kind}, got {got}")
    if kind == "numbers":
        value_N = numbers(column.numbers)
        if np.isinf(value_N).any():
            raise RemoteProtocolError(f"column {column.name[:60]!r} must be finite, got {value_N[np.isinf(value_N)][0]}")
        return value_N
    longest = max(map(len, column.texts), default=0)
    if longest > LONGEST_TEXT:
        raise RemoteProtocolError(f"column {column.name[:60]!r} has a text of {longest} characters, at most {LONGEST_TEXT}")
    return np.array(column.texts, np.str_)
