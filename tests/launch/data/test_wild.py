"""Files as they are found: each is read right, or refused with the option that reads it; none is read wrongly."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import lzma
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zstandard

from saddlebag.algorithms.problems import SparseRows
from saddlebag.errors import SaddlebagError
from saddlebag.launch.data.readers import read_rows
from saddlebag.launch.data.table_file import read_table_file
from saddlebag.launch.recipe.sections import DataSection

if TYPE_CHECKING:
    from pathlib import Path

AGE = [20, 35, 50, 65, 41, 28]
SEX = ["F", "M", "F", "F", "M", "M"]
PAY = [35000, 1200, 64000, 8000, 51000, 990]
LABEL = [0, 1, 1, 1, 0, 0]
TOWN = ["Zürich", "Genève", "Zürich", "Bern", "Bern", "Genève"]


def csv(head: str = "age,sex,pay,y", *columns: Any, end: str = "\n", mark: str = ",") -> str:
    rows = zip(*(columns or (AGE, SEX, PAY, LABEL)), strict=True)
    return head.replace(",", mark) + end + "".join(mark.join(map(str, row)) + end for row in rows)


def svm(rows: str = "1 1:0.5 3:2\n-1 2:1\n1 1:-1 2:4\n") -> str:
    return rows


PAID = {"age": AGE, "sex": SEX, "pay": PAY, "y": LABEL}
"""What a table holds, by column: numbers, text, None where missing."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A file, what it holds, and the option it needs (with the words that name it in the refusal without it)."""

    name: str
    content: str | bytes
    holds: dict[str, list[Any]]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    hint: str = ""


