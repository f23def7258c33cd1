"""Tables of labelled rows: CSV files with a header, and the UCI Adult files, plain or compressed.

Shapes: N = rows, C = columns, F = features.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.problems import Dataset, SparseRows
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.rows import LARGEST, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from saddlebag.compression.payload import Vector

__all__ = ["Encoding", "Table", "is_table", "read_table_file", "read_tabular"]

ADULT = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)
"""The columns of the UCI Adult files, which have no header (Becker, Kohavi 1996)."""

_ADULT_FILES = ("adult.data", "adult.test")
_ADULT_DROPS = ("fnlwgt",)  # a sampling weight of the census, no property of a person
_COMPRESSED = (".xz", ".gz", ".bz2")
_MISSING = ("?", "")
_QUOTED = 30
_MAX_FEATURES = 1 << 20  # one-hot features of a text column with a value for each row would be no model


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A file as it is.

    Attributes:
        name: of the file, without suffixes.
        columns: name -> text ("" where missing), or float64 (NaN where missing); (N,) each.
    """

    name: str
    columns: dict[str, npt.NDArray[np.generic]]


def _stem(path: Path) -> str:
    return path.name.removesuffix(path.suffix) if path.suffix in _COMPRESSED else path.name


def is_table(path: str | Path) -> bool:
    """Whether a path names a CSV file or one of Adult's, compressed or not."""
    stem = _stem(Path(path))
    return stem.endswith(".csv") or stem in _ADULT_FILES


def read_table_file(path: str | Path) -> Table:
    """Read comma-separated rows; `?` and nothing mean a missing value; blank lines are skipped.

    The first line names the columns, except in Adult's files, whose columns are known. A column whose first known value is
    a number holds numbers throughout.

    Raises:
        DataError: file, line and reason.
    """
    path = Path(path)
    adult = _stem(path) in _ADULT_FILES
    rows = _rows(path, adult)
    header = list(ADULT) if adult else _header(path, rows)
    texts: list[list[str]] = [[] for _ in header]
    numbers: list[int] = []
    for number, row in rows:
        if len(row) != len(header):
            raise DataError(f"{path}, line {number}: {len(header)} values are expected, got {len(row)}")
        numbers.append(number)
        for column, text in zip(texts, row, strict=True):
            column.append("" if text in _MISSING else text)
    if not numbers:
        raise DataError(f"{path}: no rows; is the file empty?")
    columns = {name: _typed(path, name, column, numbers) for name, column in zip(header, texts, strict=True)}
    return Table(_stem(path).split(".")[0] or path.name, columns)


