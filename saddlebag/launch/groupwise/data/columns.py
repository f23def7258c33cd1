"""Tables of named columns as studies and services see them; reading them is `saddlebag.launch.data.tables`' work."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError
from saddlebag.launch.data.tables import read_table_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from saddlebag.launch.recipe.table_options import TableOptions


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of equal length: float64 where every known value is a finite number, text elsewhere.

    Attributes:
        name: of the file.
        values: name -> float64 (NaN where missing) or text ("" where missing); (N,) each.
        doubts: columns that are no numbers only because of some values, or of how they are written -> why.
        notes: what the reader has to say: types, missing values, lines left out.
    """

    name: str
    values: dict[str, npt.NDArray[Any]]
    doubts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.values.values()), ()))

    def numbers(self, column: str, where: str) -> npt.NDArray[Any]:
        """A column of numbers, NaN where they are missing.

        Raises:
            ConfigError: there is no such column, or it holds text; the message starts with `where`.
        """
        values = self.column(column, where)
        if values.dtype.kind != "f":
            if column in self.doubts:
                raise ConfigError(f"{where}: {self.name}, {self.doubts[column]}")
            text = next((value for value in values if value), "")
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


def read_columns(path: Path, options: TableOptions | None = None, *, alone: bool = False) -> Columns:
    """Read a table of text or Parquet. See `read_table_file`; here only what is empty is missing, unless `options` say more.

    Raises:
        ConfigError: an option does not fit.
        DataError: the file cannot be read, or a row is malformed; with file, line and reason.
    """
    table = read_table_file(path, options, missing=(), largest=sys.float_info.max, whole=False, alone=alone)
    return Columns(path.name, table.columns, table.doubts, table.notes)
