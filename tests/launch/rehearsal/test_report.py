"""The rehearsal of a recipe: recorded sizes against every vector computed, on the same drawn links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.rehearsal.links import Links, Spread
from saddlebag.launch.rehearsal.report import print_report, report

RECIPE = Path("launch/recipes/bilinear.toml")
SETS = ["problem.n=20", "method.step_size=0.01", "baseline=[]", "stop.merit=1e-300", "method.down.name=natural"]
LINKS = Links(up=Spread(1e5, 2.0), down=Spread(1e6, 2.0), latency=Spread(0.01, 1.5), step=Spread(0.05, 1.3))


def rehearsed(**ways: Any) -> dict[str, Any]:
    given = {"workers": 12, "rounds": 100, "seed": 1, "exact": False, "few": None, "tell": lambda text: None}
    return report(RECIPE, SETS, LINKS, **{**given, **ways})


def test_recorded_sizes_tell_what_real_cores_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Within 10 % of each other: both draw the same links; the exact one has heartbeats, too."""
    recorded, exact = rehearsed(), rehearsed(exact=True)
    for name in ("rounds_per_hour", "round_median_s", "up_bytes", "down_bytes", "goodput"):
        assert recorded[name] == pytest.approx(exact[name], rel=0.1), name
    print_report(recorded)
    print_report(exact)
    assert "12 workers, 100 rounds" in capsys.readouterr().out


def test_ten_thousand_workers_are_no_more_than_arrays() -> None:
    found = rehearsed(workers=2_000, rounds=50)
    assert found["measured"]["server_bytes"] > 2_000 * 1_000
    assert found["rehearsal_s"] < 30


def test_too_many_steps_to_compute_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--exact computes 100000 x 100 steps"):
        rehearsed(workers=100_000, exact=True)


@pytest.mark.parametrize("exact", [False, True])
def test_rounds_wait_for_checkpoints_of_narrow_states(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds of disk after every second round; in the exact form the workers wait for their own, too."""
    monkeypatch.setattr("saddlebag.launch.rehearsal.report.save_seconds", lambda job: 2.0)
    recipe = Path("launch/recipes/digits_transformer.toml")
    sets = ["problem.batch_size=8", "problem.attack=none", "method.precision=float32", "checkpoint.every=2", "stop.every=100"]
    ways: dict[str, Any] = {"workers": 2, "rounds": 6, "seed": 1, "few": None, "tell": lambda text: None}
    found = report(recipe, sets, LINKS, exact=exact, **ways)
    assert found["save_s"] == 2.0
    assert found["seconds"] > (12.0 if exact else 6.0)
