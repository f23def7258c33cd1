"""A fleet round by round: queues against a loop, and a run whose time can be worked out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from saddlebag.launch.rehearsal.costs import Recording, RoundCost
from saddlebag.launch.rehearsal.fleet import Plan, queued, rehearse
from saddlebag.launch.rehearsal.links import Links, Spread

PLAN = Plan(
    workers=50,
    rounds=20,
    seed=3,
    drop=False,
    every=5,
    save_s=0.0,
    frame_s=0.001,
    round_s=0.01,
    step_s=0.0,
    snapshot_bytes=10_000,
    join_bytes=(0, 0),
)
LINKS = Links(up=Spread(1e6), down=Spread(1e7), latency=Spread(0.02), server=1e12, step=Spread(0.1))
FULL = Recording((RoundCost(True, 1e5, 1e4, 9e4, 9e3),), 0.1, None, b"")


def test_a_queue_serves_one_after_the_other() -> None:
    arrivals = np.sort(np.random.default_rng(1).random(200))
    free, expected = 0.0, []
    for arrival in arrivals:
        free = max(free, arrival) + 0.004
        expected.append(free)
    assert queued(arrivals, 0.004) == pytest.approx(expected, rel=1e-12)


def test_a_round_without_chance_takes_what_it_takes() -> None:
    """Step, a tenth of a second of link, latency, fifty uplinks one after the other, the round's end, and the way back."""
    found = rehearse(PLAN, LINKS, FULL)
    up_s, server_s, down_s = 0.1 + 0.1 + 0.02, 50 * 0.001 + 0.01, 0.001 + 0.02
    expected = [up_s + server_s] + [down_s + up_s + server_s] * 19
    assert found.round_s == pytest.approx(expected, rel=1e-6)
    assert (found.up_bytes, found.down_bytes) == (20 * 50 * 1e5, 20 * 50 * 1e4)
    assert found.payload_bytes == 20 * 50 * (9e4 + 9e3)
    assert found.server_s == pytest.approx(20 * server_s)
    assert (found.failures, found.epochs) == (0, 0)


def test_a_round_waits_for_the_checkpoint_that_must_be_on_disk() -> None:
    """Every fifth one, and no other."""
    found = rehearse(dataclasses.replace(PLAN, save_s=0.5), LINKS, FULL).round_s - rehearse(PLAN, LINKS, FULL).round_s
    assert found == pytest.approx([0.5 if number % 5 == 4 else 0.0 for number in range(20)], abs=1e-9)


def test_the_servers_link_is_shared() -> None:
    """All uplinks of 50 workers through a link of 1 MB/s: five seconds a round, whatever their own links are."""
    found = rehearse(PLAN, dataclasses.replace(LINKS, server=1e6), FULL)
    assert (found.round_s > 5.0).all()
    assert (found.round_s < 6.0).all()


def test_a_message_passes_the_links_of_its_worker_and_of_the_server_at_once() -> None:
    """Four workers of 1 MB/s behind a server's link of 2 MB/s: two seconds for all uplinks, not three."""
    plan = dataclasses.replace(PLAN, workers=4, frame_s=0.0, round_s=0.0)
    links = Links(up=Spread(1e6), down=Spread(1e6), latency=Spread(1e-9), server=2e6, step=Spread(1e-9))
    found = rehearse(plan, links, Recording((RoundCost(True, 1e6, 1e6, 9e5, 9e5),), 0.1, None, b""))
    assert found.round_s[0] == pytest.approx(2.0, rel=1e-6)
    # the first of the downlinks, which share the link, ends after 1.325 s; from there on four uplinks take half a second each
    assert found.round_s[1:] == pytest.approx([3.325] * 19, rel=1e-6)


def test_a_seed_is_a_run_and_another_one_another() -> None:
    links = dataclasses.replace(LINKS, up=Spread(1e6, 2.0), stragglers=0.05, loss=0.01, hours=0.05)
    first, again, other = (rehearse(dataclasses.replace(PLAN, seed=seed), links, FULL) for seed in (3, 3, 4))
    assert (first.round_s == again.round_s).all()
    assert first.seconds != other.seconds


def test_a_failure_costs_the_time_away_and_the_rounds_since_the_checkpoint() -> None:
    links = dataclasses.replace(LINKS, hours=0.02, away=Spread(5.0))
    found = rehearse(PLAN, links, FULL)
    undisturbed = rehearse(PLAN, LINKS, FULL)
    assert found.failures > 5
    assert 0 < found.replayed <= 4 * found.failures
    assert found.seconds > undisturbed.seconds + 5.0
    assert found.up_bytes == undisturbed.up_bytes + found.failures * 1e5, "an uplink was on its way"
    assert found.epochs == 0, "with pause"


def test_with_drop_the_run_goes_on_a_second_after_a_failure() -> None:
    links = dataclasses.replace(LINKS, hours=0.02, away=Spread(30.0))
    waits = rehearse(PLAN, links, FULL)
    goes_on = rehearse(dataclasses.replace(PLAN, drop=True), links, FULL)
    assert goes_on.epochs > 0
    assert goes_on.seconds < waits.seconds / 2


def test_participants_alone_send() -> None:
    some = Recording((RoundCost(False, 1e5, 1e4, 9e4, 9e3),), 0.1, 7, b"")
    found = rehearse(PLAN, LINKS, some)
    assert found.up_bytes == 20 * 7 * 1e5
