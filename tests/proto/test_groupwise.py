from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.proto.groupwise import join_labels, join_rows, split_labels, split_rows

X, M = np.arange(8.0).reshape(2, 4), np.array([[1, 0, 1], [0, 0, 1]])


@pytest.mark.parametrize("member", [M.astype(bool), M, M.astype(float), M.astype(np.uint8), M.tolist()])
def test_booleans_and_whole_numbers_are_memberships(member: Any) -> None:
    x_ND, member_NG = split_rows(*join_rows(X, member), 4, 3, (2, 4, 3))
    assert np.array_equal(x_ND, X)
    assert np.array_equal(member_NG, M > 0)
    assert np.array_equal(split_rows(*join_rows(X, member), 4, 3)[0], X)  # a client that tells no shape


@pytest.mark.parametrize(
    ("x", "member", "message"),
    [
        (X, M * 0.5, "booleans, 0 or 1, got 0.5 in row 0, column 0"),
        (X, np.where(M, np.nan, 0.0), "booleans, 0 or 1, got nan"),
        (X, M * 2, "got 2.0"),
        (X, -M, "got -1.0"),
        (X, np.where(M, "True", "False"), "memberships must be a table of numbers"),
        (X, M.astype(object), "memberships must be a table"),
        (X, M[0], "memberships must be a table"),
        (X, M.T, "a table of 2 rows, as the features, got shape"),
        (X, M.astype(bool)[None], "memberships must be a table of 2 rows"),
        (X[0], M[:1], "features must be a table"),
        (X[None], M, "features must be a table"),
        (X.reshape(1, 8), M, "a table of 1 rows"),
        (np.where(X == 3, np.nan, X), M, "features must be finite, got nan in row 0, column 3"),
        (np.where(X == 3, np.inf, X), M, "got inf"),
        (X.astype(str), M, "features must be a table of numbers"),
        (X + 1j, M, "features must be a table of numbers"),
    ],
)
def test_other_tables_are_refused_by_name(x: Any, member: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        join_rows(x, member)


@pytest.mark.parametrize(
    ("features", "groups", "told", "message"),
    [
        (4, 3, (2, 3, 3), "need 4 features, got 3"),
        (4, 3, (2, 4, 2), "need 3 groups, got 2"),
        (4, 3, (1, 4, 3), "not 1 rows of 4 features"),
        (2, 3, (2, 0, 0), "64 bytes of features and 2 of groups are not 2 rows of 2 features"),
        (4, 9, (0, 0, 0), "9 groups"),
    ],
)
def test_a_table_of_another_shape_with_as_many_bytes_is_refused(
    features: int, groups: int, told: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(RemoteProtocolError, match=message):
        split_rows(*join_rows(X, M), features, groups, told)


@pytest.mark.parametrize(
    ("tickets", "labels", "message"),
    [
        ([-1], [0.5], "0 to 2\\^64 - 1, got -1"),
        ([1.0], [0.5], "whole numbers, got float64"),
        ([[1]], [0.5], "of shape"),
        ([2**64], [0.5], "whole numbers, got object"),
        ([True], [0.5], "whole numbers, got bool"),
        ([1], ["0.5"], "labels must be a list of numbers"),
        ([1], [[0.5]], "labels must be a list"),
    ],
)
def test_tickets_and_labels_are_checked(tickets: Any, labels: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        join_labels(tickets, labels)


def test_tickets_and_labels_survive_the_trip() -> None:
    tickets, labels = split_labels(*join_labels(np.array([0, 2**64 - 1], np.uint64), [0, 1]))
    assert tickets.tolist() == [0, 2**64 - 1]
    assert labels.tolist() == [0.0, 1.0]
    assert join_labels([], []) == (b"", b"")
