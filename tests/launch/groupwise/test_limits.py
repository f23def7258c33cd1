"""Labels and features out of range, alike in run, replay and serve; and the keys that declare the ranges."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from saddlebag.errors import ConfigError, DataError, NotFiniteError, RemoteProtocolError
from saddlebag.launch.commands.groupwise import groupwise
from saddlebag.launch.groupwise.data.stream import build_stream
from saddlebag.launch.groupwise.parallel import learn_in_blocks
from saddlebag.launch.groupwise.recipe import groupwise_from_dict, make_algorithm
from saddlebag.launch.groupwise.replay import replay_file
from saddlebag.launch.groupwise.reports.report import summarise, verdict
from saddlebag.launch.groupwise.serving import make_core
from saddlebag.launch.groupwise.study import run_study
from saddlebag.launch.recipe import toml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.server.groupwise.core import GroupwiseCore

ROWS = [(round(i * 37 % 50 / 50, 2), float(i % 2)) for i in range(50)]


def recipe_of(tmp_path: Path, rows: list[tuple[float, float]], **tables: dict[str, Any]) -> dict[str, Any]:
    (tmp_path / "rows.csv").write_text("a,y\n" + "".join(f"{a!r},{y!r}\n" for a, y in rows))
    table: dict[str, Any] = {
        "data": {"source": str(tmp_path / "rows.csv")},
        "features": {"numeric": ["a"], "scale": "none", "intercept": True},
        "label": {"column": "y", "scale": "none"},
        "groups": {"low": "a < 0.4"},
        "mixing": {},
    }
    for key, value in tables.items():
        table[key] = {**table.get(key, {}), **value}
    return table


def run(tmp_path: Path, rows: list[tuple[float, float]], **tables: dict[str, Any]) -> dict[str, Any]:
    groups, study = run_study(groupwise_from_dict(recipe_of(tmp_path, rows, **tables)))
    return summarise("t", groups, study, charge="played")


def replay(tmp_path: Path, rows: list[tuple[float, float]], **tables: dict[str, Any]) -> dict[str, Any]:
    path, recipe = tmp_path / "rounds.jsonl", tmp_path / "replay.toml"
    path.write_text("".join(json.dumps({"x": [a, 1.0], "groups": ["low"] if a < 0.4 else [], "y": y}) + "\n" for a, y in rows))
    recipe.write_bytes(toml.dump(recipe_of(tmp_path, rows, **tables)).encode())
    return replay_file(path, recipe, [])[0]


def core_of(tmp_path: Path, **tables: dict[str, Any]) -> GroupwiseCore:
    """The service of a recipe, on a good table in the interval that the recipe declares."""
    low, high = tables.get("label", {}).get("interval", [0.0, 1.0])
    path = tmp_path / "serve.toml"
    path.write_bytes(toml.dump(recipe_of(tmp_path, [(a, low + y * (high - low)) for a, y in ROWS], **tables)).encode())
    return make_core(path, [], max_rows=100, max_pending=100)


def serve(tmp_path: Path, rows: list[tuple[float, float]], **tables: dict[str, Any]) -> dict[str, Any]:
    core = core_of(tmp_path, **tables)
    for a, y in rows:
        first, _ = core.predict(np.array([[a, 1.0]]), np.array([[a < 0.4, True]]))
        core.feedback([first], np.array([y]))
    return {"alarms": [alarm.message for alarm in core.alarms()]}


PATHS: list[Callable[..., dict[str, Any]]] = [run, replay, serve]
REFUSED = (DataError, RemoteProtocolError)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("rows", "tables", "message"),
    [
        ([(a, 1.0 + y) for a, y in ROWS], {}, r"must be in \[0, 1\], got 2"),
        ([*ROWS, (0.5, 5.0)], {}, r"must be in \[0, 1\], got 5"),
        ([*ROWS, (0.5, -1e308)], {}, r"must be in \[0, 1\], got -1e\+308"),
        ([(a, 2 * y - 1) for a, y in ROWS], {"mixing": {"loss": "log"}}, r"must be in \[0, 1\], got -1"),
        ([*ROWS, (0.5, 3.0)], {"label": {"interval": [1.0, 2.0]}}, r"must be in \[1, 2\], got 0"),
        ([*ROWS, (0.5, 5.0)], {"mixing": {"clip": False}}, r"must be in \[0, 1\], got 5"),
        ([*ROWS, (0.5, 0.9999)], {"label": {"interval": [0.0, 0.999]}}, r"must be in \[0, 0.999\]"),
    ],
)
def test_labels_outside_their_interval_are_refused_on_every_path(
    tmp_path: Path, path: Callable[..., Any], rows: list[tuple[float, float]], tables: Any, message: str
) -> None:
    """What failed: labels 1 and 2 doubled the loss of `run` and `replay` without a word, while the service refused them."""
    with pytest.raises(REFUSED, match=message):
        path(tmp_path, rows, **tables)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("rows", "tables"),
    [
        (ROWS, {}),
        ([(a, 1.0 + y) for a, y in ROWS], {"label": {"interval": [1.0, 2.0]}}),
        (ROWS, {"mixing": {"loss": "log", "clip": [0.001, 0.999]}, "learner": {"name": "logistic"}}),
        (ROWS, {"mixing": {"clip": [-0.5, 1.5]}}),
        (ROWS, {"mixing": {"clip": [0.2, 0.8]}}),
    ],
)
def test_labels_inside_are_taken_on_every_path(
    tmp_path: Path, path: Callable[..., Any], rows: list[tuple[float, float]], tables: Any
) -> None:
    assert path(tmp_path, rows, **tables)["alarms"] == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("big", [1e308, -1e200, 1e10, 1e6])
def test_features_beyond_their_bound_are_refused_on_every_path(tmp_path: Path, path: Callable[..., Any], big: float) -> None:
    """What failed: 1e308 made a table of nan in `run` and `replay`, and NaN for everybody in the service."""
    with pytest.raises(REFUSED, match="beyond"):
        path(tmp_path, [*ROWS, (big, 1.0), *ROWS])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("big", [1e308, 1e10])
@pytest.mark.parametrize("learner", ["ridge", "vovk_azoury_warmuth", "gradient", "newton"])
def test_clipped_features_do_not_ruin_the_learner(tmp_path: Path, path: Callable[..., Any], big: float, learner: str) -> None:
    """The same rows without the big one, but for a clipped one of size 2."""
    options: Any = {"features": {"outside": "clip", "bound": 2.0}, "learner": {"name": learner}}
    assert path(tmp_path, [*ROWS, (big, 1.0), *ROWS], **options)["alarms"] == []


@pytest.mark.parametrize("outside", ["clip", "refuse"])
def test_a_service_recovers_from_the_largest_row_that_it_takes(tmp_path: Path, outside: str) -> None:
    """What failed: after one row of 1e10 the service predicted 0 for ever."""
    core, good = core_of(tmp_path, features={"outside": outside}), np.array([[0.5, 1.0]])
    member = np.array([[False, True]])

    def learn(x: np.ndarray, y: float, times: int) -> float:
        for _ in range(times):
            core.feedback([core.predict(x, member)[0]], np.array([y]))
        return float(core.predict(good, member)[1].value_N[0])

    assert learn(good, 1.0, 100) > 0.9
    largest = core.settings.bounds.limit[0]
    assert largest == pytest.approx(9.8)  # ten times the table's
    bad = np.array([[1e10 if outside == "clip" else largest, 1.0]])
    learn(bad, 0.0, 1)
    assert learn(good, 1.0, 100) > 0.9
    if outside == "refuse":
        with pytest.raises(RemoteProtocolError, match=r"feature 'a' of row 0 is 10000000000.0, beyond its bound 9.8"):
            core.predict(np.array([[1e10, 1.0]]), member)


def test_a_label_that_would_break_the_state_is_refused_alone(tmp_path: Path) -> None:
    core = core_of(tmp_path, mixing={"clip": False}, mixer={"name": "solo"}, learner={"name": "ridge"})
    core.algorithm = make_algorithm(
        groupwise_from_dict(
            recipe_of(tmp_path, ROWS, label={"interval": "any"}, mixing={"clip": False}, mixer={"name": "solo"})
        ),
        2,
        2,
    )
    first, _ = core.predict(np.ones((3, 2)), np.ones((3, 2), bool))
    assert core.feedback([first, first + 1, first + 2], np.array([1.0, 1e200, 1.0])).tolist() == [1, 4, 1]
    assert (core.learned, core.refused) == (2, 1)
    assert [alarm.message for alarm in core.alarms()] == ["1 labels were refused: the state would not have been finite"]
    assert core.state.ledger.rounds == 2


def test_any_label_needs_a_mixer_without_a_range(tmp_path: Path) -> None:
    rows = [(a, 100 * y) for a, y in ROWS]
    free: Any = {"label": {"interval": "any"}, "mixing": {"clip": False}}
    assert run(tmp_path, rows, **free, mixer={"name": "solo"})["alarms"] == []
    with pytest.raises(ConfigError, match="mixer ada_normal_hedge needs the range of the loss"):
        run(tmp_path, rows, **free)
    with pytest.raises(ConfigError, match=r"mixing.clip must be false or \[low, high\]"):
        run(tmp_path, rows, label={"interval": "any"})
    with pytest.raises(NotFiniteError, match="a loss is not finite"):
        run(tmp_path, [*rows, (0.5, 1e200)], **free, mixer={"name": "solo"})


def test_a_range_that_is_exceeded_raises_an_alarm_in_a_study(tmp_path: Path) -> None:
    """What failed: the alarm stood in the service only."""
    values = run(tmp_path, ROWS, mixer={"loss_range": 0.01})
    assert any("exceeds the declared loss range" in alarm for alarm in values["alarms"])


def test_clipping_inside_the_labels_leaves_the_learner_without_a_bound(tmp_path: Path) -> None:
    values = run(tmp_path, ROWS, mixing={"clip": [0.2, 0.8]})
    assert all(row["bound"] is None for row in values["groups"])
    assert all(row["bound"] is not None for row in run(tmp_path, ROWS)["groups"])


@pytest.mark.parametrize("name", ["run", "replay"])
def test_the_old_key_is_taken_with_a_note(tmp_path: Path, name: str) -> None:
    path: Callable[..., Any] = {"run": run, "replay": replay}[name]
    rows = [(a, 1.0 + y) for a, y in ROWS]
    with pytest.warns(FutureWarning, match=r"mixing.interval is deprecated: write label.interval = \[1.0, 2.0\]"):
        old = path(tmp_path, rows, mixing={"interval": [1.0, 2.0]})
    new = path(tmp_path, rows, label={"interval": [1.0, 2.0]})
    assert json.dumps(old) == json.dumps(new)
    with pytest.warns(FutureWarning, match=r"write mixing.clip = \[0.001, 0.999\]"):
        path(tmp_path, ROWS, mixing={"loss": "log", "interval": [0.001, 0.999]}, learner={"name": "logistic"})


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"label": {"interval": [1.0]}}, r'label.interval must be \[low, high\], or "any", got \[1.0\]'),
        ({"label": {"interval": "all"}}, "label.interval must be"),
        ({"label": {"interval": ["a", "b"]}}, r"label.interval\[0\] must be a number"),
        ({"label": {"interval": [1.0, 0.0]}}, "label.interval: an interval is"),
        ({"mixing": {"clip": [1.0, 0.0]}}, "mixing.clip: an interval is"),
        ({"mixing": {"clip": [1.0, 0.0, 2.0]}}, r"mixing.clip must be \[low, high\], true or false"),
        ({"mixing": {"interval": [0.0, 1.0]}, "label": {"interval": [0.0, 1.0]}}, "mixing.interval is the old name"),
        ({"mixing": {"loss": "log"}, "label": {"interval": [0.0, 2.0]}}, "label.interval must lie in"),
        ({"features": {"bound": -1.0}}, "features.bound must be a positive number"),
        ({"features": {"outside": "drop"}}, "features.outside must be"),
    ],
)
def test_wrong_ranges_are_named(tmp_path: Path, tables: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, ROWS, **tables)


def test_blocks_of_processes_refuse_the_same(tmp_path: Path) -> None:
    recipe = groupwise_from_dict(recipe_of(tmp_path, ROWS))
    stream, algorithm = build_stream(recipe), make_algorithm(recipe, 2, 2)
    stream.y_N[7] = 5.0
    with pytest.raises(DataError, match=r"must be in \[0, 1\], got 5"):
        learn_in_blocks(algorithm, stream, 8)


def test_alarms_are_told_by_blocks_of_processes_too(tmp_path: Path) -> None:
    path = tmp_path / "blocks.toml"
    path.write_bytes(toml.dump(recipe_of(tmp_path, ROWS, mixer={"loss_range": 1e-4})).encode())
    shown = CliRunner().invoke(groupwise, ["blocks", str(path), "--block", "4", "--json"], catch_exceptions=False)
    assert any("exceeds the declared loss range" in alarm for alarm in json.loads(shown.output)["alarms"])
    assert "alarm: " in CliRunner().invoke(groupwise, ["blocks", str(path), "--block", "4"], catch_exceptions=False).output


def test_a_column_too_wide_to_be_scaled_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"features.numeric: column 'a' holds 1e\+308"):
        run(tmp_path, [*ROWS, (1e308, 1.0), (-1e308, 1.0)], features={"scale": "min_max"})


def test_a_verdict_on_nan_is_none() -> None:
    assert verdict(np.array([np.nan]), np.array([1.0])) == "not a number"