GROUPED = [f'"{pay:,}"' for pay in PAY]
TABLES = (
    Case("plain.csv", csv(), PAID),
    Case("UPPER.CSV", csv(), PAID),
    Case("tabs.tsv", csv(mark="\t"), PAID),
    Case("windows.csv", csv(end="\r\n"), PAID),
    Case("old_mac.csv", csv(end="\r"), PAID),
    Case("no_last_end.csv", csv().rstrip("\n"), PAID),
    Case("bom.csv", b"\xef\xbb\xbf" + csv().encode(), PAID),
    Case("bom.csv.gz", gzip.compress(b"\xef\xbb\xbf" + csv().encode()), PAID),
    Case("packed.csv.zst", zstandard.compress(csv().encode()), PAID),
    Case("named_gz_but_plain.csv.gz", csv(), PAID),
    Case("packed_but_named_plain.csv", bz2.compress(csv().encode()), PAID),
    Case("two_members.csv.xz", lzma.compress(csv().encode()[:20]) + lzma.compress(csv().encode()[20:]), PAID),
    Case("blanks.csv", csv("age, sex , pay,y", AGE, [f" {sex} " for sex in SEX], PAY, [f" {y} " for y in LABEL]), PAID),
    Case("quoted.csv", csv('"age","sex","pay","y"', AGE, [f'"{sex}"' for sex in SEX], PAY, [f'"{y}" ' for y in LABEL]), PAID),
    Case("export.data", csv(), PAID, {"format": "csv"}, r'data\.format = "csv"'),
    Case("aligned.dat", csv().replace(",", "   "), PAID, {"format": "csv", "delimiter": " "}, r"data\.format = "),
    Case("tilde.csv", csv(mark="~"), PAID, {"delimiter": "~"}, r"data\.delimiter"),
    Case("excel.csv", "sep=;\n" + csv(mark=";"), PAID, {"delimiter": ";", "comment": "sep="}, r'data\.comment = "sep="'),
    Case(
        "row_names.csv",
        csv("age,pay,y", range(1, 7), AGE, PAY, LABEL),
        {"rows": list(range(1, 7)), "age": AGE, "pay": PAY, "y": LABEL},
        {"header": "short"},
        r'data\.header = "short"',
    ),
    Case(
        "headless_with_text.csv",
        csv().split("\n", 1)[1],
        PAID,
        {"columns": ["age", "sex", "pay", "y"]},
        r"data\.columns = ",
    ),
    Case("minus.csv", csv("t,y", [f"\u2212{age}" for age in AGE], LABEL), {"t": [-age for age in AGE], "y": LABEL}),
    Case(
        "narrow_blanks.csv",
        csv("age,pay,y", AGE, [f"{pay:,}".replace(",", "\u202f") for pay in PAY], LABEL),
        {"age": AGE, "pay": PAY, "y": LABEL},
        {"thousands": "\u202f"},
        r'data\.thousands = "\\u202f"',
    ),
    Case(
        "swiss.csv",
        csv("age,pay,y", AGE, [f"{pay + 1000:,}".replace(",", "'") for pay in PAY], LABEL),
        {"age": AGE, "pay": [pay + 1000 for pay in PAY], "y": LABEL},
        {"thousands": "'"},
        r"data\.thousands = \"'\"",
    ),
    Case(
        "weka.arff",
        "@relation people\n@attribute age numeric\n@data\n" + csv("a,b", AGE, LABEL).split("\n", 1)[1],
        {"age": AGE, "y": LABEL},
        {"format": "csv", "comment": "@", "columns": ["age", "y"]},
        r'ARFF.* data\.comment = "@"',
    ),
    Case(
        "dumped.csv",
        csv("age,pay,y", AGE, [*PAY[:5], "\\N"], LABEL),
        {"age": AGE, "pay": [*PAY[:5], None], "y": LABEL},
        {"missing": ["\\N"]},
        r"data\.missing",
    ),
    Case("semicolon.csv", csv(mark=";"), PAID, {"delimiter": ";"}, r'data\.delimiter = ";"'),
    Case("tab_in_csv.csv", csv(mark="\t"), PAID, {"delimiter": "\t"}, r'data\.delimiter = "\\t"'),
    Case("remark.csv", "# exported 2026\n" + csv(), PAID, {"comment": "#"}, r'data\.comment = "#"'),
    Case("remark_within.csv", csv() + "| end, of file\n", PAID, {"comment": "|"}, r'data\.comment = "\|"'),
    Case(
        "headless.csv",
        csv("20,0,1,1", AGE, LABEL, PAY, LABEL).split("\n", 1)[1],
        {"age": AGE, "a": LABEL, "pay": PAY, "y": LABEL},
        {"columns": ["age", "a", "pay", "y"]},
        r"data\.columns = ",
    ),
    Case("years.csv", csv("1990,1991,y", AGE, PAY, LABEL), {"1990": AGE, "1991": PAY, "y": LABEL}),
    Case("counted.csv", csv("0,1,2", AGE, PAY, LABEL), {"0": AGE, "1": PAY, "2": LABEL}),
    Case(
        "all_years.csv",
        csv("1990,1991,1995", AGE, PAY, LABEL),
        {"1990": AGE, "1991": PAY, "1995": LABEL},
        {"header": "yes"},
        "data.header",
    ),
    Case(
        "na_first.csv",
        csv("age,pay,y", AGE, ["NA", *PAY[1:]], LABEL),
        {"age": AGE, "pay": [None, *PAY[1:]], "y": LABEL},
        {"missing": ["NA"]},
        r'data\.missing = \["NA"',
    ),
    Case(
        "na_later.csv",
        csv("age,pay,y", AGE, [*PAY[:3], "NULL", *PAY[4:]], LABEL),
        {"age": AGE, "pay": [*PAY[:3], None, *PAY[4:]], "y": LABEL},
        {"missing": ["NULL"]},
        r'data\.missing = \["NULL"',
    ),
    Case(
        "nan_first.csv",
        csv("age,pay,y", AGE, ["nan", *PAY[1:]], LABEL),
        {"age": AGE, "pay": [None, *PAY[1:]], "y": LABEL},
        {"missing": ["nan"]},
        r'data\.missing = \["nan"',
    ),
    Case(
        "dash.csv",
        csv("age,pay,y", AGE, ["-", *PAY[1:]], LABEL),
        {"age": AGE, "pay": [None, *PAY[1:]], "y": LABEL},
        {"missing": ["-"]},
        r'data\.missing = \["-"',
    ),
    Case("empty_first.csv", csv("age,pay,y", AGE, ["", *PAY[1:]], LABEL), {"age": AGE, "pay": [None, *PAY[1:]], "y": LABEL}),
    Case("question.csv", csv("age,pay,y", AGE, [*PAY[:5], "?"], LABEL), {"age": AGE, "pay": [*PAY[:5], None], "y": LABEL}),
    Case(
        "thousands.csv",
        csv("age,pay,y", AGE, [f'"{pay + 1000:,}"' for pay in PAY], LABEL),
        {"age": AGE, "pay": [pay + 1000 for pay in PAY], "y": LABEL},
        {"thousands": ","},
        r'data\.thousands = ","',
    ),
    Case(
        "some_thousands.csv",
        csv("age,pay,y", AGE, GROUPED, LABEL),
        {"age": AGE, "pay": PAY, "y": LABEL},
        {"thousands": ","},
        r'data\.thousands = ","',
    ),
    Case(
        "comma_decimals.csv",
        csv("age;pay;y", AGE, [f"{pay},5" for pay in PAY], LABEL, mark=";"),
        {"age": AGE, "pay": [pay + 0.5 for pay in PAY], "y": LABEL},
        {"delimiter": ";", "decimal": ","},
        r'data\.delimiter = ";"',
    ),
    Case(
        "german.csv",
        csv("age;pay;y", AGE, [f"{pay:,}".replace(",", ".") + ",5" for pay in PAY], LABEL, mark=";"),
        {"age": AGE, "pay": [pay + 0.5 for pay in PAY], "y": LABEL},
        {"delimiter": ";", "decimal": ",", "thousands": "."},
        "",
    ),
    Case(
        "zip.csv",
        csv("age,zip,y", AGE, ["01234", "K1A 0B1"] * 3, LABEL),
        {"age": AGE, "zip": ["01234", "K1A 0B1"] * 3, "y": LABEL},
        {"text": ["zip"]},
        r'data\.text = \["zip"\]',
    ),
    Case(
        "children.csv",
        csv("age,kids,y", AGE, ["3+", "0", "1", "2", "1", "3+"], LABEL),
        {"age": AGE, "kids": ["3+", "0", "1", "2", "1", "3+"], "y": LABEL},
        {"text": ["kids"]},
        r'data\.text = \["kids"\]',
    ),
    Case(
        "dollars.csv",
        csv("age,pay,y", AGE, [f"${pay}" for pay in PAY], LABEL),
        {"age": AGE, "pay": [f"${pay}" for pay in PAY], "y": LABEL},
        {"text": ["pay"]},
        r"units are not read",
    ),
    Case(
        "duplicate.csv",
        csv("age,pay,age,y", AGE, PAY, AGE, LABEL),
        {"age": AGE, "pay": PAY, "age2": AGE, "y": LABEL},
        {"rename": {"#3": "age2"}},
        r'data\.rename = \{"#3" = ',
    ),
    Case(
        "pandas_index.csv",
        csv(",age,y", range(6), AGE, LABEL),
        {"id": list(range(6)), "age": AGE, "y": LABEL},
        {"rename": {"#1": "id"}},
        r'data\.rename = \{"#1" = ',
    ),
    Case(
        "wide.csv",
        csv("note,age,junk,y", ["x"] * 6, AGE, ["1", "b"] * 3, LABEL),
        {"age": AGE, "y": LABEL},
        {"select": ["age", "y"]},
        "junk",
    ),
    Case(
        "latin1.csv",
        csv("age,town,y", AGE, TOWN, LABEL).encode("latin-1"),
        {"age": AGE, "town": TOWN, "y": LABEL},
        {"encoding": "latin-1"},
        r'data\.encoding = "latin-1"',
    ),
    Case(
        "windows1252.csv",
        csv("age,town,y", AGE, [f"“{town}”" for town in TOWN], LABEL).encode("cp1252"),
        {"age": AGE, "town": [f"“{town}”" for town in TOWN], "y": LABEL},
        {"encoding": "cp1252"},
        r'"cp1252"',
    ),
    Case(
        "utf16.csv",
        csv("age,town,y", AGE, TOWN, LABEL).encode("utf-16"),
        {"age": AGE, "town": TOWN, "y": LABEL},
        {"encoding": "utf-16"},
        r'data\.encoding = "utf-16"',
    ),
    Case("utf16le.csv", csv().encode("utf-16-le"), PAID, {"encoding": "utf-16-le"}, r'data\.encoding = "utf-16-le"'),
    Case(
        "lines.csv",
        csv("age,note,y", AGE, ['"first\nsecond"', "a", "b", '"c, ""d"""', "e", "f"], LABEL),
        {"age": AGE, "note": ["first\nsecond", "a", "b", 'c, "d"', "e", "f"], "y": LABEL},
    ),
    Case(
        "inches.csv",
        csv("age,note,y", AGE, ['"6 inch', *"abcde"], LABEL),
        {"age": AGE, "note": ['"6 inch', *"abcde"], "y": LABEL},
        {"quotes": "none"},
        r'data\.quotes = "none"',
    ),
    Case("pipes.csv", csv("note,age,y", ["|x", "x"] * 3, AGE, LABEL), {"note": ["|x", "x"] * 3, "age": AGE, "y": LABEL}),
    Case(
        "truth.csv",
        csv("age,member,y", AGE, ["True", "False"] * 3, LABEL),
        {"age": AGE, "member": ["True", "False"] * 3, "y": LABEL},
    ),
)
ROWS = [[0.5, 0, 2], [0, 1, 0], [-1, 4, 0]]
LIBSVM = (
    Case("plain.svm", svm(), {"rows": ROWS, "labels": [1, -1, 1]}),
    Case("bom.svm", b"\xef\xbb\xbf" + svm().encode(), {"rows": ROWS, "labels": [1, -1, 1]}),
    Case("remarks.svm", "# made by a tool\n" + svm().replace("\n", " # row\n"), {"rows": ROWS, "labels": [1, -1, 1]}),
    Case("queries.svm", "1 qid:1 1:0.5 3:2\n-1 qid:1 2:1\n1 qid:2 1:-1 2:4\n", {"rows": ROWS, "labels": [1, -1, 1]}),
    Case("unsorted.svm", "1 3:2 1:0.5\n-1 2:1\n1 2:4 1:-1\n", {"rows": ROWS, "labels": [1, -1, 1]}),
    Case(
        "from_zero.svm",
        "1 0:0.5 2:2\n-1 1:1\n1 0:-1 1:4\n",
        {"rows": ROWS, "labels": [1, -1, 1]},
        {"first_index": 0},
        r"data\.first_index = 0",
    ),
    Case(
        "summed.svm",
        "1 1:0.2 1:0.3 3:2\n-1 2:1\n1 1:-1 2:4\n",
        {"rows": ROWS, "labels": [1, -1, 1]},
        {"repeated": "sum"},
        r'data\.repeated = "sum"',
    ),
    Case(
        "last.svm",
        "1 1:7 3:2 1:0.5\n-1 2:1\n1 1:-1 2:4\n",
        {"rows": ROWS, "labels": [1, -1, 1]},
        {"repeated": "last"},
        r'"last"',
    ),
    Case(
        "several.svm",
        "1,3 1:0.5 3:2\n2 2:1\n3 1:-1 2:4\n",
        {"rows": ROWS, "labels": [1, -1, 1]},
        {"positive": "3"},
        r'data\.positive = "',
    ),
    Case("classes.svm", "0 1:0.5 3:2\n1 2:1\n2 1:-1 2:4\n", {"rows": ROWS, "labels": [-1, -1, 1]}, {"positive": "2"}),
    Case("targets.svm", "0.5 1:0.5 3:2\n1.25 2:1\n-7 1:-1 2:4\n", {"rows": ROWS, "labels": [0.5, 1.25, -7]}),
    Case("two_targets.svm", "5 1:0.5 3:2\n7 2:1\n5 1:-1 2:4\n", {"rows": ROWS, "labels": [5, 7, 5]}, {"labels": "numbers"}),
)


