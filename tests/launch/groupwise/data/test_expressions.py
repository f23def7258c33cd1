from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.errors import ConfigError
from saddlebag.launch.groupwise.data.columns import Columns
from saddlebag.launch.groupwise.data.expressions import parse

COLUMNS = Columns(
    "people.csv",
    {
        "age": np.array([20.0, 36, 50, 51, 64]),
        "sex": np.array(["Male", "Female", "Female", "Male", "Female"]),
        "education-num": np.array([9.0, 13, 10, 16, 13]),
        "date": np.array(["2025-12-31", "2026-01-01", "2026-02-01", "2026-02-02", "2027-01-01"]),
        "native country": np.array(["a", "b", "a", "c", "d"]),
    },
)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("age <= 35", "10000"),
        ("36 <= age <= 50", "01100"),
        ("36<=age<50", "01000"),
        ("50 < age", "00011"),
        ('sex == "Female"', "01101"),
        ("sex != 'Female'", "10010"),
        ('sex == "Female" and age > 50', "00001"),
        ('sex == "Male" or age == 36 and education-num >= 13', "11010"),
        ('(sex == "Male" or age == 36) and education-num >= 13', "01010"),
        ('not sex == "Male" and not (age > 60)', "01100"),
        ("not not age < 40", "11000"),
        ("age in [20, 64]", "10001"),
        ('`native country` in ["a", "d"]', "10101"),
        ('date >= "2026-01-01" and date < "2026-02-02"', "01100"),
        ("1 <= round < 3", "01100"),
        ("all", "11111"),
        ("age > -1.5e1", "11111"),
        ("education-num > age", "00000"),
        ("age == 36 or age==36", "01000"),
    ],
)
def test_members(text: str, members: str) -> None:
    found = parse(text, "groups.g").members(COLUMNS, "groups.g")
    assert "".join(map(str, found.astype(int))) == members


def test_rounds_may_start_later() -> None:
    assert parse("round >= 103", "g").members(COLUMNS, "g", first_round=100).tolist() == [False] * 3 + [True] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends where a column, a number or quoted text should follow"),
        ("age", "ends where a comparison .* should follow"),
        ("age <=", "ends where a column, a number or quoted text should follow"),
        ("age <= 3 4", "expected 'and', 'or' or the end, got '4' at character 10"),
        ("(age <= 3", r"ends where '\)' should follow"),
        ("age <= 3 and", "ends where"),
        ("3 < 4", "a comparison needs a column"),
        ("age in [sex]", "expected a number or quoted text, got 'sex'"),
        ("age in []", "expected a column, a number or quoted text"),
        ("age ; 3", "cannot read '; 3' at character 4"),
        ("age = 3", "cannot read '= 3'"),
        ("__import__('os').system('x')", r"cannot read .\.system"),
        ("__import__('os')", "expected a comparison"),
        ("wage <= 3", "people.csv has no column 'wage'; it has age, sex"),
        ("age == 'old'", r"'age' \(numbers\) cannot be compared with 'old' \(text\)"),
        ("sex >= 3", r"'sex' \(text\) cannot be compared with 3.0 \(numbers\)"),
        ("(" * 60 + "age < 3" + ")" * 60, "nested deeper than 50"),
        ("not " * 60 + "age < 3", "nested deeper than 50"),
        ("a" * 2001, "at most 2000 characters, got 2001"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^groups.young.*{message}"):
        parse(text, "groups.young").members(COLUMNS, "groups.young")


@given(st.text(alphabet="age sx<=>!()[]\"',.0123andortiln_-`;{}", max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        members = parse(text, "g").members(COLUMNS, "g")
    except ConfigError:
        return
    assert members.shape == (5,)
    assert members.dtype == np.bool_


def test_knows_its_columns() -> None:
    assert parse("3 < age and sex == 'age'", "g").columns == {"age", "sex"}
