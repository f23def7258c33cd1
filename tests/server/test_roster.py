"""Who is let in, and who is missed when: the clock is a number here."""

from __future__ import annotations

from typing import Any

import pytest

from saddlebag.errors import ConfigError
from saddlebag.proto.handshake import JoinAsk, first_order
from saddlebag.proto.token import rank_token
from saddlebag.server.effects import ServerSettings
from saddlebag.server.roster import BROKEN, GRACE_S, START_S, RankTaken, Roster, admit

LEASE_S = 10.0
SETTINGS = ServerSettings(num_workers=4, seed=1, recipe='{"seed":1}', token="secret")


def ask(worker: int = 3, **given: Any) -> JoinAsk:
    return JoinAsk(**{"worker": worker, "recipe": SETTINGS.recipe, "dimension": 5, "token": "secret", **given})


def lost(roster: Roster, now: float) -> list[int]:
    return [each.worker for each in roster.missed(range(4), LEASE_S) if now - each.since > each.patience_s]


def test_a_token_is_of_use_for_its_rank_and_recipe_alone() -> None:
    own = rank_token("secret", SETTINGS.recipe, 3)
    assert own.startswith("worker-3.")
    assert len(own) == len("worker-3.") + 64
    for worker in range(4):
        admit(ask(worker), SETTINGS, 5)  # the secret lets in all
    admit(ask(3, token=own), SETTINGS, 5)
    wrong = [
        *(rank_token("secret", SETTINGS.recipe, rank) for rank in (0, 1, 2, 4)),
        rank_token("secret", "{}", 3),
        rank_token("other", SETTINGS.recipe, 3),
        own[:-1],
        own.removeprefix("worker-3."),
        "",
        "Secret",
        "secret\u00e9",
    ]
    for token in wrong:
        with pytest.raises(ConfigError, match="the token is wrong"):
            admit(ask(3, token=token), SETTINGS, 5)


def test_without_the_token_nothing_of_the_recipe_is_told() -> None:
    with pytest.raises(ConfigError, match="the token is wrong") as refused:
        admit(ask(9, token="guess", recipe="{}", dimension=1), SETTINGS, 5)
    assert "seed" not in str(refused.value)


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        ((), True),
        (("laptop", "node-7.example"), True),
        (("worker-3",), True),
        (("worker-3.example.org", "10.0.0.1"), True),
        (("worker-2", "worker-3"), True),
        (("worker-2",), False),
        (("worker-33",), False),
        (("a", "worker-0.cluster"), False),
    ],
)
def test_a_certificate_may_be_for_a_rank(names: tuple[str, ...], allowed: bool) -> None:
    if allowed:
        admit(ask(3, names=names), SETTINGS, 5)
    else:
        with pytest.raises(ConfigError, match=r"the certificate is for worker \d+, not for worker 3"):
            admit(ask(3, names=names), SETTINGS, 5)


def test_a_broken_stream_is_evidence_and_a_heartbeat_is_stronger() -> None:
    roster = Roster(4, 0.0)
    for worker in range(4):
        roster.sit(worker, f"s{worker}", 0.0)
        roster.opened(worker)
    roster.closed(1, 5.0, broken=True)
    roster.closed(2, 5.0, broken=False)  # the server ended it: it has its lease
    roster.closed(3, 5.0, broken=True)
    roster.see(3, 5.5)  # a long step goes on, and its heart beats
    assert lost(roster, 5.0 + GRACE_S) == []
    assert lost(roster, 5.0 + GRACE_S + 0.1) == [1]
    roster.sit(1, "new", 6.2)
    assert lost(roster, 9.9) == []
    assert lost(roster, 10.1) == [0]
    assert lost(roster, 15.2) == [0, 2]
    assert lost(roster, 16.3) == [0, 1, 2, 3]


def test_a_stream_that_pings_have_ended_gives_no_second_lease() -> None:
    roster = Roster(1, 0.0)
    roster.sit(0, "s", 0.0)
    roster.opened(0)
    roster.see(0, 20.0)
    roster.closed(0, 29.8, broken=True)
    (missed,) = roster.missed([0], LEASE_S)
    assert (missed.why, missed.since + missed.patience_s) == (BROKEN, pytest.approx(30.0))


def test_a_rank_that_never_came_has_a_minute() -> None:
    roster = Roster(4, 0.0)
    for worker in (0, 1, 2):
        roster.sit(worker, f"s{worker}", START_S)
    assert lost(roster, START_S) == []
    assert lost(roster, START_S + 0.1) == [3]


def test_a_rank_is_taken_while_its_stream_is_open_and_its_lease_runs() -> None:
    roster = Roster(4, 0.0)
    roster.require_free(ask(), 0.0, LEASE_S)
    roster.sit(3, "first", 0.0)
    roster.require_free(ask(), 0.0, LEASE_S)  # it died between its join and its stream, for all that is known
    roster.opened(3)
    for session in ("", "second"):
        with pytest.raises(RankTaken, match="another process is worker 3; it was heard of 2 s ago"):
            roster.require_free(ask(session=session), 2.0, LEASE_S)
    roster.require_free(ask(session="first"), 2.0, LEASE_S)
    roster.require_free(ask(), 10.1, LEASE_S)
    roster.closed(3, 3.0, broken=True)
    roster.require_free(ask(), 3.0, LEASE_S)


def test_a_join_that_comes_after_a_later_one_has_no_rank_to_take() -> None:
    """In whatever life it was sent; clocks step, so that another life has its turn when nobody has been there for a lease."""
    roster = Roster(4, 0.0)
    other, this = first_order(1.0), first_order(2.0)
    roster.sit(3, "second", 5.0, order=this + 2)
    late = 5.1 + LEASE_S
    for order, now in ((other + 9, 6.0), (this + 1, 6.0), (this + 2, 6.0), (this + 2, late)):
        with pytest.raises(RankTaken, match="a later join of worker 3 has come"):
            roster.require_free(ask(order=order), now, LEASE_S)
    for order, now in ((0, 6.0), (this + 3, 6.0), (first_order(2.001), 6.0), (other + 9, late)):
        roster.require_free(ask(order=order), now, LEASE_S)
    roster.opened(3)
    with pytest.raises(RankTaken, match="a later join of worker 3 has come"):
        roster.require_free(ask(order=other + 9), late, LEASE_S)


def test_people_are_told_once_who_is_missed_and_who_is_back() -> None:
    roster = Roster(4, 0.0)
    assert not roster.welcome(1)
    assert roster.first_note([1])
    assert not roster.first_note([1])
    assert roster.welcome(1)
    assert not roster.welcome(1)
    assert roster.first_note([1])