def section(case: Case, folder: Path, **options: Any) -> DataSection:
    path = folder / case.name
    path.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    return DataSection(source=str(path), **options)


def test_there_are_forty_and_more() -> None:
    assert len(TABLES) + len(LIBSVM) >= 40


@pytest.mark.parametrize("case", TABLES, ids=lambda case: case.name)
def test_a_table_holds_what_was_written(case: Case, tmp_path: Path) -> None:
    data = read_rows(section(case, tmp_path, target=list(case.holds)[-1], **case.options))
    assert list(data.columns) == list(case.holds)
    for name, values in case.holds.items():
        if any(isinstance(value, str) for value in values):
            assert data.columns[name].tolist() == values
        else:
            assert np.array_equal(data.columns[name].astype(float), np.array(values, float), equal_nan=True)
    assert data.labels_N.tolist() == [2.0 * label - 1.0 for label in LABEL]
    assert str(len(LABEL)) in data.notes[0]


@pytest.mark.parametrize("case", [case for case in TABLES if case.options], ids=lambda case: case.name)
def test_without_its_option_a_table_is_refused_by_its_name(case: Case, tmp_path: Path) -> None:
    with pytest.raises(SaddlebagError) as refused:
        read_rows(section(case, tmp_path))
    assert re.search(case.hint, str(refused.value))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("case", LIBSVM, ids=lambda case: case.name)
