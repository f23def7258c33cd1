"""Batches of the prediction service as bytes: rows, memberships, tickets and labels, checked before they are believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from saddlebag.errors import RemoteProtocolError

__all__ = [
    "GROUPWISE_SERVICE",
    "PROTOCOL",
    "TOKEN_KEY",
    "join_labels",
    "join_rows",
    "numbers",
    "split_labels",
    "split_rows",
]

GROUPWISE_SERVICE = "saddlebag.proto.v1.Groupwise"
PROTOCOL = 1
TOKEN_KEY = "saddlebag-token"
"""Metadata key of the shared secret."""

Doubles = npt.NDArray[np.float64]
Members = npt.NDArray[np.bool_]
_F8, _U8 = np.dtype("<f8"), np.dtype("<u8")


def join_rows(x_ND: Doubles, member_NG: Members) -> tuple[bytes, bytes]:
    """The fields `features` and `groups` of a request."""
    packed = np.packbits(np.asarray(member_NG, bool), axis=1, bitorder="little")
    return np.ascontiguousarray(x_ND, _F8).tobytes(), packed.tobytes()


def split_rows(features: bytes, groups: bytes, num_features: int, num_groups: int) -> tuple[Doubles, Members]:
    """Rows (N, D) and memberships (N, G) of a request.

    Raises:
        RemoteProtocolError: the lengths do not fit each other, or a padding bit is set.
    """
    width = -(-num_groups // 8)
    rows, rest = divmod(len(features), 8 * num_features)
    if rest or len(groups) != rows * width:
        raise RemoteProtocolError(
            f"{len(features)} bytes of features and {len(groups)} of groups are no rows of {8 * num_features} and {width} bytes"
        )
    bits = np.unpackbits(np.frombuffer(groups, np.uint8).reshape(rows, width), axis=1, bitorder="little")
    if bits[:, num_groups:].any():
        raise RemoteProtocolError(f"a row names a group beyond the {num_groups} there are")
    return np.frombuffer(features, _F8).reshape(rows, num_features), bits[:, :num_groups].astype(bool)


def join_labels(ticket_N: Any, label_N: Any) -> tuple[bytes, bytes]:
    """The fields `tickets` and `labels` of a request."""
    return np.asarray(ticket_N, _U8).tobytes(), np.asarray(label_N, _F8).tobytes()


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
