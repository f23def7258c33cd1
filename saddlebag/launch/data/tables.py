"""How the columns of a table become features and labels.

Shapes: N = rows, C = columns, F = features.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.problems import Dataset, SparseRows
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.table_file import ADULT, Table, is_table, read_table_file, some
from saddlebag.launch.recipe.fields import unknown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from saddlebag.compression.payload import Vector
    from saddlebag.launch.recipe.table_options import TableOptions

__all__ = ["Encoding", "Table", "is_table", "read_table_file", "read_tabular"]

_ADULT_DROPS = ("fnlwgt",)  # a sampling weight of the census, no property of a person
_MAX_FEATURES = 1 << 20  # one-hot features of a text column with a value for each row would be no model


@dataclasses.dataclass(frozen=True, eq=False)
class Encoding:
    """How the columns of a table become features: fitted to one table, applied to others.

    A column of numbers is standardised (mean 0, variance 1; a missing value is the mean); a column of text gives a feature
    for each value seen while fitting, of which one is 1 and a missing or new value sets none.

    Attributes:
        target: the column of labels.
        labels: its values when fitted, sorted: `positive` becomes +1, the others -1. None for numbers to regress on.
        positive: one of them.
        scales: mean and deviation of each column of numbers.
        levels: values of each column of text, sorted.
    """

    target: str
    labels: npt.NDArray[np.generic] | None
    positive: str | float
    scales: dict[str, tuple[float, float]]
    levels: dict[str, npt.NDArray[np.generic]]

    @classmethod
    def fit(
        cls, table: Table, *, target: str = "", drop: Sequence[str] = (), positive: str = "", labels: str = "auto"
    ) -> Encoding:
        """The encoding of a table.

        Args:
            table: to learn means, deviations and values from.
            target: the column of labels; the last one if empty.
            drop: columns that are no features; they stay available for groups.
            positive: the label that becomes +1, all others -1; by default there must be two, the larger of which does.
            labels: "numbers" to regress on them, "signs" for two values; "auto" regresses on more than two numbers.

        Raises:
            ConfigError: a column is not there, or no label is `positive`.
            DataError: the type of a column is in doubt; labels are missing in a row, or text of other than two values.
        """
        target = target or list(table.columns)[-1]
        for field, name in (("target", target), *(("drop", name) for name in drop)):
            if name not in table.columns:
                raise unknown(f"data.{field} names no column: {name!r}", name, table.columns)
        features = {name: column for name, column in table.columns.items() if name != target and name not in drop}
        table.require(target, *features)
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
        return cls(target, *_labels(table, target, positive, labels), scales, levels)

    def apply(self, table: Table) -> Dataset:
        """The rows of a table with the same columns.

        Raises:
            DataError: a column or a label is missing, is of another type, or a label is none of the known ones.
        """
        num_rows = len(next(iter(table.columns.values())))
        values, places, width = [], [], 0
        for name in (*self.scales, *self.levels):
            column = self._column(table, name)
            if name in self.scales:
                mean, deviation = self.scales[name]
                column_N = (column.astype(np.float64) - mean) / (deviation or 1.0)
                values.append(np.where(np.isnan(column_N), 0.0, column_N) * (deviation > 0))
                places.append(np.full(num_rows, width))
                width += 1
            else:
                levels = self.levels[name]
                place_N = np.searchsorted(levels, column)
                known_N = levels[np.minimum(place_N, len(levels) - 1)] == column if len(levels) else np.zeros(num_rows)
                values.append(known_N.astype(np.float64))
                places.append(width + np.minimum(place_N, max(len(levels) - 1, 0)))
                width += len(levels)
        rows = _sparse(np.column_stack(values), np.column_stack(places), width)
        return Dataset(table.name, rows, self._signs(table), table.columns, notes=table.notes)

    def _column(self, table: Table, name: str) -> npt.NDArray[np.generic]:
        """A column of the type it had when fitted."""
        if name not in table.columns:
            raise DataError(f"{table.name}: column {name!r} is missing")
        column = table.columns[name]
        numbers = name in self.scales or (name == self.target and (self.labels is None or self.labels.dtype.kind == "f"))
        if (column.dtype.kind == "f") == numbers:
            return column
        if numbers:
            table.require(name)
            if not (column != "").any():
                return np.full(len(column), np.nan)
            row = int((column != "").argmax())
            raise DataError(f"{table.name}, row {row + 1}: column {name!r} held numbers when fitted, got {str(column[row])!r}")
        if np.isnan(column.astype(np.float64)).all():
            return np.full(len(column), "", np.str_)
        raise DataError(f'{table.name}: column {name!r} held text when fitted, and holds numbers; give data.text = ["{name}"]')

    def _signs(self, table: Table) -> Vector:
        column = self._column(table, self.target)
        _require_labels(table, self.target, column)
        if self.labels is None:
            return column.astype(np.float64)
        strange_N = ~np.isin(column, self.labels)
        if strange_N.any():
            row = int(strange_N.argmax())
            known, count = some([_said(label) for label in self.labels]), np.count_nonzero(strange_N)
            strange = f"the label {_said(column[row])} was not there when fitted ({count} unknown ones)"
            raise DataError(f"{table.name}, row {row + 1}: {strange}; known: {known}")
        return np.where(column == self.positive, 1.0, -1.0)


def _require_labels(table: Table, target: str, column: npt.NDArray[np.generic]) -> None:
    """Refuse rows without a label."""
    missing = np.isnan(column.astype(np.float64)) if column.dtype.kind == "f" else column == ""
    if missing.any():
        row, count = int(missing.argmax()) + 1, np.count_nonzero(missing)
        raise DataError(f"{table.name}, row {row}: column {target!r} holds the labels, and {count} are missing")


def _labels(table: Table, target: str, positive: str, kind: str) -> tuple[npt.NDArray[np.generic] | None, str | float]:
    """The known labels and the positive one; None where they are numbers to regress on."""
    column = table.columns[target]
    _require_labels(table, target, column)
    distinct, numbers = np.unique(column), column.dtype.kind == "f"
    if positive:
        found = [label for label in distinct if _said(label) in (positive, repr(positive))]
        if not found:
            known = some([_said(label) for label in distinct])
            raise ConfigError(f"data.positive {positive!r} is no label of {table.name}; its labels: {known}")
        return distinct, found[0].item()
    if kind == "numbers" and not numbers:
        table.require(target)
        raise DataError(
            f"{table.name}: data.labels is 'numbers', and column {target!r} holds text such as {_said(distinct[0])}"
        )
    if kind != "numbers" and len(distinct) == 2:
        return distinct, distinct[1].item()
    if kind != "signs" and numbers and len(distinct) > (0 if kind == "numbers" else 2):
        return None, 0.0
    shown = ", ".join(map(str, distinct[:5]))
    hint = f"; data.positive = {_said(distinct[0])} sets one against all others" if len(distinct) > 2 else ""
    raise DataError(f"{table.name}: column {target!r} holds the labels and needs two values or numbers, got {shown}{hint}")


def _said(label: np.generic) -> str:
    """A label as people write it."""
    return f"{label:g}" if isinstance(label, np.floating) else repr(str(label))


def _sparse(values_NC: npt.NDArray[np.float64], places_NC: npt.NDArray[np.intp], width: int) -> SparseRows:
    """Rows whose entry (n, c) lies in feature places[n, c]; zeros are left out, and places ascend along a row."""
    kept_NC = values_NC != 0.0
    starts = np.concatenate(([0], np.cumsum(kept_NC.sum(axis=1))))
    return SparseRows(values_NC[kept_NC], places_NC[kept_NC].astype(np.int64), starts, width)


def read_tabular(
    path: str | Path,
    *,
    target: str = "",
    drop: Sequence[str] = (),
    positive: str = "",
    labels: str = "auto",
    options: TableOptions | None = None,
) -> Dataset:
    """Read a table and encode its own columns; from Adult's files `fnlwgt` is dropped as well. See `Encoding`.

    Raises:
        ConfigError: `target` or `drop` name no column.
        DataError: file, line and reason.
    """
    table = read_table_file(path, options)
    drops = (*drop, *(name for name in _ADULT_DROPS if tuple(table.columns) == ADULT and name not in drop))
    return Encoding.fit(table, target=target, drop=drops, positive=positive, labels=labels).apply(table)
