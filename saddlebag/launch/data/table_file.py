"""Tables of named columns in files: delimited text, Parquet and the UCI Adult files, packed or not.

The one reader of tables, for `saddlebag run` and `saddlebag groupwise` alike; the types of columns are decided on all rows.

Shapes: N = rows.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.decoding import is_parquet, opened, plain_name
from saddlebag.launch.data.delimited import named, read_delimited, require_delimiter
from saddlebag.launch.data.parquet import column_of, read_parquet
from saddlebag.launch.data.typed import LARGEST, Column, Rules, type_column
from saddlebag.launch.recipe.table_options import TableOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ADULT", "Table", "is_table", "read_table_file", "some"]

ADULT = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)
"""The columns of the UCI Adult files, which have no header (Becker, Kohavi 1996)."""

_ADULT_FILES = ("adult.data", "adult.test")
_SUFFIXES = (".csv", ".tsv", ".tab", ".parquet", ".pq")
_MISSING = ("?",)
_SHOWN = 12  # columns that a note names


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A file as it is.

    Attributes:
        name: of the file, without suffixes.
        columns: name -> text ("" where missing), or float64 (NaN where missing); (N,) each.
        doubts: columns whose type is not sure (they are text here) -> why, with the options that decide.
        notes: what a person should know of the reading: types, missing values, lines left out.
    """

    name: str
    columns: dict[str, npt.NDArray[np.generic]]
    doubts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def require(self, *names: str) -> None:
        """Raise `DataError` where a column is one of doubt."""
        for name in names:
            if name in self.doubts:
                raise DataError(f"{self.name}: {self.doubts[name]}")


def is_table(path: str | Path) -> bool:
    """Whether a path names a table by its suffix, or is one of Adult's files, packed or not."""
    stem = plain_name(Path(path)).lower()
    return stem.endswith(_SUFFIXES) or stem in _ADULT_FILES


def read_table_file(
    path: str | Path,
    options: TableOptions | None = None,
    *,
    missing: Sequence[str] = _MISSING,
    largest: float = LARGEST,
    whole: bool = True,
    alone: bool = False,
) -> Table:
    """Read a table of text or Parquet.

    The first line names the columns, except in Adult's files, whose columns are known. A column is of numbers if all its
    known values are, of text if none is; one of both is in doubt: whoever uses it must decide.

    Args:
        path: of the file.
        options: how it is read.
        missing: marks of missing values besides the empty one, where `options` name none.
        largest: the largest size of a number.
        whole: whether the file is Adult's as `saddlebag run` knows it: with names and without its remark.
        alone: whether one column is a table, too.

    Raises:
        ConfigError: an option does not fit, or names no column.
        DataError: file, line and reason.
    """
    path, options = Path(path), options or TableOptions()
    adult = whole and plain_name(path).lower() in _ADULT_FILES and not options.columns
    if adult:  # adult.test opens with a remark
        options = dataclasses.replace(options, columns=list(ADULT), comment=options.comment or "|")
    marks = ("", *(missing if options.missing is None else options.missing))
    rules = Rules(options=options, marks=marks, largest=largest)
    parquet = _holds_parquet(path)
    columns, skipped = _of_parquet(path, rules) if parquet else _of_text(path, rules, alone=alone)
    if adult:
        columns = {name: _without_stops(name, column) for name, column in columns.items()}
    name = plain_name(path).split(".")[0] or path.name
    arrays = {name: column.values for name, column in columns.items()}
    doubts = {name: column.doubt for name, column in columns.items() if column.doubt}
    return Table(name, arrays, doubts, tuple(_notes(path.name, columns, skipped, options)))


def _holds_parquet(path: Path) -> bool:
    with opened(path) as file:
        return is_parquet(file.read(8))


def _of_text(path: Path, rules: Rules, *, alone: bool) -> tuple[dict[str, Column], int]:
    options = rules.options
    found = read_delimited(path, options)
    if len(found.columns) == 1 and not options.columns and not options.select:
        require_delimiter(path, list(found.columns), options.delimiter or ",", alone=alone)
    return {name: type_column(name, texts, found.numbers, rules) for name, texts in found.columns.items()}, found.skipped


def _of_parquet(path: Path, rules: Rules) -> tuple[dict[str, Column], int]:
    options = rules.options
    text_only = ("columns", "header", "delimiter", "quotes", "comment", "encoding", "decimal", "thousands")
    if given := options.given(*text_only):
        raise ConfigError(f"data.{given[0]} is for tables of text; {path.name} is a Parquet file")
    old = {new: name for name, new in options.rename.items()}
    names, arrays = read_parquet(path, [old.get(name, name) for name in options.select])
    header = named(names, options, str(path))
    found = {}
    for name, array in zip(header, arrays, strict=True):
        if array is not None:
            try:
                found[name] = column_of(name, array, rules)
            except DataError as error:
                raise DataError(f"{path}: {error}") from None
    return found, 0


def _without_stops(name: str, column: Column) -> Column:
    """The labels of adult.test, which end with a full stop."""
    if name != ADULT[-1] or column.values.dtype.kind == "f":
        return column
    levels, place_N = np.unique(column.values, return_inverse=True)
    return dataclasses.replace(column, values=np.array([level.removesuffix(".") for level in levels], np.str_)[place_N])


def _notes(name: str, columns: Mapping[str, Column], skipped: int, options: TableOptions) -> list[str]:
    """Types, missing values and lines left out, a line each."""
    kinds: dict[str, list[str]] = {"numbers": [], "text": [], "in doubt": []}
    for title, column in columns.items():
        kind = "in doubt" if column.doubt else "numbers" if column.values.dtype.kind == "f" else "text"
        values = f" ({len(np.unique(column.values))} values)" if kind == "text" else ""
        kinds[kind].append(f"{title}{values}")
    num_rows = len(next(iter(columns.values())).values)
    types = "; ".join(f"{kind}: {some(titles)}" for kind, titles in kinds.items() if titles)
    notes = [f"{name}: {num_rows} rows; {types}"]
    gone = {title: column.missing for title, column in columns.items() if column.missing}
    if gone:
        counts = [
            f"{sum(marks.values())} in {title} ({', '.join(mark or 'empty' for mark in marks)})"
            for title, marks in gone.items()
        ]
        notes.append(f"{name}: missing values: {some(counts)}")
    notes += [f"{name}: {column.remark}" for column in columns.values() if column.remark]
    if skipped:
        notes.append(f"{name}: {skipped} lines that begin with {options.comment!r} left out")
    return notes


def some(names: Sequence[str]) -> str:
    """Names for a message, not too many."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
