"""Predictions that wait for their labels: what was known and said of each, until its label comes or it is forgotten.

Rows lie in pages of bounded size (`pages.py`); a page of which half is done is written anew without the done rows. So the
rows in memory are at most twice those that wait, and two pages. Of a row stay 8 D + 24 A + E / 8 + 40 bytes, for D features
and A awake ones among E experts: a million of 25 features and 4 awake groups take 0.35 GB, at worst 0.7.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import RemoteProtocolError
from saddlebag.server.groupwise.pages import FIXED, Page, names_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from saddlebag.algorithms.groupwise import Block, Prediction
    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["APPLIED", "REFUSED", "REPEATED", "UNKNOWN"]

APPLIED, REPEATED, UNKNOWN, REFUSED = 1, 2, 3, 4
"""What came of a label; the numbers of the schema."""
PAGE_ROWS = 8192
PAGE_BYTES = 1 << 22
"""A page is full at so many rows, or bytes of features: what a checkpoint writes again each time, and a service at most copies
at once."""


class Tickets:
    """The open tickets; at most `limit` of them, beyond which the oldest are forgotten."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.next = 0
        self.pending = 0
        self.forgotten = 0
        self._horizon = 0  # tickets below it that do not wait are not told apart: applied, or forgotten
        self._serial = 0
        self._pages: list[Page] = []  # ascending; only the last one grows
        self._firsts: list[int] = []

    @property
    def rows(self) -> int:
        """Rows in memory."""
        return sum(map(len, self._pages))

    def open(self, x_ND: Array, block: Block, owner: int = 0) -> int:
        """Keep a batch of a client; returns its first ticket."""
        first = self.next
        if len(x_ND):
            if not self._pages or _full(self._pages[-1]) or not self._pages[-1].fits(x_ND, block):
                features, experts = x_ND.shape[1], block.awake_NE.shape[1]
                room = min(PAGE_ROWS, PAGE_BYTES // (8 * features)) + len(x_ND)
                self._insert(len(self._pages), Page(self._new_serial(), features, experts, room=room), first)
            self._pages[-1].append(first, x_ND, block, owner)
            self.next += len(x_ND)
            self.pending += len(x_ND)
        self.limit_to(self.limit)
        return first

    def limit_to(self, limit: int) -> None:
        """Forget the oldest, so that at most `limit` wait, from now on."""
        self.limit = limit
        while self.pending > limit:
            before = self._pages[0].open
            self._horizon = self._pages[0].forget(self.pending - limit) + 1
            lost = before - self._pages[0].open
            self.pending -= lost
            self.forgotten += lost
            self._tidy(0)

    def check_owner(self, tickets: Iterable[int], owner: int) -> None:
        """Raise `RemoteProtocolError` where one of the open tickets was given to another client."""
        for ticket in tickets:
            page, row = self._find(ticket)
            if row is not None and self._pages[page].owner(row) != owner:
                raise RemoteProtocolError(
                    f"ticket {ticket} was given to another client; labels need the identity that asked for the prediction"
                )

    def close(self, ticket: int) -> tuple[int, Array | None, Prediction | None]:
        """Take a ticket back: what came of it, and its row and prediction (among the experts of then) when it was open."""
        page, row = self._find(ticket)
        if row is None:
            return (REPEATED if self._horizon <= ticket < self.next else UNKNOWN), None, None
        x_D, prediction = self._pages[page].take(row)
        self.pending -= 1
        self._tidy(page)
        return APPLIED, x_D, prediction

    def _find(self, ticket: int) -> tuple[int, int | None]:
        place = bisect.bisect_right(self._firsts, ticket) - 1
        return place, self._pages[place].find(ticket) if place >= 0 and ticket < self.next else None

    def _tidy(self, place: int) -> None:
        """After rows of a page are done: drop it when all are, write it anew when half are, with small neighbours.

        Not the first page, which is nearly always about to go as a whole.
        """
        page = self._pages[place]
        if page.open == 0:
            self._remove(place, place + 1)
        elif 0 < place < len(self._pages) - 1 and 2 * page.open <= len(page):
            start, stop = place, place + 1
            if _together(self._pages[start - 1 : stop]):
                start -= 1
            if stop < len(self._pages) - 1 and _together(self._pages[start : stop + 1]):
                stop += 1
            joined = Page.joined(self._new_serial(), self._pages[start:stop])
            self._remove(start, stop)
            self._insert(start, joined, joined.first)

    def _new_serial(self) -> int:
        self._serial += 1
        return self._serial

    def _insert(self, place: int, page: Page, first: int) -> None:
        self._pages.insert(place, page)
        self._firsts.insert(place, first)

    def _remove(self, start: int, stop: int) -> None:
        del self._pages[start:stop], self._firsts[start:stop]

    # -- saving ----------------------------------------------------------------------------------------------------------

    def capture(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Arrays and facts for a checkpoint. Nothing that happens later changes the arrays.

        The arrays of the pages that `facts["sealed"]` names are final: a later checkpoint that names them means the same bytes.
        """
        arrays: dict[str, npt.NDArray[Any]] = {}
        for page in self._pages:
            arrays.update(page.arrays())
        arrays["ticket.done"] = np.packbits(np.concatenate([page.done_N for page in self._pages] or [np.empty(0, bool)]))
        facts: dict[str, Any] = {name: getattr(self, name) for name in ("limit", "next", "pending", "forgotten")}
        facts |= {"horizon": self._horizon, "serial": self._serial}
        facts["pages"] = [[page.serial, page.features, page.experts] for page in self._pages]
        whole = len(self._pages) if self._pages and _full(self._pages[-1]) else len(self._pages) - 1
        facts["sealed"] = [page.serial for page in self._pages[: max(whole, 0)]]
        return arrays, facts

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Take back what `capture` gave; KeyError, TypeError or ValueError when it is something else."""
        pages, done_N = [], np.unpackbits(np.asarray(arrays["ticket.done"], np.uint8)).astype(bool)
        for serial, features, experts in facts["pages"]:
            found = dict(zip(FIXED, (arrays[name] for name in names_of(int(serial))), strict=True))
            rows = len(found["ticket"])
            pages.append(Page.of(int(serial), int(features), int(experts), found, done_N[:rows]))
            done_N = done_N[rows:]
        firsts = [page.first for page in pages]
        numbers = [int(facts[key]) for key in ("limit", "next", "pending", "forgotten", "horizon", "serial")]
        if sum(page.open for page in pages) != numbers[2] or firsts != sorted(set(firsts)):
            raise ValueError("the open tickets do not add up")
        self.limit, self.next, self.pending, self.forgotten, self._horizon, self._serial = numbers
        self._pages, self._firsts = pages, firsts


def _full(page: Page) -> bool:
    return len(page) >= min(PAGE_ROWS, max(1, PAGE_BYTES // (8 * page.features)))


def _together(pages: list[Page]) -> bool:
    """Whether the waiting rows of neighbours make at most half a page."""
    alike = len({(page.features, page.experts) for page in pages}) == 1
    most = min(PAGE_ROWS, max(1, PAGE_BYTES // (8 * pages[0].features)))
    return alike and 2 * sum(page.open for page in pages) <= most
