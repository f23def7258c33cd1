"""Reading data: published sets, every kind of malformed line, and a round trip."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlebag.algorithms.problems import DenseRows, SparseRows
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.rows import LARGEST, MAX_FEATURES, load_data, read_libsvm

SHARED = Path(__file__).parents[4] / "shared" / "data"


def write(folder: Path, content: bytes, name: str = "set.txt") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def published(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


def test_small_file(tmp_path: Path) -> None:
    data = load_data("libsvm", path=write(tmp_path, b"+1 1:0.5 3:-2e1\r\n\n-1\t2:1 \n  \n+1\n"))
    assert isinstance(data.rows, SparseRows)
    assert data.rows.dense().tolist() == [[0.5, 0, -20], [0, 1, 0], [0, 0, 0]]
    assert data.labels_N.tolist() == [1, -1, 1]
    assert data.name == "set"


@pytest.mark.parametrize(("low", "high"), [("-1", "+1"), ("0", "1"), ("1", "2"), ("-1.0", "1e0"), ("3", "7.5")])
def test_labels_become_signs(tmp_path: Path, low: str, high: str) -> None:
    path = write(tmp_path, f"{high} 1:1\n{low} 1:2\n{high} 1:3".encode())
    assert read_libsvm(path).labels_N.tolist() == [1, -1, 1]


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".xz", lzma.compress), (".gz", gzip.compress), (".bz2", bz2.compress), ("", bytes)]
)
def test_compressed_files(tmp_path: Path, suffix: str, compress: type[bytes]) -> None:
    data = read_libsvm(write(tmp_path, compress(b"1 1:1\n2 2:1\n"), f"set.txt{suffix}"))
    assert data.rows.shape == (2, 2)
    assert data.name == "set"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"one 1:1", "label must be a finite number, got 'one'"),
        (b"nan 1:1", "label must be a finite number, got 'nan'"),
        (b"1_0 1:1", "label must be a finite number, got '1_0'"),
        (b"1:1 2:1", "label must be a finite number, got '1:1'"),
        (b"1 5", "a feature must read index:value, got '5'"),
        (b"1 1:2:3", "a feature must read index:value, got '1:2:3'"),
        (b"1 1: 2", "value must be a finite number, got ''"),
        (b"1 :2", "index must be a whole number, got ''"),
        (b"1 1:1 2:x", "value must be a finite number, got 'x'"),
        (b"1 1:1 2:nan", "value must be a finite number, got 'nan'"),
        (b"1 1:1 2:-inf", "value must be a finite number, got '-inf'"),
        (b"1 1:1 2:1e999", "value must be a finite number, got '1e999'"),
        (b"1 1:1 7:1e300", r"value must be a number of size 1e\+50 at most, got '1e300' \(feature 7\)"),
        (b"1e300 1:1", r"label must be a number of size 1e\+50 at most, got '1e300'"),
        (b"1 1:1_0", "value must be a finite number, got '1_0'"),
        (b"1 1.5:1", "index must be a whole number, got '1.5'"),
        (b"1 1_0:1", "index must be a whole number, got '1_0'"),
        (b"1 1:1 qid:3", "index must be a whole number, got 'qid'"),
        (b"1 " + b"9" * 5000 + b":1", "index must be a whole number, got '9{30}...'"),
        (b"1 0:1", "indices count from 1, got 0; if the file counts from 0, give data.first_index = 0"),
        (b"1 -3:1", "indices count from 1, got -3"),
        (b"1 2:1 5:1 5:1", "index 5 stands twice in the row; data.repeated = "),
        (b"1 1:1 999999999999999999999:1", f"index 999999999999999999999 exceeds the width {MAX_FEATURES}"),
        (b"1 1:\xe9", "byte 0xe9 is no UTF-8; name its encoding"),
        (b"\xff\xfe1\x00", "byte 0xff is no UTF-8"),
        (b"1 1:\x001", "holds a zero byte"),
    ],
)
def test_malformed_lines(tmp_path: Path, line: bytes, reason: str) -> None:
    path = write(tmp_path, b"1 1:1\n-1 1:1\n\n" + line + b"\n1 bad\n")
    with pytest.raises(DataError, match=rf"set\.txt, line 4: {reason}") as caught:
        read_libsvm(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no rows; is the file empty"),
        (b"\n \n", "no rows; is the file empty"),
        (b"1\n-1\n", "no row has a feature"),
        (b"1 1:1\n1 2:1\n", "needs two different labels, got 1: 1"),
        (b"1,3 1:1\n2 1:1\n", r"row 1 has several labels, '1,3'; data\.positive = "),
    ],
)
def test_unusable_files(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=rf"set\.txt: .*{reason}"):
        read_libsvm(write(tmp_path, content))


def test_unreadable_files(tmp_path: Path) -> None:
    whole = lzma.compress(b"1 1:1\n" * 10_000)
    bad = {
        "missing.txt": "No such file",
        "cut.xz": "cannot be read",
        "cut.gz": "cannot be read",
        "flipped.gz": "cannot be read",
    }
    write(tmp_path, whole[: len(whole) // 2], "cut.xz")
    zipped = gzip.compress(b"1 1:1\n" * 10)
    write(tmp_path, zipped[:-9], "cut.gz")
    write(tmp_path, zipped[:12] + b"\xff\xff\xff" + zipped[15:], "flipped.gz")
    for name, reason in bad.items():
        with pytest.raises(DataError, match=rf"{name}: .*{reason}"):
            read_libsvm(tmp_path / name)
    with pytest.raises(DataError, match="Is a directory"):
        read_libsvm(tmp_path)
    with pytest.raises(DataError, match="needs two different labels, got 1"):  # what is packed, the content says
        read_libsvm(write(tmp_path, whole, "unnamed"))


def test_width(tmp_path: Path) -> None:
    path = write(tmp_path, b"1 2:1\n-1 1:1\n")
    assert read_libsvm(path, num_features=5).rows.shape == (2, 5)
    with pytest.raises(DataError, match="line 1: index 2 exceeds the width 1"):
        read_libsvm(path, num_features=1)
    with pytest.raises(ConfigError, match="num_features must lie in"):
        read_libsvm(path, num_features=0)


numbers = st.floats(-LARGEST, LARGEST)
features = st.dictionaries(st.integers(1, 50), numbers, max_size=6)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), features), min_size=1, max_size=8))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[bool, dict[int, float]]]) -> None:
    lines = [(True, {1: 1.0}), (False, {}), *lines]  # two labels and a feature
    text = "".join(
        " ".join(["+1" if sign else "-1", *(f"{index}:{row[index]!r}" for index in sorted(row))]) + "\n" for sign, row in lines
    )
    data = read_libsvm(write(tmp_path_factory.getbasetemp(), text.encode()), num_features=50)
    expected_NF = np.zeros((len(lines), 50))
    for dense_F, (_, row) in zip(expected_NF, lines, strict=True):
        dense_F[np.array(list(row), np.int64) - 1] = list(row.values())
    assert isinstance(data.rows, SparseRows)
    assert np.array_equal(data.rows.dense(), expected_NF)
    assert data.labels_N.tolist() == [1.0 if sign else -1.0 for sign, _ in lines]


@settings(deadline=None)  # milliseconds are the machine's
@given(st.binary(max_size=60))
def test_any_bytes_parse_or_say_why(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp(), b"1 1:1\n-1 1:1\n" + content, "any.txt")
    with contextlib.suppress(DataError):  # anything else fails the test
        read_libsvm(path)


@pytest.mark.parametrize(
    ("name", "width", "shape", "positives"),
    [
        ("a9a/a9a.xz", None, (32_561, 123), 7_841),
        ("a9a/a9a.t.xz", 123, (16_281, 123), 3_846),
        ("mushrooms/mushrooms.xz", None, (8_124, 112), 4_208),
    ],
)
def test_published_sets(name: str, width: int | None, shape: tuple[int, int], positives: int) -> None:
    data = load_data("libsvm", path=published(name), num_features=width)
    assert isinstance(data.rows, SparseRows)
    assert data.rows.shape == shape
    assert np.count_nonzero(data.labels_N == 1.0) == positives
    assert set(data.rows.values_E.tolist()) == {1.0}
    assert data.name in name
    if data.name == "mushrooms":
        assert set(np.diff(data.rows.starts).tolist()) == {21}


def test_breast_cancer() -> None:
    data = load_data("breast_cancer")
    assert isinstance(data.rows, DenseRows)
    assert data.rows.shape == (569, 30)
    assert np.count_nonzero(data.labels_N == 1.0) == 357
    assert data.name == "breast_cancer"


def test_bad_requests() -> None:
    with pytest.raises(ConfigError, match="unknown data source 'iris'; known: breast_cancer, diabetes, libsvm"):
        load_data("iris")
    with pytest.raises(ConfigError, match="'libsvm' needs a path"):
        load_data("libsvm")
    with pytest.raises(ConfigError, match="takes neither path nor num_features"):
        load_data("breast_cancer", path="x")
