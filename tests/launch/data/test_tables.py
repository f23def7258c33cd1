"""Tables: how columns become features, every kind of malformed row, and the published Adult files."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest

from saddlebag.algorithms.problems import SparseRows
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.readers import build_data
from saddlebag.launch.data.tables import Encoding, Table, is_table, read_table_file, read_tabular
from saddlebag.launch.recipe.sections import DataSection

SHARED = Path(__file__).parents[4] / "shared" / "data"
CSV = b"""age, town, note, label
20, Rome, "a, b", no
40, Oslo, c, yes

?, ?, c, no
60, Rome, , yes
"""


def write(folder: Path, content: bytes = CSV, name: str = "people.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def published(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


def dense(rows: object) -> list[list[float]]:
    assert isinstance(rows, SparseRows)
    found: list[list[float]] = rows.dense().tolist()
    return found


def test_numbers_are_standardised_and_text_is_one_hot(tmp_path: Path) -> None:
    data = read_tabular(write(tmp_path), drop=["note"])
    unit = 20 / np.std([20, 40, 60])
    assert np.allclose(dense(data.rows), [[-unit, 0, 1], [0, 1, 0], [0, 0, 0], [unit, 0, 1]])  # age, Oslo, Rome
    assert data.labels_N.tolist() == [-1, 1, -1, 1]
    assert data.name == "people"
    assert data.columns["town"].tolist() == ["Rome", "Oslo", "", "Rome"]
    assert data.columns["note"].tolist() == ["a, b", "c", "c", ""]  # dropped from the features, there for groups
    assert np.isnan(data.columns["age"].astype(float)).tolist() == [False, False, True, False]


def test_a_numeric_target_is_regressed_on_and_may_be_any_column(tmp_path: Path) -> None:
    data = read_tabular(write(tmp_path, b"y,x\n1.5,1\n2,0\n-3,1\n"), target="y")
    assert data.labels_N.tolist() == [1.5, 2.0, -3.0]
    assert read_tabular(write(tmp_path, b"y,x\n1,7\n2,0\n1,1\n"), target="y").labels_N.tolist() == [-1, 1, -1]


def test_an_encoding_is_fitted_once_and_applied_to_others(tmp_path: Path) -> None:
    encoding = Encoding.fit(read_table_file(write(tmp_path)), drop=["note"])
    other = read_table_file(write(tmp_path, b"label,town,age,note\nyes,Paris,50,x\nno,Oslo,40,\n", "other.csv"))
    data = encoding.apply(other)
    assert np.allclose(dense(data.rows), [[10 / np.std([20, 40, 60]), 0, 0], [0, 1, 0]])  # Paris was never seen
    assert data.labels_N.tolist() == [1, -1]
    with pytest.raises(DataError, match="column 'town' is missing"):
        encoding.apply(read_table_file(write(tmp_path, b"label,age\nyes,50\n", "less.csv")))


def test_compressed_and_bundled(tmp_path: Path) -> None:
    path = write(tmp_path, lzma.compress(CSV), "people.csv.xz")
    assert is_table(path)
    assert read_table_file(path).name == "people"
    assert len(build_data("diabetes").labels_N) == 442
    assert not is_table(tmp_path / "a9a.xz")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no rows; is the file empty"),
        (b"a,b\n", "no rows; is the file empty"),
        (b"a,b\n1,2\n1\n", "line 3: 2 values are expected, got 1"),
        (b"a,b\n1,2\n\nx,2\n", r"line 4: column 'a' holds numbers, and 'x' \(1 such values"),
        (b"a,b\n1,2\ninf,2\n", "line 3: column 'a' holds 'inf', more than"),
        (b"a,b\n1,2\n-1e300,2\n", r"line 3: column 'a' holds '-1e300', more than 1e\+50"),
        (b"a,b\n1,2\n1_0,2\n", "line 3: column 'a' holds numbers, and '1_0'"),
        (b"a,a\n1,2\n", r"line 1: column 2 has the name 'a', as column 1 has; .*data\.rename"),
        (b'a,b\n"1,2\n', "line 2: unexpected end of data"),
        (b"a,b\n\xff,2\n", "line 2: byte 0xff is no UTF-8; name its encoding"),
        (b"a,b\n1,x\n2,\n", "column 'b' holds the labels, and 1 are missing"),
        (b"a,b\n1,x\n2,y\n3,z\n", "needs two values or numbers, got x, y, z"),
        (b"b,c\n,x\n,y\n", "the columns give no feature"),
    ],
)
def test_malformed_files(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_tabular(write(tmp_path, content))


def test_settings_that_do_not_fit(tmp_path: Path) -> None:
    path = str(write(tmp_path))
    with pytest.raises(
        ConfigError, match=r"data\.target names no column: 'labels'; did you mean 'label'\? known: age, label, note, town"
    ):
        read_tabular(path, target="labels")
    with pytest.raises(ConfigError, match=r"data\.drop names no column: 'Age'"):
        read_tabular(path, drop=["Age"])
    with pytest.raises(ConfigError, match=r"data\.target and data\.drop are for tables"):
        build_data("breast_cancer", target="label")
    with pytest.raises(ConfigError, match=r"num_features is for LIBSVM files, got 3 for the table"):
        build_data(path, 3)
    with pytest.raises(ConfigError, match=r"data\.drop must be a list of column names, got \[1\]"):
        DataSection(source=path, drop=[1])
    with pytest.raises(DataError, match="cannot be read"):
        read_tabular(tmp_path / "no.csv")


def test_what_is_read_counts_in_the_fingerprint(tmp_path: Path) -> None:
    path = str(write(tmp_path))
    plain, dropped = DataSection(source=path), DataSection(source=path, drop=["note"])
    assert plain.fingerprint() != dropped.fingerprint()
    assert set(plain.fingerprint()) == {"source", "split", "sha256"}


def test_adult() -> None:
    """The figures of the data set's own description, and a9a, which is the same people."""
    data = read_tabular(published("adult/adult.data.xz"))
    assert data.rows.shape == (32_561, 104)
    assert np.count_nonzero(data.labels_N == 1) == 7_841
    assert np.count_nonzero(data.columns["sex"] == "Female") == 10_771
    assert np.count_nonzero(data.columns["occupation"] == "") == 1_843
    assert "fnlwgt" in data.columns
    a9a = build_data(str(published("a9a/a9a.xz")), 123)
    assert np.array_equal(data.labels_N, a9a.labels_N)


