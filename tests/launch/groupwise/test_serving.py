from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.errors import StateError
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
        ({"recipe": RECIPE + "[learner]\npenalty = 2.0\n"}, "algorithm.learner.penalty: 1.0 is now 2.0"),
        ({"recipe": RECIPE.replace("intercept = true\n", "")}, "column '1' is gone"),
    ],
)
def test_a_change_of_meaning_is_refused_by_its_name(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    served(tmp_path / "data")
    with pytest.raises(StateError, match=message) as refused:
        served(tmp_path / "data", **change)
    assert "\n" not in str(refused.value)
    served(tmp_path / "data")
