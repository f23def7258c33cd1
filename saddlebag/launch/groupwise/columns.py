"""Tables of named columns, read from delimited text, plain or compressed."""

from __future__ import annotations

import bz2
import csv
import dataclasses
import gzip
import io
import lzma
import math
import zlib
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["Columns", "read_columns"]

MAX_CELLS = 2**28
"""Cells of a table: as float64 they take 2 GiB; the widest set in the recipes has under a million."""

_OPENERS: dict[str, Any] = {".bz2": bz2.BZ2File, ".gz": gzip.GzipFile, ".xz": lzma.LZMAFile}


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of equal length: float64 where every value is a finite number, text elsewhere."""

    name: str
    values: dict[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.values.values()), ()))

    def numbers(self, column: str, where: str) -> npt.NDArray[np.float64]:
        """A column of numbers.

        Raises:
            ConfigError: there is no such column, or it holds text; the message starts with `where`.
        """
        values = self.column(column, where)
        if values.dtype.kind != "f":
            text = next(value for value in values if not _is_number(value))
            raise ConfigError(f"{where}: column {column!r} of {self.name} holds text such as {str(text)!r}, not numbers")
        return values

    def column(self, column: str, where: str) -> npt.NDArray[Any]:
        """A column.

        Raises:
            ConfigError: there is no such column; the message starts with `where`.
        """
        if column not in self.values:
            raise ConfigError(f"{where}: {self.name} has no column {column!r}; it has {', '.join(self.values)}")
        return self.values[column]


def read_columns(path: Path, names: Sequence[str] = (), *, delimiter: str = ",", comment: str = "|") -> Columns:
    """Read a delimited text file.

    Blank lines, and lines that start with `comment`, are skipped; spaces around values are dropped.

    Args:
        path: of the file; .xz, .gz and .bz2 are decompressed.
        names: of the columns, for a file without a header.
        delimiter: one character.
        comment: what marks a line that is no record; empty for nothing.

    Raises:
        DataError: the file cannot be read, or a row is malformed; with file, line and reason.
    """
    rows: list[list[str]] = []
    header = list(names)
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip() or (comment and line.startswith(comment)):
                    continue
                (row,) = csv.reader([line], delimiter=delimiter, skipinitialspace=True)
                row = [value.strip() for value in row]
                if not header:
                    header = _checked_header(row, path, number)
                    continue
                if len(row) != len(header):
                    raise DataError(f"{path}, line {number}: {len(row)} values for {len(header)} columns")
                rows.append(row)
                if len(rows) * len(header) > MAX_CELLS:
                    raise DataError(f"{path}: more than {MAX_CELLS} cells")
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not rows:
        raise DataError(f"{path}: no rows")
    columns = zip(*rows, strict=True)
    return Columns(path.name, {name: _typed(values) for name, values in zip(header, columns, strict=True)})


def _open(path: Path) -> IO[str]:
    if path.suffix in _OPENERS:
        return io.TextIOWrapper(_OPENERS[path.suffix](path), encoding="utf-8", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _checked_header(row: list[str], path: Path, number: int) -> list[str]:
    if len(set(row)) != len(row) or not all(row):
        raise DataError(f"{path}, line {number}: column names must differ and not be empty, got {', '.join(row)}")
    return row


def _typed(values: Sequence[str]) -> npt.NDArray[Any]:
    if all(map(_is_number, values)):
        return np.array([float(value) for value in values])
    return np.array(values, dtype=np.str_)


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value)) and "_" not in value
    except ValueError:
        return False
