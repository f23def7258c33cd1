"""Frames of pandas and tables of pyarrow as data, and that they become what a file of theirs would."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms.problems import SparseRows
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.api import make_problem
from saddlebag.launch.data.arrays import from_memory
from saddlebag.launch.data.tables import read_tabular

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS: dict[str, list[Any]] = {
    "age": [20, 35, 50, 65],
    "town": ["Rome", None, "Oslo", "Rome"],
    "pay": [1.5, float("nan"), 3.0, 4.0],
    "member": [True, False, True, True],
    "label": ["no", "yes", "yes", "no"],
}
PACKAGES = ["pandas", "pyarrow"]


def frame(package: str, columns: dict[str, list[Any]] | None = None) -> Any:
    module: Any = pytest.importorskip(package)
    return (module.DataFrame if package == "pandas" else module.table)(columns or COLUMNS)


def write(package: str, table: Any, path: Path) -> None:
    if package == "pandas":
        table.to_csv(path, index=False)
    else:
        importlib.import_module("pyarrow.csv").write_csv(table, str(path))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_frame_is_what_its_file_would_be(package: str, tmp_path: Path) -> None:
    table = frame(package)
    held = from_memory(table)
    write(
        package,
        frame(package, {**COLUMNS, "pay": [1.5, None, 3.0, 4.0], "member": ["True", "False", "True", "True"]}),
        path := tmp_path / "f.csv",
    )
    read = read_tabular(path)
    assert isinstance(held.rows, SparseRows)
    assert isinstance(read.rows, SparseRows)
    assert np.array_equal(held.rows.dense(), read.rows.dense())
    assert held.labels_N.tolist() == [-1, 1, 1, -1]
    assert held.columns["town"].tolist() == ["Rome", "", "Oslo", "Rome"]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_target_by_name_and_a_frame_for_each_worker(package: str) -> None:
    first, second = (
        frame(package, {name: values[part] for name, values in COLUMNS.items()}) for part in (slice(3), slice(3, 4))
    )
    data = from_memory([first, second], "age")
    assert [shard.tolist() for shard in data.shards] == [[0, 1, 2], [3]]
    assert data.labels_N.tolist() == [20, 35, 50, 65]
    assert make_problem("robust_logistic", data=[first, second], target="label").num_workers == 2


@pytest.mark.parametrize("package", PACKAGES)
def test_frames_that_do_not_fit(package: str) -> None:
    table, fewer = frame(package), frame(package, {"age": [1, 2], "label": [0, 1]})
    with pytest.raises(ConfigError, match=r"data\.target names no column: 'labels'; did you mean 'label'"):
        make_problem("robust_logistic", data=table, target="labels")
    with pytest.raises(DataError, match=r"data\[1\]: has columns age, label, data\[0\] has age, town"):
        from_memory([table, fewer])
    with pytest.raises(DataError, match=r"data\[1\]: column 'age' holds numbers in some frames"):
        from_memory([fewer, frame(package, {"age": ["a", "b"], "label": [0, 1]})])
    with pytest.raises(DataError, match=r"column 'age' holds 1e\+200, more than 1e\+50 in size"):
        from_memory(frame(package, {"age": [1e200, 1.0], "label": [0, 1]}))
    with pytest.raises(DataError, match="at least 1 of both is needed"):
        from_memory(frame(package, {"age": [], "label": []}))


def test_columns_of_objects_are_not_guessed() -> None:
    pandas: Any = pytest.importorskip("pandas")
    mixed = pandas.DataFrame({"a": pandas.Series([1, "x"], dtype=object), "label": [0, 1]})
    with pytest.raises(DataError, match=r"row 2: column 'a' holds numbers, and 'x'; make it numbers or text before"):
        from_memory(mixed)
    objects = pandas.DataFrame({"a": pandas.Series([1, 2], dtype=object), "label": [0, 1]})
    with pytest.raises(DataError, match=r"column 'a' holds numbers as objects; write frame\['a'\]\.astype\(float\)"):
        from_memory(objects)
    twice = pandas.DataFrame([[1, 2, 0], [3, 4, 1]], columns=["a", "a", "y"])
    with pytest.raises(DataError, match="data: column 'a' stands there 2 times"):
        from_memory(twice)
    kinds = {
        "whole": pandas.array([1, None, 3], dtype="Int64"),
        "group": pandas.Categorical(["b", "a", "b"]),
        "day": pandas.to_datetime(["2026-01-01", "2026-01-02", "2026-01-01"]),
        "y": [0, 1, 1],
    }
    data = from_memory(pandas.DataFrame(kinds))
    assert np.isnan(data.columns["whole"].astype(float)).tolist() == [False, True, False]
    assert data.columns["group"].tolist() == ["b", "a", "b"]
    assert data.rows.shape == (3, 1 + 2 + 2)


def test_columns_that_are_no_features() -> None:
    with pytest.raises(DataError, match=r"column 'a' is of type list<.*, which is no feature; leave it out with data\.select"):
        from_memory(frame("pyarrow", {"a": [[1], [2]], "y": [0, 1]}))


def test_a_target_needs_a_frame() -> None:
    with pytest.raises(ConfigError, match="target='y' names a column of a table or frame; data is tuple"):
        from_memory((np.eye(2), [0, 1]), "y")
