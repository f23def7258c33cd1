"""The typed reader: round trips through CSV and Parquet, types on all rows, and what an encoding does with another file."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.readers import build_data
from saddlebag.launch.data.tables import Encoding, read_table_file, read_tabular
from saddlebag.launch.recipe.table_options import TableOptions

if TYPE_CHECKING:
    from pathlib import Path

words = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\ufeff", exclude_categories=["Cc", "Zs", "Zl", "Zp", "Nd"]), max_size=8
)
numbers = st.one_of(st.none(), st.floats(-1e50, 1e50), st.integers(-(2**53), 2**53))


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(numbers, words.filter(lambda word: word.lower() not in ("nan", "inf", "infinity", "?"))),
        min_size=1,
        max_size=8,
    ),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_what_the_module_csv_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, str]], delimiter: str, quoting: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
        writer.writerow(["number", "word", "y"])
        writer.writerows([("" if number is None else repr(number), word, "a") for number, word in rows])
    table = read_table_file(path, TableOptions(delimiter=delimiter))
    assert table.columns["word"].tolist() == [word for _, word in rows]
    known = [math.nan if number is None else float(number) for number, _ in rows]
    if all(number is None for number, _ in rows):
        assert table.columns["number"].tolist() == [""] * len(rows)
    else:
        assert np.array_equal(table.columns["number"].astype(float), known, equal_nan=True)
    assert not table.doubts


def test_parquet_holds_what_was_written(tmp_path: Path) -> None:
    arrow: Any = pytest.importorskip("pyarrow")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    table = arrow.table(
        {
            "age": arrow.array([20, None, 50], arrow.int16()),
            "pay": arrow.array([1.5, float("nan"), -3.0]),
            "zip": arrow.array(["01234", "?", None]),
            "town": arrow.array(["Rome", "Oslo", "Rome"]).dictionary_encode(),
            "member": [True, False, True],
            "label": [0, 1, 1],
        }
    )
    for name in ("t.parquet", "T.PQ", "unnamed"):
        parquet.write_table(table, tmp_path / name)
        data = build_data(str(tmp_path / name), format="parquet")
        assert np.array_equal(data.columns["age"].astype(float), [20, np.nan, 50], equal_nan=True)
        assert np.array_equal(data.columns["pay"].astype(float), [1.5, np.nan, -3], equal_nan=True)
        assert data.columns["zip"].tolist() == ["01234", "", ""]
        assert data.columns["town"].tolist() == ["Rome", "Oslo", "Rome"]
        assert data.columns["member"].tolist() == ["True", "False", "True"]
        assert data.notes[1].endswith("missing values: 1 in age (nothing), 1 in pay (NaN), 2 in zip (nothing, ?)")
    with pytest.raises(ConfigError, match=r"data\.encoding is for tables of text; t\.parquet is a Parquet file"):
        build_data(str(tmp_path / "t.parquet"), encoding="latin-1")
    chosen = build_data(str(tmp_path / "t.parquet"), rename={"label": "y"}, select=["pay", "y"])
    assert list(chosen.columns) == ["pay", "y"]
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut\.parquet: cannot be read"):
        build_data(str(tmp_path / "cut.parquet"))
    parquet.write_table(arrow.table({"a": [[1], [2]], "y": [0, 1]}), tmp_path / "lists.parquet")
    with pytest.raises(DataError, match=r"lists\.parquet: column 'a' is of type list<.*data\.select"):
        build_data(str(tmp_path / "lists.parquet"))


PEOPLE = "age,sex,income\n" + "".join(f"{20 + i},{'FM'[i % 2]},{('<=50K', '>50K')[i % 3 == 0]}\n" for i in range(30))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("K\n", "K.\n"), r"row 1: the label '>50K\.' was not there when fitted \(30 unknown ones\); known: '<=50K', '>50K'"),
        ((">50K\n", "\n"), "row 1: column 'income' holds the labels, and 10 are missing"),
        (("2", "x2"), "line 2: column 'age' holds numbers, and 'x20'|column 'age' held numbers when fitted, got 'x20'"),
    ],
)
def test_an_encoding_refuses_what_it_has_not_seen(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    """Every unknown label was +1, and text among numbers a bare ValueError."""
    for name, text in (("train", PEOPLE), ("test", PEOPLE.replace(*change))):
        (tmp_path / f"{name}.csv").write_text(text)
    encoding = Encoding.fit(read_table_file(tmp_path / "train.csv"), target="income")
    assert sorted(set(encoding.apply(read_table_file(tmp_path / "train.csv")).labels_N)) == [-1.0, 1.0]
    with pytest.raises(DataError, match=message):
        encoding.apply(read_table_file(tmp_path / "test.csv"))


def test_a_column_of_text_that_holds_numbers_elsewhere_is_not_all_unknown(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("zip,y\nA1,0\n02,1\n")
    (tmp_path / "b.csv").write_text("zip,y\n02,0\n03,1\n")
    text = TableOptions(text=["zip"])
    encoding = Encoding.fit(read_table_file(tmp_path / "a.csv", text))
    with pytest.raises(
        DataError, match=r'column \'zip\' held text when fitted, and holds numbers; give data\.text = \["zip"\]'
    ):
        encoding.apply(read_table_file(tmp_path / "b.csv"))
    rows: Any = encoding.apply(read_table_file(tmp_path / "b.csv", text)).rows
    assert rows.dense().tolist() == [[1, 0], [0, 0]]


def test_one_label_against_the_others(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,y\n1,a\n2,b\n3,c\n")
    assert read_tabular(path, positive="b").labels_N.tolist() == [-1, 1, -1]
    with pytest.raises(ConfigError, match=r"data\.positive 'd' is no label of t; its labels: 'a', 'b', 'c'"):
        read_tabular(path, positive="d")
    with pytest.raises(DataError, match=r"got a, b, c; data\.positive = 'a' sets one against all others"):
        read_tabular(path)
