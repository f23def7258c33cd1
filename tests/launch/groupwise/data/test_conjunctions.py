"""Groups from columns: what is kept, what is the same group, and what is refused."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.groupwise.data.columns import Columns
from saddlebag.launch.groupwise.data.conjunctions import conjunctions
from saddlebag.launch.groupwise.data.expressions import parse
from saddlebag.launch.groupwise.recipe import groupwise_from_dict
from saddlebag.launch.groupwise.study import stream_study
from saddlebag.launch.groupwise.tables.conjunction_table import ConjunctionTable

if TYPE_CHECKING:
    from pathlib import Path


def people(seed: int, rows: int = 200) -> Columns:
    rng = np.random.default_rng(seed)
    columns = {
        "sex": rng.choice(["f", "m"], rows),
        "home land": rng.choice(["it's", "b", "c"], rows, p=[0.1, 0.3, 0.6]),
        "age": rng.integers(18, 80, rows).astype(float),
    }
    return Columns("people", columns)


def test_expressions_select_exactly_the_conjunctions_with_enough_rows() -> None:
    """Against an enumeration of its own: every pair and triple of parts, whatever the order of columns."""
    columns = people(0)
    table = ConjunctionTable(columns=["sex", "home land", "age"], depth=3, at_least=10, bins=3)
    found = {name: parse(text, name).members(columns, name) for name, text in conjunctions(table, columns).items()}
    single = {name: member_N for name, member_N in found.items() if ", " not in name}
    assert len(single) == 2 + 3 + 3
    wanted = set()
    for size in (1, 2, 3):
        for names in itertools.combinations(single, size):
            member_N = np.logical_and.reduce([single[name] for name in names])
            if member_N.sum() >= 10:
                wanted.add(member_N.tobytes())
    assert {member_N.tobytes() for member_N in found.values()} == wanted
    assert len(found) == len(wanted)  # no group twice
    for g in ("age",):
        parts = [member_N for name, member_N in single.items() if g in name]
        assert np.sum(parts, axis=0).tolist() == [1] * 200


def test_missing_numbers_belong_to_no_part() -> None:
    columns = Columns("t", {"age": np.array([1.0, 2.0, 3.0, np.nan] * 20)})
    found = conjunctions(ConjunctionTable(columns=["age"], depth=1, at_least=5, bins=2), columns)
    members = [parse(text, name).members(columns, name) for name, text in found.items()]
    assert not np.logical_or.reduce(members)[3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": []}, "conjunctions: columns must be different names, at least one"),
        ({"columns": ["sex", "sex"]}, "conjunctions: columns must be different names"),
        ({"depth": 3}, "conjunctions: depth must be 1 to 2, the number of columns, got 3"),
        ({"at_least": 0}, "conjunctions: at_least must be at least 1, got 0"),
        ({"bins": 1}, "conjunctions: bins must be at least 2 and at most 100, got 1"),
        ({"most": 200_000}, "conjunctions: most must be at least 1 and at most 100000, got 200000"),
        ({"columns": ["sex", "town"]}, r"conjunctions\.columns: rows\.csv has no column 'town'"),
        ({"columns": ["sex", "y"]}, "depends on the label 'y'"),
        ({"most": 2}, "conjunctions: more than 2 groups of at least 20 rows; raise at_least or most"),
        ({"at_least": 300}, "conjunctions: no group has 300 rows; lower at_least"),
    ],
)
def test_what_makes_no_groups_is_refused_by_key(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stream_study(groupwise_from_dict(table_of(tmp_path, **changes)))


def table_of(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    columns = people(1)
    rng = np.random.default_rng(1)
    rows = zip(columns.values["sex"], columns.values["age"], rng.random(200), strict=True)
    (tmp_path / "rows.csv").write_text("\n".join(["sex,age,y", *(f"{s},{a:.0f},{y:.4f}" for s, a, y in rows)]) + "\n")
    return {
        "data": {"source": str(tmp_path / "rows.csv")},
        "features": {"numeric": ["age"], "one_hot": ["sex"]},
        "label": {"column": "y"},
        "conjunctions": {"columns": ["sex", "age"], "at_least": 20, **changes},
    }


def test_a_study_has_them_beside_those_that_are_listed(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    stream, study = stream_study(groupwise_from_dict({**table, "groups": {"mine": "age < 40"}}))
    assert stream.groups[0] == "mine"
    assert {"sex = f", "sex = m"} < set(stream.groups)
    assert study.rounds_SG.min() >= 20
    assert stream.meaning["groups"][1]["rule"] == "sex == 'f'"
    with pytest.raises(ConfigError, match=r"groups\.sex = f: \[conjunctions\] makes a group of this name"):
        stream_study(groupwise_from_dict({**table, "groups": {"sex = f": "age < 40"}}))
