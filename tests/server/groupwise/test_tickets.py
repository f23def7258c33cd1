from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import Block
from saddlebag.errors import RemoteProtocolError
from saddlebag.server.groupwise import tickets as module
from saddlebag.server.groupwise.pages import names_of
from saddlebag.server.groupwise.tickets import APPLIED, REPEATED, UNKNOWN, Tickets

FEATURES, EXPERTS = 2, 9


def batch(rng: np.random.Generator, rows: int, experts: int = EXPERTS) -> tuple[Any, Block]:
    awake_NE = np.where(rng.random((rows, experts)) < 0.4, rng.choice([0.25, 1.0], (rows, experts)), 0.0)
    p_NE, z_NE = rng.random((2, rows, experts)) * (awake_NE > 0)
    return rng.random((rows, FEATURES)), Block(rng.random(rows), p_NE, z_NE, awake_NE, rng.random(rows) < 0.1)


class Slow:
    """A dictionary of what waits."""

    def __init__(self, limit: int) -> None:
        self.limit, self.next, self.horizon = limit, 0, 0
        self.open: dict[int, tuple[Any, Any]] = {}

    def add(self, x_ND: Any, block: Block) -> None:
        for row in range(len(x_ND)):
            self.open[self.next] = (x_ND[row], block[row])
            self.next += 1
        while len(self.open) > self.limit:
            self.horizon = min(self.open) + 1
            del self.open[min(self.open)]

    def close(self, ticket: int) -> tuple[int, Any]:
        if ticket in self.open:
            return APPLIED, self.open.pop(ticket)
        return (REPEATED if self.horizon <= ticket < self.next else UNKNOWN), None


@pytest.mark.parametrize("seed", range(4))
def test_tickets_are_a_dictionary_in_bounded_memory_and_survive_a_checkpoint(seed: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 16)
    rng, dice = np.random.default_rng(seed), random.Random(seed)
    limit = dice.choice([50, 400])
    tickets, slow = Tickets(limit), Slow(limit)
    for step in range(300):
        x_ND, block = batch(rng, dice.randrange(1, 6))
        assert tickets.open(x_ND, block) == slow.next
        slow.add(x_ND, block)
        for _ in range(dice.randrange(4)):
            ticket = dice.choice([dice.randrange(slow.next + 2), max(0, slow.next - dice.randrange(1, 30))])
            outcome, x_D, prediction = tickets.close(ticket)
            expected, found = slow.close(ticket)
            assert outcome == expected
            if found is not None:
                assert prediction is not None
                assert np.array_equal(x_D, found[0])
                for name in ("value", "p_E", "z_E", "awake_E", "fell_back"):
                    assert np.array_equal(getattr(prediction, name), getattr(found[1], name)), name
        assert tickets.pending == len(slow.open)
        assert tickets.rows <= 2 * tickets.pending + 2 * (16 + 5)
        if step % 50 == 7:
            arrays, facts = tickets.capture()
            tickets = Tickets(1)
            tickets.restore(arrays, facts)


def test_nothing_that_happens_later_changes_what_was_captured(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 16)
    rng, tickets = np.random.default_rng(0), Tickets(1000)
    for _ in range(10):
        tickets.open(*batch(rng, 5))
    arrays, facts = tickets.capture()
    before = {name: array.tobytes() for name, array in arrays.items()}
    for ticket in range(0, 50, 2):
        tickets.close(ticket)
        tickets.open(*batch(rng, 3))
    assert {name: array.tobytes() for name, array in arrays.items()} == before
    final, told = tickets.capture()
    for page in set(facts["sealed"]) & set(told["sealed"]):  # a page that both name is the same page
        assert all(np.array_equal(final[name], arrays[name]) for name in names_of(page))


def test_labels_in_order_write_no_page_anew(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 16)
    rng, tickets = np.random.default_rng(0), Tickets(1000)
    for _ in range(20):
        tickets.open(*batch(rng, 4))
    made = [page[0] for page in tickets.capture()[1]["pages"]]
    for ticket in range(70):
        tickets.close(ticket)
        assert [page[0] for page in tickets.capture()[1]["pages"]] == made[-len(tickets.capture()[1]["pages"]) :]
    assert tickets.rows == 16
    for _ in range(20):  # nor does forgetting
        tickets.open(*batch(rng, 4))
    tickets.limit_to(9)
    assert (tickets.pending, tickets.rows, tickets.forgotten) == (9, 16, 81)


def test_a_checkpoint_of_many_small_batches_has_few_arrays() -> None:
    rng, tickets = np.random.default_rng(0), Tickets(1_000_000)
    x_ND, block = batch(rng, 1)
    for _ in range(10_000):  # 8 arrays a batch once made a header that no file could hold
        tickets.open(x_ND, block)
    arrays, _ = tickets.capture()
    assert len(arrays) == 3 * 2 + 1


def test_a_million_tickets_wait_and_all_get_their_labels() -> None:
    rng, tickets = np.random.default_rng(0), Tickets(1_000_000)
    x_ND, block = batch(rng, 8192)
    while tickets.next < 1_050_000:
        tickets.open(x_ND, block)
    assert tickets.pending == 1_000_000
    assert tickets.rows <= 1_000_000 + 2 * 8192
    arrays, facts = tickets.capture()
    again = Tickets(1_000_000)
    again.restore(arrays, facts)
    ticket_N = rng.permutation(np.arange(again.next - again.pending, again.next))[:20_000]
    assert all(again.close(int(ticket))[0] == APPLIED for ticket in ticket_N)
    assert again.pending == 980_000


def test_a_prediction_comes_back_among_the_experts_of_then() -> None:
    rng, tickets = np.random.default_rng(0), Tickets(10)
    _, block = batch(rng, 1)
    tickets.open(np.ones((1, FEATURES)), block)
    tickets.open(np.ones((1, FEATURES)), batch(rng, 1, EXPERTS + 2)[1])
    _, _, prediction = tickets.close(0)
    assert prediction is not None
    assert np.array_equal(prediction.awake_E, block.awake_NE[0])


def test_a_ticket_belongs_to_the_client_that_got_it() -> None:
    rng, tickets = np.random.default_rng(0), Tickets(10)
    tickets.open(*batch(rng, 2), owner=5)
    tickets.open(*batch(rng, 2), owner=2**64 - 1)
    tickets.check_owner([0, 1, 77], 5)
    tickets.check_owner([3], 2**64 - 1)
    for owner in (0, 5):
        with pytest.raises(RemoteProtocolError, match="ticket 2 was given to another client"):
            tickets.check_owner([2], owner)


def test_damaged_pages_are_refused() -> None:
    rng, tickets = np.random.default_rng(0), Tickets(10)
    tickets.open(*batch(rng, 4))
    arrays, facts = tickets.capture()
    ((serial, _, _),) = facts["pages"]
    wrong: list[tuple[str, Any]] = [
        ("ticket", arrays[f"page.{serial}.ticket"][::-1]),
        ("row", arrays[f"page.{serial}.row"][:, :-1]),
        ("row", arrays[f"page.{serial}.row"][:3]),
        ("entry", arrays[f"page.{serial}.entry"][:-1]),
    ]
    for name, array in wrong:
        with pytest.raises(ValueError, match=r"page|add up"):
            Tickets(10).restore({**arrays, f"page.{serial}.{name}": array}, facts)
    for done in (np.packbits(np.ones(4, bool)), np.empty(0, np.uint8)):
        with pytest.raises(ValueError, match=r"page|add up"):
            Tickets(10).restore({**arrays, "ticket.done": done}, facts)
