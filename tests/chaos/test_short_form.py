"""The short form of `benchmarks/chaos.py`: real cores in virtual time, faults of every kind by the thousand."""

from __future__ import annotations

from collections import Counter

import pytest

from saddlebag.launch.rehearsal import world
from saddlebag.launch.rehearsal.scenarios import METHODS, Scenario, kinds_for, scenario_of
from saddlebag.launch.rehearsal.search import as_code, replay, shrunk, trial


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threaded_s", [None, 0.01])
def test_an_undisturbed_run_is_that_of_simulate(method: str, threaded_s: float | None) -> None:
    assert replay(Scenario(method=method, threaded_s=threaded_s), 1, []).failure == ""


def test_no_promise_breaks_whatever_goes_wrong() -> None:
    faults: Counter[str] = Counter()
    states: set[int] = set()
    for seed in range(120):
        found = trial(seed)
        scenario, script = scenario_of(seed, count=40)
        assert not found.failure, f"{found.failure}\n{as_code(scenario, seed, shrunk(scenario, seed, script))}"
        faults += found.faults
        states |= found.states
    assert set(faults) == set(kinds_for(Scenario("ogda", on_lost="drop"))), "every kind has happened"
    assert faults.total() > 2000
    assert len(states) > 2000


def test_a_seed_is_a_run() -> None:
    """The same events at the same virtual times."""
    first, again = trial(11), trial(11)
    assert (first.events, first.seconds, first.faults, first.rounds) == (
        again.events,
        again.seconds,
        again.faults,
        again.rounds,
    )
    assert trial(12).events != first.events


def test_a_failure_is_found_and_cut_down_to_what_causes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that kept one checkpoint instead of three would have none that a server which was killed can use."""
    monkeypatch.setattr(world, "WORKER_KEEPS", 1)
    for seed in range(200):
        scenario, script = scenario_of(seed, count=40)
        if scenario.on_lost == "pause" and replay(scenario, seed, script).failure.startswith("usable state"):
            break
    else:
        raise AssertionError("it was not found")
    kept = shrunk(scenario, seed, script)
    assert "server" in [fault.who for fault in kept], "it died, or its disk was full"
    assert len(kept) <= len(script) // 3
    assert replay(scenario, seed, kept).failure.startswith("usable state")
    assert repr(kept[0]) in as_code(scenario, seed, kept)
    monkeypatch.undo()
    assert replay(scenario, seed, kept).failure == ""