def test_adult_test_file() -> None:
    table = read_table_file(published("adult/adult.test.xz"))
    assert len(table.columns["income"]) == 16_281
    assert set(np.unique(table.columns["income"])) == {"<=50K", ">50K"}


def test_a_column_of_one_value_is_not_scaled_by_rounding() -> None:
    """The mean of three times 0.1 is not 0.1, so the computed deviation is tiny and positive."""
    value_N = np.full(3, 0.1)
    assert value_N.std() > 0
    table = Table("t", {"a": value_N, "gone": np.full(3, np.nan), "b": np.arange(3.0), "label": np.array(["x", "y", "y"])})
    encoding = Encoding.fit(table)
    assert encoding.scales["a"] == (pytest.approx(0.1), 0.0)
    assert encoding.scales["gone"] == (0.0, 0.0)
    assert encoding.scales["b"] == (1.0, pytest.approx((2 / 3) ** 0.5))


def test_a_text_column_with_a_million_values_is_the_last_that_is_a_feature() -> None:
    """2^20 features are taken, one more is refused: a column that names its rows teaches nothing."""
    text_N = np.array([f"{n:07d}" for n in range(2**20 + 1)])
    label_N = np.where(np.arange(len(text_N)) % 2, "x", "y")
    assert len(Encoding.fit(Table("t", {"id": text_N[1:], "label": label_N[1:]})).levels["id"]) == 2**20
    with pytest.raises(DataError, match=r"the columns give no feature, or more than 1048576; use data\.drop"):
        Encoding.fit(Table("t", {"id": text_N, "label": label_N}))


def test_a_column_that_was_constant_when_fitted_says_nothing_of_other_tables() -> None:
    label = np.array(["x", "y"])
    encoding = Encoding.fit(Table("first", {"a": np.full(2, 3.0), "b": np.arange(2.0), "label": label}))
    other = encoding.apply(Table("second", {"a": np.array([3.0, 700.0]), "b": np.arange(2.0), "label": label}))
    assert dense(other.rows) == [[0.0, -1.0], [0.0, 1.0]]


def test_one_label_among_several_is_the_positive_one() -> None:
    table = Table("t", {"a": np.arange(3.0), "label": np.array(["red", "green", "blue"])})
    assert Encoding.fit(table, positive="green").apply(table).labels_N.tolist() == [-1, 1, -1]
