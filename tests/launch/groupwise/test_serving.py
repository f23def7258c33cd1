from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import saddlebag.proto.groupwise
from saddlebag.errors import RemoteProtocolError, StateError
from saddlebag.launch.groupwise.serving import make_core
from saddlebag.server.groupwise.service import GroupwiseService

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """
[data]
source = "people.csv"
membership = "members.csv"
[features]
numeric = ["age"]
one_hot = ["work"]
intercept = true
[label]
column = "pay"
positive = "yes"
[groups]
young = "age <= 35"
"""
ROWS = [("30", "Private", "yes"), ("40", "State", "no"), ("50", "Private", "no"), ("20", "Self", "yes")]
MEMBERS = [("1", "0"), ("0", "1"), ("1", "1"), ("0", "1")]


def table(path: Path, header: tuple[str, ...], rows: Any) -> None:
    path.write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")


def served(folder: Path, recipe: str = RECIPE, rows: Any = ROWS, members: Any = MEMBERS, names: Any = ("east", "west")) -> None:
    folder.mkdir(exist_ok=True)
    table(folder / "people.csv", ("age", "work", "pay"), rows)
    table(folder / "members.csv", names, members)
    (folder / "recipe.toml").write_text(recipe)
    core = make_core(folder / "recipe.toml", [], max_rows=16, max_pending=16)
    GroupwiseService(core, folder.parent / "state")


def test_the_same_meaning_resumes_though_text_path_and_rows_differ(tmp_path: Path) -> None:
    served(tmp_path / "data")
    served(
        tmp_path / "data",
        RECIPE.replace("age <= 35", "`age`<=35.0") + "# read again\n",
        [*ROWS, ROWS[0]],
        [*MEMBERS, MEMBERS[1]],
    )
    served(tmp_path / "moved")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"rows": [(age, work.replace("Private", "private"), pay) for age, work, pay in ROWS]},
            "category 'Private' is now 'private'",
        ),
        ({"rows": [*ROWS[:3], ("20", "None", "yes")]}, "column 'work': category 'Self' is now 'None'"),
        ({"rows": [*ROWS[:3], ("20", "State", "yes")]}, "column 'work': category 'Self' is gone"),
        ({"rows": [*ROWS[:3], ("19", "Self", "yes")]}, "column 'age': the scale's low 20.0 is now 19.0"),
        (
            {"members": [row[::-1] for row in MEMBERS], "names": ("west", "east")},
            "groups 2 and 3 are swapped: 'east' and 'west'",
        ),
        ({"names": ("east", "south")}, "group 'west' is gone; group 'south' is new"),
        ({"recipe": RECIPE.replace("35", "36")}, "group 'young': its rule 'age <= 35' is now 'age <= 36'"),
        ({"recipe": RECIPE.replace('"yes"', '"no"')}, "label.positive: 'yes' is now 'no'"),
        ({"recipe": RECIPE + "[learner]\npenalties = [2.0]\n"}, r"algorithm.learner.penalties: \[1.0, 10.0\] is now \[2.0\]"),
        ({"recipe": RECIPE + "[learner]\npenalty = 2.0\n"}, "algorithm.learner.kind: 'Aggregated' is now 'Ridge'"),
        ({"recipe": RECIPE.replace("intercept = true\n", "")}, "column '1' is gone"),
        ({"recipe": RECIPE + '[learner]\nname = "gradient"\n'}, "algorithm.learner.kind: 'Aggregated' is now 'Gradient'"),
        ({"recipe": RECIPE + '[mixer]\nname = "solo"\n'}, "algorithm.mixer.kind: 'Specialists' is now 'Solo'"),
        ({"recipe": RECIPE + '[mixing]\ncharge = "expected"\n'}, "algorithm.charge: 'played' is now 'expected'"),
        ({"recipe": RECIPE + "[mixing]\nclip = [0.1, 0.9]\n"}, "algorithm.interval: .* is now"),
        ({"recipe": RECIPE + "[mixing]\nshadows = true\n"}, "algorithm.shadows: False is now True"),
        ({"recipe": RECIPE + "[mixing.prior]\nyoung = 2.0\n"}, "group 'young': its prior 0.25 is now 0.4"),
        ({"recipe": RECIPE + "[intervals]\n"}, "intervals: None is now {'targets'"),
        ({"recipe": RECIPE + "[alarms]\n"}, "alarms: None is now {'kinds'"),
        ({"recipe": RECIPE + "[calibration]\n"}, "calibration: None is now"),
    ],
)
def test_a_change_of_meaning_is_refused_by_its_name(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    served(tmp_path / "data")
    with pytest.raises(StateError, match=message) as refused:
        served(tmp_path / "data", **change)
    assert "\n" not in str(refused.value)
    served(tmp_path / "data")


WATCHED = (
    RECIPE
    + """[intervals]
targets = [0.9]
[calibration]
[alarms]
kinds = ["worse", "coverage"]
"""
)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("targets = [0.9]", "targets = [0.8]", r"intervals\.targets: \[0\.9\] is now \[0\.8\]"),
        ("targets = [0.9]", "targets = [0.9]\nstep = 2.0", r"intervals\.step: 0\.5 is now 2\.0"),
        ("targets = [0.9]", 'targets = [0.9]\nform = "fixed"', r"intervals\.form: 'adaptive' is now 'fixed'"),
        ("targets = [0.9]", 'targets = [0.9]\nscore = "scaled"', r"intervals\.score: 'absolute' is now 'scaled'"),
        ("targets = [0.9]", 'targets = [0.9]\nprediction = "age"', r"intervals\.given: False is now True"),
        (WATCHED[len(RECIPE) :], "[calibration]\n", r"intervals: \{.*\} is now None"),
        ("[calibration]\n", "[calibration]\nbins = 4\n", r"calibration\.bins: 10 is now 4"),
        ("[calibration]\n", "", r"calibration: .* is now None"),
        ('kinds = ["worse", "coverage"]', 'kinds = ["worse"]', r"alarms\.kinds: \['worse', 'coverage'\] is now \['worse'\]"),
        ("[alarms]\n", "[alarms]\nrate = 0.1\n", r"alarms\.rate: 0\.05 is now 0\.1"),
        ("[alarms]\n", "[alarms]\nmargin = 0.03\n", r"alarms\.margin: 0\.02 is now 0\.03"),
    ],
)
def test_what_goes_with_predictions_is_part_of_the_meaning(old: str, new: str, message: str, tmp_path: Path) -> None:
    """What failed: another step of intervals was taken in silence over the misses of before."""
    served(tmp_path / "data", WATCHED)
    with pytest.raises(StateError, match=message):
        served(tmp_path / "data", WATCHED.replace(old, new))
    served(tmp_path / "data", WATCHED)


