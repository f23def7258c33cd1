"""Rows that wait for their labels, in a few growing arrays: no object for a ticket, none for a batch.

A page only grows at its end: what it holds stays as it is, but for the mark that a row is done. So a checkpoint may be
written from its arrays while the service goes on; only the marks are copied.

Shapes: N = rows, D = features, E = experts, K = awake experts of all rows together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import Prediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from saddlebag.algorithms.groupwise import Block
    from saddlebag.algorithms.groupwise.base import Array

    Records = npt.NDArray[Any]

FIXED = ("ticket", "row", "entry")
"""The arrays of a page that never change once written."""
_ENTRY = np.dtype([("p", "<f8"), ("z", "<f8"), ("awake", "<f8")])
"""An awake expert's weight, prediction and confidence."""


def names_of(serial: int) -> tuple[str, ...]:
    """The names of a page's arrays in a checkpoint, in the order of `FIXED`."""
    return tuple(f"page.{serial}.{name}" for name in FIXED)


def row_type(features: int, experts: int) -> np.dtype[Any]:
    """A row: its features, its client, the prediction, the end of its entries, and which experts were awake."""
    awake = -(-experts // 8)
    fields = [("x", "<f8", (features,)), ("owner", "<u8"), ("value", "<f8"), ("stop", "<i8"), ("awake", "u1", (awake,))]
    return np.dtype([*fields, ("fell_back", "?"), ("pad", "u1", (-(awake + 1) % 8,))])  # no bytes without a value


class _Growing:
    """An array that grows at its end."""

    __slots__ = ("_array", "used")

    def __init__(self, array: Records, room: int = 0) -> None:
        self._array, self.used = array, len(array)
        if room > len(array):
            self._array = np.zeros(room, array.dtype)
            self._array[: len(array)] = array

    def extend(self, count: int) -> Records:
        """Room for more at the end, all zeros, to be written by the caller."""
        need = self.used + count
        if need > len(self._array):
            bigger = np.zeros(max(need, 2 * len(self._array)), self._array.dtype)
            bigger[: self.used] = self._array[: self.used]
            self._array = bigger
        more = self._array[self.used : need]
        self.used = need
        return more

    @property
    def view(self) -> Records:
        return self._array[: self.used]


class Page:
    """Rows with ascending tickets.

    Attributes:
        serial: the page's own number, never used again for other rows.
        features, experts: D and E of its rows.
        open: rows that are not done.

    `room` is how many rows are expected: memory that is asked for once is cheaper than what grows, and not taken before use.
    """

    def __init__(
        self,
        serial: int,
        features: int,
        experts: int,
        parts: Sequence[Records] = (),
        done_N: Any = None,
        *,
        room: int = 0,
    ) -> None:
        self.serial, self.features, self.experts = serial, features, experts
        self._type = row_type(features, experts)
        parts = parts or (np.empty(0, "<u8"), np.empty(0, self._type), np.empty(0, _ENTRY))
        ticket_N, row_N, entry_K = parts
        self._ticket, self._row, self._entry = _Growing(ticket_N, room), _Growing(row_N, room), _Growing(entry_K)
        self._done = _Growing(np.zeros(len(ticket_N), bool) if done_N is None else done_N, room)
        self._fixed: dict[str, Records] = {}
        self._captured = -1  # rows when they were made
        self._forgotten = 0  # rows at the beginning, all done
        self.open = int(np.count_nonzero(~self._done.view))

    def __len__(self) -> int:
        return self._ticket.used

    @property
    def first(self) -> int:
        """The lowest ticket."""
        return int(self._ticket.view[0])

    def fits(self, x_ND: Array, block: Block) -> bool:
        """Whether a batch's rows are as wide as the page's."""
        return (self.features, self.experts) == (x_ND.shape[1], block.awake_NE.shape[1])

    def append(self, first: int, x_ND: Array, block: Block, owner: int) -> None:
        """Add a batch, whose tickets begin with `first`."""
        awake_NE = block.awake_NE > 0
        count, before = len(x_ND), self._entry.used
        row_N = self._row.extend(count)
        row_N["x"], row_N["owner"], row_N["value"] = x_ND, owner, block.value_N
        row_N["awake"] = np.packbits(awake_NE, axis=1, bitorder="little")
        row_N["fell_back"] = block.fell_back_N
        place_K = awake_NE.ravel().nonzero()[0]
        row_N["stop"] = before + place_K.searchsorted(np.arange(1, count + 1) * self.experts)
        entry_K = self._entry.extend(len(place_K))
        for name, value_NE in (("p", block.p_NE), ("z", block.z_NE), ("awake", block.awake_NE)):
            entry_K[name] = value_NE.take(place_K)
        self._ticket.extend(count)[:] = np.arange(first, first + count)
        self._done.extend(count)
        self.open += count

    def find(self, ticket: int) -> int | None:
        """The row of a ticket that waits."""
        ticket_N = self._ticket.view
        row = ticket - int(ticket_N[0])
        if row != 0 and int(ticket_N[-1]) - int(ticket_N[0]) >= len(ticket_N):  # rows in between are gone
            row = int(np.searchsorted(ticket_N, np.uint64(ticket)))
            if row == len(ticket_N) or int(ticket_N[row]) != ticket:
                return None
        return row if 0 <= row < len(ticket_N) and not self._done.view[row] else None

    def owner(self, row: int) -> int:
        """Whose it is."""
        return int(self._row.view["owner"][row])

    def take(self, row: int) -> tuple[Array, Prediction]:
        """Mark a row as done; returns its features and prediction, among the experts of then."""
        self._done.view[row] = True
        self.open -= 1
        record = self._row.view[row]
        begin = int(self._row.view["stop"][row - 1]) if row else 0
        entry_K = self._entry.view[begin : int(record["stop"])]
        p_E, z_E, awake_E = np.zeros((3, self.experts))
        expert_K = np.flatnonzero(np.unpackbits(record["awake"], bitorder="little"))  # padding bits are 0
        p_E[expert_K], z_E[expert_K], awake_E[expert_K] = entry_K["p"], entry_K["z"], entry_K["awake"]
        return record["x"], Prediction(record["value"], p_E, z_E, awake_E, bool(record["fell_back"]))

    def forget(self, count: int) -> int:
        """Mark up to `count` of the oldest as done; returns the last ticket among them."""
        done_N, start = self._done.view, self._forgotten
        stop = min(start + count, len(self))
        lost = stop - start - int(np.count_nonzero(done_N[start:stop]))
        if lost < min(count, self.open):  # labels have come in between
            stop = start + int((~done_N[start:]).nonzero()[0][:count][-1]) + 1
            lost = min(count, self.open)
        done_N[start:stop] = True
        self.open -= lost
        self._forgotten = stop
        return int(self._ticket.view[stop - 1])

    def waiting(self) -> tuple[Records, Records, Records]:
        """The rows that wait, as the parts of another page."""
        kept_N = ~self._done.view
        row_N = self._row.view
        count_N = np.diff(row_N["stop"], prepend=0)
        entry_K = self._entry.view[np.repeat(kept_N, count_N)]
        row_N = row_N[kept_N]
        row_N["stop"] = np.cumsum(count_N[kept_N])
        return self._ticket.view[kept_N], row_N, entry_K

    @classmethod
    def joined(cls, serial: int, pages: Sequence[Page]) -> Page:
        """The rows of neighbours that wait, as one page."""
        parts = [page.waiting() for page in pages]
        before = 0
        for _, row_N, entry_K in parts:
            row_N["stop"] += before
            before += len(entry_K)
        whole = [np.concatenate(each) for each in zip(*parts, strict=True)]
        return cls(serial, pages[0].features, pages[0].experts, whole)

    # -- saving ----------------------------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The page's arrays by their names among all pages', as views; records as bytes."""
        if self._captured != len(self):
            fixed = (self._ticket.view, _as_bytes(self._row.view), _as_bytes(self._entry.view))
            self._fixed = dict(zip(names_of(self.serial), fixed, strict=True))
            self._captured = len(self)
        return self._fixed

    @property
    def done_N(self) -> npt.NDArray[np.bool_]:
        """The marks of rows that are done, as a view."""
        return self._done.view

    @classmethod
    def of(
        cls, serial: int, features: int, experts: int, arrays: dict[str, npt.NDArray[Any]], done_N: npt.NDArray[np.bool_]
    ) -> Page:
        """The page that `arrays` and `done_N` gave; ValueError when they are something else."""
        kinds = (np.dtype("<u8"), row_type(features, experts), _ENTRY)
        parts = [arrays["ticket"], *(_as_records(arrays[name], kind) for name, kind in zip(FIXED[1:], kinds[1:], strict=True))]
        ticket_N, row_N, entry_K = parts
        if ticket_N.dtype != kinds[0] or done_N.shape != ticket_N.shape:
            raise ValueError("a page's tickets and marks do not fit each other")
        awake_N = np.count_nonzero(np.unpackbits(row_N["awake"], axis=1), axis=1)
        if len(row_N) != len(ticket_N) or not len(row_N) or not np.array_equal(np.diff(row_N["stop"], prepend=0), awake_N):
            raise ValueError("a page's rows and tickets do not fit each other")
        if row_N["stop"][-1] != len(entry_K):
            raise ValueError("a page's rows and entries do not fit each other")
        if np.any(ticket_N[1:] <= ticket_N[:-1]):
            raise ValueError("a page's tickets do not ascend")
        return cls(serial, features, experts, parts, done_N.copy())


def _as_bytes(records: Records) -> Records:
    return records.view(np.uint8).reshape(len(records), records.dtype.itemsize)


def _as_records(array: npt.NDArray[Any], kind: np.dtype[Any]) -> Records:
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != kind.itemsize:
        raise ValueError(f"a page's records are {array.dtype} {array.shape}, not of {kind.itemsize} bytes")
    return np.ascontiguousarray(array).reshape(-1).view(kind)