def test_libsvm_text_holds_what_was_written(case: Case, tmp_path: Path) -> None:
    data = read_rows(section(case, tmp_path, **case.options))
    assert isinstance(data.rows, SparseRows)
    assert data.rows.dense().tolist() == case.holds["rows"]
    assert data.labels_N.tolist() == case.holds["labels"]


@pytest.mark.parametrize("case", [case for case in LIBSVM if case.hint], ids=lambda case: case.name)
def test_without_its_option_libsvm_text_is_refused_by_its_name(case: Case, tmp_path: Path) -> None:
    with pytest.raises(SaddlebagError, match=case.hint):
        read_rows(section(case, tmp_path))


def test_what_is_missing_or_left_out_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("# one\nage,town,y\n1,?,0\nNA,,1\n# two\n3,Bern,1\n")
    table = read_table_file(path, DataSection(source=str(path), comment="#", missing=["NA", "?"]))
    assert table.notes == (
        "t.csv: 3 rows; numbers: age, y; text: town (2 values)",
        "t.csv: missing values: 1 in age (NA), 2 in town (empty, ?)",
        "t.csv: 2 lines that begin with '#' left out",
    )


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("breast_cancer", {"missing": ["NA"]}, r"data\.missing does not apply: 'breast_cancer' is a bundled set"),
        ("a.csv", {"first_index": 0}, r"data\.first_index does not apply: .* is a table$"),
        ("a.csv", {"label_column": "y"}, r"data\.label_column does not apply: .* is a table; there it is data\.target$"),
        ("a.svm", {"missing": ["NA"]}, r"data\.missing does not apply: .* LIBSVM"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(source: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(SaddlebagError, match=words):
        read_rows(DataSection(source=source, **options))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            [f"u{row}" for row in range(30)],
            "'a' has a value of its own in every row; if it names the rows, data.drop = [\"a\"]",
        ),
        (["Yes", "no", " yes"] * 10, "'a' holds 'Yes' and 'yes', read as two values"),
        ([""] * 30, "'a' holds no value; data.drop = [\"a\"] leaves it out"),
        ([f"u{row}" for row in range(3)], ""),
        (["yes", "no", "maybe"] * 10, ""),
    ],
)
def test_text_that_is_hardly_meant_is_remarked(tmp_path: Path, values: list[str], words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f"{value},{row % 2}\n" for row, value in enumerate(values)))
    remarks = [note for note in read_table_file(path, DataSection(source=str(path))).notes if "'a'" in note]
    assert [words in remark for remark in remarks] == [True] * bool(words)


