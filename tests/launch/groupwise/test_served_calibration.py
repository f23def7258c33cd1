"""Calibrated probabilities of a service: those of the study; late labels, restarts, another rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import Calibration, calibrate_recorded
from saddlebag.client.groupwise.requests import predicted, table_request, values_request
from saddlebag.errors import StateError
from saddlebag.launch.groupwise.recipe import load_groupwise
from saddlebag.launch.groupwise.reports.live import live_page
from saddlebag.launch.groupwise.serving import make_parts
from saddlebag.launch.groupwise.study import stream_study
from saddlebag.server.groupwise.service import GroupwiseService

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """
[data]
source = "rows.csv"
[features]
numeric = ["x"]
intercept = true
[label]
column = "y"
positive = "yes"
[groups]
loud = 'loud == "yes"'
low = "x < 0.5"
[calibration]
bins = 5
step = 0.05
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    loud_N, x_N = rng.random(150) < 0.3, rng.random(150)
    y_N = rng.random(150) < 0.2 + 0.5 * x_N * np.where(loud_N, 1.4, 0.8)
    rows = [f"{x:.4f},{'yes' if a else 'no'},{'yes' if y else 'no'}" for x, a, y in zip(x_N, loud_N, y_N, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["x,loud,y", *rows]) + "\n")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


def rows_of(recipe: Path) -> list[dict[str, Any]]:
    lines = [line.split(",") for line in (recipe.parent / "rows.csv").read_text().split()[1:]]
    return [{"x": float(x), "loud": loud, "y": y} for x, loud, y in lines]


def served(recipe: Path, state: Path | None = None, sets: Any = (), **share: int) -> GroupwiseService:
    core, encoder = make_parts(recipe, list(sets), max_rows=64, max_pending=1000, **share)
    return GroupwiseService(core, state, encoder=encoder)


@pytest.mark.parametrize("shadows", [False, True])
def test_a_service_that_is_told_each_label_gives_the_studys_probabilities(recipe: Path, shadows: bool) -> None:
    sets = [f"mixing.shadows={str(shadows).lower()}"]
    stream, study = stream_study(load_groupwise(recipe, sets)[0])
    assert study.calibration is not None
    service, p_N, base_N = served(recipe, sets=sets), np.empty(150), np.empty(150)
    about = service.describe()
    assert about.levels == 5
    for t, row in enumerate(rows_of(recipe)):
        answer = predicted(service.predict(table_request(about, [row], False).SerializeToString()))
        assert answer.calibrated_N is not None
        p_N[t], base_N[t] = answer.calibrated_N[0], answer.value_N[0]
        service.feedback(values_request(about, answer.ticket_N, [row["y"]]).SerializeToString())
    expected_N, state = calibrate_recorded(Calibration(bins=5, step=0.05), np.clip(base_N, 0, 1), stream.y_N, stream.awake_NG)
    assert p_N == pytest.approx(expected_N, abs=1e-12)
    assert np.abs(p_N - base_N).max() > 0.02  # it does correct
    assert (p_N - stream.y_N) ** 2 @ stream.awake_NG == pytest.approx(study.calibration.loss_SPG[0, 2], rel=1e-9)
    rule = Calibration(bins=5, step=0.05)
    for each in service.report().calibrated:
        g = stream.groups.index(each.group)
        assert list(each.rounds) == state.count_GB[g].tolist()
        assert list(each.error) == pytest.approx(rule.error(state)[g].tolist(), abs=1e-12)
        assert list(each.bound) == pytest.approx(rule.bound(state)[g].tolist(), rel=1e-9)
        assert (np.abs(each.error) <= np.array(each.bound) + 1e-12).all()
    assert "calibration error" in live_page(service.report())


def test_the_identity_is_exact_for_late_labels_and_through_restarts(recipe: Path, tmp_path: Path) -> None:
    rng, state = np.random.default_rng(1), tmp_path / "state"
    service, whole = served(recipe, state), served(recipe)
    about, rows, waiting = service.describe(), rows_of(recipe), list[tuple[int, int, float]]()
    total_G, rounds_G, stream = np.zeros(3), np.zeros(3), stream_study(load_groupwise(recipe, [])[0])[0]
    for begin in range(0, 150, 5):
        request = table_request(about, rows[begin : begin + 5], False).SerializeToString()
        answer, other = predicted(service.predict(request)), predicted(whole.predict(request))
        assert answer.calibrated_N is not None
        assert np.array_equal(answer.calibrated_N, other.calibrated_N)  # type: ignore[arg-type]
        tickets = zip(answer.ticket_N.tolist(), range(begin, begin + 5), answer.calibrated_N.tolist(), strict=True)
        waiting.extend(tickets)
        rng.shuffle(waiting)
        late, waiting = waiting[:4], waiting[4:]
        labels = values_request(about, [t for t, _, _ in late], [rows[r]["y"] for _, r, _ in late]).SerializeToString()
        assert service.feedback(labels).outcomes == whole.feedback(labels).outcomes == bytes([1] * 4)
        for _, row, p in late:
            total_G += stream.awake_NG[row] * (stream.y_N[row] - p)
            rounds_G += stream.awake_NG[row]
        if begin % 50 == 25:
            service = served(recipe, state)  # nobody has said goodbye
    found = {each.group: each for each in service.report().calibrated}
    for g, name in enumerate(stream.groups):
        assert np.dot(found[name].rounds, found[name].error) == pytest.approx(total_G[g], abs=1e-9)
        assert sum(found[name].rounds) == rounds_G[g]
    assert service.report().calibrated == whole.report().calibrated


def test_another_rule_is_refused(recipe: Path, tmp_path: Path) -> None:
    served(recipe, tmp_path / "state")
    with pytest.raises(StateError, match=r"calibration\.step: 0\.05 is now 0\.01"):
        served(recipe, tmp_path / "state", ["calibration.step=0.01"])
