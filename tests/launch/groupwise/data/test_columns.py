from __future__ import annotations

import gzip
import lzma
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.groupwise.data.columns import read_columns
from saddlebag.launch.groupwise.data.stream import RoundStream, build_stream
from saddlebag.launch.groupwise.recipe import groupwise_from_dict
from saddlebag.launch.recipe.table_options import TableOptions

if TYPE_CHECKING:
    from pathlib import Path

TEXT = '|a remark\nage, job, pay\n\n39, "clerk, senior", 1.5\n50, ?, -2\n'


def write(tmp_path: Path, text: str, name: str = "t.csv") -> Path:
    path = tmp_path / name
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix)
    if opener:
        with opener(path, "wt") as file:
            file.write(text)
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.csv.xz"])
def test_reads_numbers_and_text(tmp_path: Path, name: str) -> None:
    columns = read_columns(write(tmp_path, TEXT, name), TableOptions(comment="|"))
    assert columns.numbers("age", "w").tolist() == [39, 50]
    assert columns.column("job", "w").tolist() == ["clerk, senior", "?"]
    assert columns.numbers("pay", "w").tolist() == [1.5, -2]
    assert len(columns) == 2


def test_takes_names_for_a_file_without_header(tmp_path: Path) -> None:
    columns = read_columns(write(tmp_path, "1;2\n3;x\n"), TableOptions(columns=["a", "b"], delimiter=";"))
    assert np.array_equal(columns.numbers("a", "w"), [1, 3])
    assert columns.column("b", "w").tolist() == ["2", "x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", "line 3: 2 values are expected, got 1"),
        ("a,a\n1,2\n", "line 1: column 2 has the name 'a', as column 1 has"),
        ("a,b\n", "no rows"),
        ("", "no rows"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_columns(write(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_columns(tmp_path / "none.csv")
    (tmp_path / "bad.csv.xz").write_bytes(b"\xfd7zXZ\0no archive")
    with pytest.raises(DataError, match="cannot be read"):
        read_columns(tmp_path / "bad.csv.xz")
    (tmp_path / "bad.csv").write_bytes(b"a,b\n\xff,2\n")
    with pytest.raises(DataError, match="line 2: byte 0xff is no UTF-8; name its encoding"):
        read_columns(tmp_path / "bad.csv")


def test_wrong_columns_are_named(tmp_path: Path) -> None:
    columns = read_columns(write(tmp_path, TEXT), TableOptions(comment="|"))
    with pytest.raises(ConfigError, match=r"features: t.csv has no column 'wage'; it has age, job, pay"):
        columns.column("wage", "features")
    with pytest.raises(ConfigError, match=r"column 'job' of t.csv holds text such as 'clerk, senior', not numbers"):
        columns.numbers("job", "features")


def stream(tmp_path: Path, **changes: dict[str, Any]) -> RoundStream:
    """A table with a missing age, a missing town and lines that begin with |."""
    path = write(tmp_path, "town,age,pay,y\n|x,20,1,0\nOslo,,2,1\n,60,3,1\n")
    table: dict[str, Any] = {
        "data": {"source": str(path)},
        "features": {"numeric": ["pay"], "one_hot": ["town"], "scale": "none"},
        "label": {"column": "y", "scale": "none"},
        "groups": {"young": "pay <= 2"},
    }
    for key, change in changes.items():
        table[key] |= change
    return build_stream(groupwise_from_dict(table))


def test_no_line_is_left_out_silently(tmp_path: Path) -> None:
    found = stream(tmp_path)
    assert found.features == ("pay", "town=", "town=Oslo", "town=|x")
    assert found.notes == (
        "t.csv: 3 rows; numbers: age, pay, y; text: town (3 values)",
        "t.csv: missing values: 1 in town (empty), 1 in age (empty)",
    )
    assert "1 lines that begin with '|' left out" in stream(tmp_path, data={"comment": "|"}).notes[-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": {"numeric": ["age"]}}, "column 'age' has 1 missing values, the first in row 2; features.missing = "),
        (
            {"groups": {"old": "not age < 50"}},
            "groups.old compares column 'age', which has 1 missing values, the first in row 2",
        ),
        ({"features": {"one_hot": ["age"]}}, r'one_hot: column \'age\' has 1 missing values.*data\.text = \["age"\]'),
        ({"label": {"column": "age", "interval": "any"}}, "label.column: 'age' has 1 missing values"),
    ],
)
def test_missing_numbers_are_refused_where_they_are_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        stream(tmp_path, **changes)


def test_missing_numbers_are_the_mean_where_the_recipe_says_so(tmp_path: Path) -> None:
    mean = {"numeric": ["age"], "one_hot": [], "missing": "mean"}
    found = stream(tmp_path, features=mean, groups={"old": "age >= 30", "not old": "not age >= 30"})
    assert found.x_ND[:, 0].tolist() == [20, 40, 60]
    assert dict(zip(found.groups, found.awake_NG.T.tolist(), strict=True))["old"] == [0, 0, 1]
    assert found.meaning["features"][0]["missing"] == 40
    category = stream(tmp_path, features={"one_hot": ["age"]}, data={"text": ["age"]})
    assert category.features == ("pay", "age=", "age=20", "age=60")
