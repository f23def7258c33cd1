from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlebag.algorithms.groupwise import AdaNormalHedge, Groupwise, Ridge, Specialists, SquaredLoss
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError, RemoteProtocolError, StateError
from saddlebag.server.groupwise.core import GroupwiseCore, ServiceSettings
from saddlebag.server.groupwise.tickets import APPLIED, REPEATED, UNKNOWN

FEATURES, GROUPS = 2, 3


def algorithm(**changes: Any) -> Groupwise:
    params: dict[str, Any] = {"interval": (0.0, 1.0), "always_on": 0} | changes
    return Groupwise(learner=Ridge(dimension=FEATURES), mixer=AdaNormalHedge(), loss=SquaredLoss(), **params)


def core_of(**changes: Any) -> GroupwiseCore:
    names = ServiceSettings(features=("a", "b"), groups=("all", "g1", "g2"), max_rows=16)
    return GroupwiseCore(algorithm(**changes), names)


class Slow:
    """The obvious service: one row at a time, a dictionary of predictions, pure updates."""

    def __init__(self, **changes: Any) -> None:
        self.algorithm = algorithm(**changes)
        self.state = self.algorithm.init(GROUPS)
        self.open: dict[int, Any] = {}
        self.closed: set[int] = set()
        self.next = 0

    def predict(self, x_ND: Any, member_NG: Any) -> list[float]:
        values = []
        for x_D, member_G in zip(x_ND, member_NG, strict=True):
            prediction = self.algorithm.predict(self.state, x_D, member_G, Draws(0, self.next))
            self.open[self.next] = (x_D, prediction)
            self.next += 1
            values.append(float(prediction.value))
        return values

    def feedback(self, tickets: Any, labels: Any) -> list[int]:
        outcomes = []
        for ticket, label in zip(tickets, labels, strict=True):
            if ticket in self.closed:
                outcomes.append(REPEATED)
            elif ticket not in self.open:
                outcomes.append(UNKNOWN)
            else:
                self.state = self.algorithm.learn(self.state, self.open[ticket][0], label, self.open.pop(ticket)[1])
                self.closed.add(ticket)
                outcomes.append(APPLIED)
        return outcomes


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans(), st.sampled_from(["mixture", "sample"]))
def test_late_repeated_shuffled_and_lost_labels_leave_the_accounts_of_the_obvious_service(
    random: Any, shadows: bool, output: str
) -> None:
    changes = {"shadows": shadows, "output": output, "charge": "expected" if output == "sample" else "played"}
    core, slow = core_of(**changes), Slow(**changes)
    rng = np.random.default_rng(random.randrange(2**32))
    for _ in range(12):
        count = random.randrange(1, 7)
        x_ND, member_NG = rng.random((count, FEATURES)), rng.random((count, GROUPS)) < 0.6
        first, block = core.predict(x_ND, member_NG)
        assert first == slow.next
        np.testing.assert_allclose(block.value_N, slow.predict(x_ND, member_NG), rtol=1e-9, atol=1e-12)
        tickets = [random.randrange(slow.next + 3) for _ in range(random.randrange(8))]
        if tickets:
            labels = rng.random(len(tickets))
            assert core.feedback(tickets, labels).tolist() == slow.feedback(tickets, labels)
    for name in ("count_E", "loss_E", "charged_E", "absolute_E", "played", "rounds", "fell_back", "orphans"):
        ours, theirs = getattr(core.state.ledger, name), getattr(slow.state.ledger, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(core.state.learner.theta_GD, slow.state.learner.theta_GD, rtol=1e-9, atol=1e-12)
    assert core.tickets.pending == len(slow.open)


def test_a_label_is_judged_by_the_prediction_that_was_given_out() -> None:
    core = core_of()
    x_ND, member_NG = np.ones((1, FEATURES)), np.ones((1, GROUPS), bool)
    late, block = core.predict(x_ND, member_NG)
    for _ in range(20):
        ticket, _ = core.predict(x_ND, member_NG)
        core.feedback([ticket], np.ones(1))
    before = core.state.ledger.played
    core.feedback([late], np.ones(1))
    assert core.state.ledger.played - before == pytest.approx((block.value_N[0] - 1.0) ** 2)


def test_the_oldest_tickets_are_forgotten_and_say_so() -> None:
    names = ServiceSettings(features=("a", "b"), groups=("all", "g1", "g2"), max_pending=10)
    core = GroupwiseCore(algorithm(), names)
    for _ in range(5):
        core.predict(np.ones((4, FEATURES)), np.ones((4, GROUPS), bool))
    assert (core.tickets.pending, core.tickets.forgotten) == (10, 10)
    assert core.feedback([0, 9, 10, 10, 19, 20], np.zeros(6)).tolist() == [3, 3, 1, 2, 1, 3]


@pytest.mark.parametrize(
    ("x_ND", "member_NG", "message"),
    [
        (np.ones((1, 3)), np.ones((1, GROUPS), bool), "2 features"),
        (np.ones((1, 2)), np.ones((1, 4), bool), "3 groups"),
        (np.ones((0, 2)), np.ones((0, GROUPS), bool), "1 to 16 rows, got 0"),
        (np.ones((17, 2)), np.ones((17, GROUPS), bool), "1 to 16 rows, got 17"),
        (np.array([[1.0, np.nan]]), np.ones((1, GROUPS), bool), "feature 'b' of row 0 is nan"),
    ],
    ids=["columns", "groups", "empty", "long", "nan"],
)
def test_wrong_rows_are_refused_and_open_no_ticket(x_ND: Any, member_NG: Any, message: str) -> None:
    core = core_of()
    with pytest.raises(RemoteProtocolError, match=message):
        core.predict(x_ND, member_NG)
    assert core.tickets.next == 0


@pytest.mark.parametrize("label", [np.nan, -0.1, 1.5])
def test_a_label_outside_the_declared_interval_is_refused_and_nothing_is_learned(label: float) -> None:
    core = core_of()
    core.predict(np.ones((2, FEATURES)), np.ones((2, GROUPS), bool))
    with pytest.raises(RemoteProtocolError, match=r"label 1 must be in \[0, 1\]"):
        core.feedback([0, 1], np.array([0.5, label]))
    assert core.state.ledger.rounds == 0
    assert core.tickets.pending == 2


def test_a_checkpoint_restores_every_bit_and_refuses_strangers() -> None:
    rng = np.random.default_rng(0)
    core = core_of(shadows=True)
    for _ in range(30):
        first, _ = core.predict(rng.random((4, FEATURES)), rng.random((4, GROUPS)) < 0.5)
        core.feedback([first, first + 2], rng.random(2))
    arrays, facts = core.capture()
    other = core_of(shadows=True)
    other.restore(arrays, facts)
    again, _ = other.capture()
    assert {name: value.tobytes() for name, value in again.items()} == {name: v.tobytes() for name, v in arrays.items()}
    for each in (core, other):
        each.feedback([1, 3], np.array([0.25, 0.75]))
    assert core.state.ledger.played == other.state.ledger.played
    with pytest.raises(StateError, match=r"algorithm\.shadows: True is now False"):
        core_of().restore(arrays, facts)
    with pytest.raises(StateError, match="does not say what it means"):
        core.restore(arrays, {**facts, "meaning": 3})
    with pytest.raises(StateError, match="does not fit"):
        core.restore({name: array for name, array in arrays.items() if name != "ledger.count_E"}, facts)


def test_accounts_name_groups_and_shadows() -> None:
    core = core_of(shadows=True)
    assert [account.name for account in core.accounts()] == ["all", "g1", "g2", "all on g1", "all on g2"]
    assert sum(account.weight for account in core.accounts()) == pytest.approx(1.0)
    assert core.alarms() == ()


def test_names_must_differ() -> None:
    with pytest.raises(ConfigError, match="groups must be different names"):
        ServiceSettings(features=("a",), groups=("x", "x"))


@pytest.mark.parametrize("played_N", [[0.5], [0.5, 0.5, 0.5], [[0.5, 0.5]], [0.5, np.nan], [np.inf, 0.5]])
def test_played_values_of_a_shard_are_as_many_as_labels_and_finite(played_N: Any) -> None:
    names = ServiceSettings(features=("a", "b"), groups=("all", "g1", "g2"), max_rows=16, shards=2)
    core = GroupwiseCore(algorithm(), names, np.full(GROUPS, 0.2))
    first, _, _ = core.partial(np.ones((2, FEATURES)), np.ones((2, GROUPS), bool))
    with pytest.raises(RemoteProtocolError, match="2 labels need as many finite played values"):
        core.feedback([first, first + 1], np.ones(2), played_N=np.array(played_N))
    assert core.learned == 0
    assert core.feedback([first, first + 1], np.ones(2), played_N=np.array([0.5, 0.25])).tolist() == [APPLIED, APPLIED]


def test_shares_of_the_groups_refuse_specialists() -> None:
    """Their weights are formed from the losses of every expert awake, of which a share sees its own."""
    names = ServiceSettings(features=("a", "b"), groups=("g0", "g1"), shards=2)
    whole = dataclasses.replace(algorithm(), mixer=Specialists(rate=0.5))
    with pytest.raises(ConfigError, match="shards cannot hold specialists"):
        GroupwiseCore(whole, names, np.full(2, 0.25))