def _rows(path: Path, adult: bool) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file with their line numbers."""
    for number, line in enumerate(lines_of(path), 1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise DataError(f"{path}, line {number}: not UTF-8 text; is the file compressed? Then name it .xz or .gz") from None
        if not text or (adult and text.startswith("|")):  # adult.test opens with a remark
            continue
        try:
            row = next(csv.reader([text], skipinitialspace=True, strict=True))
        except csv.Error as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        if adult and row:
            row[-1] = row[-1].removesuffix(".")  # the labels of adult.test
        yield number, [value.strip() for value in row]


def _header(path: Path, rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    _, header = next(rows, (0, []))
    if not header:
        raise DataError(f"{path}: no rows; is the file empty?")
    if "" in header or len(set(header)) < len(header):
        raise DataError(f"{path}, line 1: the header must give each column a name of its own, got {','.join(header)[:80]!r}")
    return header


def _typed(path: Path, name: str, column: list[str], numbers: Sequence[int]) -> npt.NDArray[np.generic]:
    first = next((text for text in column if text), "")
    if _number(first) is None:
        return np.array(column, np.str_)
    values = np.empty(len(column))
    for row, text in enumerate(column):
        value = _number(text) if text else math.nan
        if value is None:
            shown = repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "...")
            raise DataError(f"{path}, line {numbers[row]}: column {name!r} holds numbers, got {shown}")
        if abs(value) > LARGEST:
            raise DataError(f"{path}, line {numbers[row]}: column {name!r} holds {text}, more than {LARGEST:g}")
        values[row] = value
    return values


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


@dataclasses.dataclass(frozen=True, eq=False)
class Encoding:
    """How the columns of a table become features: fitted to one table, applied to others.

    A column of numbers is standardised (mean 0, variance 1; a missing value is the mean); a column of text gives a feature
    for each value seen while fitting, of which one is 1 and a missing or new value sets none.

    Attributes:
        target: the column of labels.
        negative: its value that becomes -1; the other becomes +1. None for numbers to regress on.
        scales: mean and deviation of each column of numbers.
        levels: values of each column of text, sorted.
    """

    target: str
    negative: str | float | None
    scales: dict[str, tuple[float, float]]
    levels: dict[str, npt.NDArray[np.generic]]

    @classmethod
    def fit(cls, table: Table, *, target: str = "", drop: Sequence[str] = ()) -> Encoding:
        """The encoding of a table.

        Args:
            table: to learn means, deviations and values from.
            target: the column of labels; the last one if empty.
            drop: columns that are no features; they stay available for groups.

        Raises:
            ConfigError: a column is not there.
            DataError: the labels are missing in a row, or text of other than two values.
        """
        target = target or list(table.columns)[-1]
        for field, name in (("target", target), *(("drop", name) for name in drop)):
            if name not in table.columns:
                raise ConfigError(f"data.{field} names no column: {name!r}; known: {', '.join(table.columns)}")
        features = {name: column for name, column in table.columns.items() if name != target and name not in drop}
        scales, levels = {}, {}
        for name, column in features.items():
            if column.dtype.kind == "f":
                known = column[~np.isnan(column.astype(np.float64))].astype(np.float64)
                deviation = float(known.std()) if len(known) and np.ptp(known) > 0 else 0.0
                scales[name] = (float(known.mean()) if len(known) else 0.0, deviation)
            else:
                levels[name] = np.unique(column[column != ""])
        if not 1 <= len(scales) + sum(map(len, levels.values())) <= _MAX_FEATURES:
            raise DataError(f"{table.name}: the columns give no feature, or more than {_MAX_FEATURES}; use data.drop")
        return cls(target, _negative(table, target), scales, levels)

    def apply(self, table: Table) -> Dataset:
        """The rows of a table with the same columns.

        Raises:
            DataError: a column or a label is missing.
        """
        num_rows = len(next(iter(table.columns.values())))
        values, places, width = [], [], 0
        for name in (*self.scales, *self.levels):
            if name not in table.columns:
                raise DataError(f"{table.name}: column {name!r} is missing")
            if name in self.scales:
                mean, deviation = self.scales[name]
                column_N = (table.columns[name].astype(np.float64) - mean) / (deviation or 1.0)
                values.append(np.where(np.isnan(column_N), 0.0, column_N) * (deviation > 0))
                places.append(np.full(num_rows, width))
                width += 1
            else:
                levels, column = self.levels[name], table.columns[name]
                place_N = np.searchsorted(levels, column)
                known_N = levels[np.minimum(place_N, len(levels) - 1)] == column if len(levels) else np.zeros(num_rows)
                values.append(known_N.astype(np.float64))
                places.append(width + np.minimum(place_N, max(len(levels) - 1, 0)))
                width += len(levels)
        rows = _sparse(np.column_stack(values), np.column_stack(places), width)
        return Dataset(table.name, rows, self._labels(table), table.columns)

    def _labels(self, table: Table) -> Vector:
        if self.target not in table.columns:
            raise DataError(f"{table.name}: column {self.target!r} is missing")
        column = table.columns[self.target]
        if self.negative is None:
            return column.astype(np.float64)
        return np.where(column == self.negative, -1.0, 1.0)


def _negative(table: Table, target: str) -> str | float | None:
    column = table.columns[target]
    missing = np.isnan(column.astype(np.float64)) if column.dtype.kind == "f" else column == ""
    if missing.any():
        raise DataError(f"{table.name}: column {target!r} holds the labels, and {np.count_nonzero(missing)} are missing")
    distinct = np.unique(column)
    if len(distinct) == 2:
        return str(distinct[0]) if column.dtype.kind != "f" else float(distinct.astype(np.float64)[0])
    if column.dtype.kind == "f" and len(distinct) > 2:
        return None
    shown = ", ".join(map(str, distinct[:5]))
    raise DataError(f"{table.name}: column {target!r} holds the labels and needs two values or numbers, got {shown}")


def _sparse(values_NC: npt.NDArray[np.float64], places_NC: npt.NDArray[np.intp], width: int) -> SparseRows:
    """Rows whose entry (n, c) lies in feature places[n, c]; zeros are left out, and places ascend along a row."""
    kept_NC = values_NC != 0.0
    starts = np.concatenate(([0], np.cumsum(kept_NC.sum(axis=1))))
    return SparseRows(values_NC[kept_NC], places_NC[kept_NC].astype(np.int64), starts, width)


def read_tabular(path: str | Path, *, target: str = "", drop: Sequence[str] = ()) -> Dataset:
    """Read a table and encode its own columns; from Adult's files `fnlwgt` is dropped as well. See `Encoding`.

    Raises:
        ConfigError: `target` or `drop` name no column.
        DataError: file, line and reason.
    """
    table = read_table_file(path)
    drops = (*drop, *(name for name in _ADULT_DROPS if tuple(table.columns) == ADULT and name not in drop))
    return Encoding.fit(table, target=target, drop=drops).apply(table)