def test_a_bad_column_that_is_dropped_does_no_harm(tmp_path: Path) -> None:
    """It was typed before it was dropped."""
    path = tmp_path / "t.csv"
    path.write_text("age,bad,y\n1,NA,0\n2,7,1\n")
    data = read_rows(DataSection(source=str(path), drop=["bad"]))
    assert data.rows.shape == (2, 1)
    assert data.columns["bad"].tolist() == ["NA", "7"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "a pointer of Git LFS; fetch the file itself"),
        (b"<!DOCTYPE html><html>404</html>", "a page of HTML"),
        (b'{"age": 20, "y": 1}\n', "seems to hold JSON; save it as CSV"),
        (b"1,1:20,2:3\n", "stand apart by blanks"),
    ],
)
def test_what_is_something_else_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(SaddlebagError, match=words):
        read_rows(DataSection(source=str(tmp_path / "file")))


def test_zeros_in_front_of_numbers_are_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("zip,age,y\n01234,7,0\n90210,8,1\n")
    told = read_table_file(path, DataSection(source=str(path))).notes
    assert told[1] == "t.csv: 'zip' has values such as '01234', read as numbers; if they are names, give data.text = [\"zip\"]"
    assert len(read_table_file(path, DataSection(source=str(path), text=["zip"])).notes) == 1