def test_a_checkpoint_that_says_nothing_of_intervals_and_alarms_is_of_before_and_taken(tmp_path: Path) -> None:
    served(tmp_path / "data", WATCHED)
    core = make_core(tmp_path / "data" / "recipe.toml", [], max_rows=16, max_pending=16)
    arrays, facts = core.capture()
    del facts["meaning"]["intervals"], facts["meaning"]["alarms"]
    core.restore(arrays, facts)


def test_groups_that_join_lower_the_rows_of_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed: with more groups a reply with weights no longer fitted a frame."""
    monkeypatch.setattr(saddlebag.proto.groupwise, "FRAME_BYTES", 1000)
    served(tmp_path / "data")
    core = make_core(tmp_path / "data" / "recipe.toml", [], max_rows=4096, max_pending=16)
    assert core.settings.max_rows == 1000 // (8 * 2 * 4)
    core.grow([{"name": f"new {g}", "rule": "", "prior": 0.1} for g in range(6)])
    assert core.settings.max_rows == 1000 // (8 * 2 * 10)
    with pytest.raises(RemoteProtocolError, match="1 to 6 rows"):
        core.check_rows(7)
    core.limit()
    with pytest.raises(RemoteProtocolError, match="1 to 6 rows"):
        core.check_rows(7)


@pytest.mark.parametrize(
    ("more", "kind", "of"),
    [
        ("", "Aggregated", "ridge"),
        ('[mixing]\nloss = "log"\n', "Aggregated", "logistic"),
        ("[learner]\npenalties = [2.0, 20.0]\n", "Aggregated", "ridge"),
        ("[learner]\nrefresh = 100\n", "Ridge", None),
        ('[learner]\nname = "ridge"\n', "Ridge", None),
    ],
)
def test_a_learner_left_open_is_chosen_by_the_loss(more: str, kind: str, of: str | None, tmp_path: Path) -> None:
    served(tmp_path / "data", RECIPE + more)
    core = make_core(tmp_path / "data" / "recipe.toml", [], max_rows=16, max_pending=16)
    learner = core.algorithm.learner
    assert (type(learner).__name__, getattr(learner, "of", None)) == (kind, of)
    assert getattr(learner, "interval", (0.0, 1.0)) == (0.0, 1.0)


def test_labels_without_an_interval_get_ridge_regression_and_others_their_own(tmp_path: Path) -> None:
    open_label = 'interval = "any"\n[mixer]\nname = "solo"\n[mixing]\nclip = false\n'
    for more, kind in (("interval = [-1.0, 2.0]\n", "Aggregated"), (open_label, "Ridge")):
        folder = tmp_path / kind
        folder.mkdir()
        served(folder / "data")
        text = RECIPE.replace('positive = "yes"\n', 'positive = "yes"\n' + more)
        (folder / "data" / "recipe.toml").write_text(text)
        learner = make_core(folder / "data" / "recipe.toml", [], max_rows=16, max_pending=16).algorithm.learner
        assert type(learner).__name__ == kind
        assert getattr(learner, "interval", (-1.0, 2.0)) == (-1.0, 2.0)
