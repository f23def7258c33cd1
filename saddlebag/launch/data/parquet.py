"""Tables in Parquet files, read by pyarrow within the bounds of every reader.

Shapes: N = rows.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.delimited import MAX_CELLS
from saddlebag.launch.data.typed import Column, Rules, beyond

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["column_of", "read_parquet", "readable", "require_arrow"]

_MOST_BYTES = 1 << 32  # of the columns, unpacked
_BATCH_ROWS = 4096


def require_arrow(where: object) -> Any:
    """The package pyarrow.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{where}: Parquet and Arrow files need the package pyarrow; pip install 'saddlebag[arrow]'"
        ) from error


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what pyarrow says of a bad file into a `DataError`."""
    arrow = require_arrow(path)
    try:
        yield
    except (OSError, MemoryError, arrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {(str(error).splitlines() or ['damaged'])[0]}") from error


def read_parquet(path: Path, select: Sequence[str] = ()) -> tuple[list[str], list[Any]]:
    """Names of all columns, and the columns themselves as pyarrow arrays (None for those not selected).

    Raises:
        ConfigError: pyarrow is not installed.
        DataError: the file is missing, damaged, or too large.
    """
    arrow = require_arrow(path)
    parquet: Any = importlib.import_module("pyarrow.parquet")
    with readable(path), parquet.ParquetFile(str(path)) as file:
        meta, names = file.metadata, list(file.schema_arrow.names)
        told = sum(meta.row_group(number).total_byte_size for number in range(meta.num_row_groups))
        _require_small(path, meta.num_rows * max(len(names), 1), told)
        if len(set(names)) < len(names):
            return names, [None] * len(names)  # refused by who looks at the names
        kept = [name for name in names if not select or name in select]
        batches, num_bytes, cells = [], 0, 0
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=kept):
            batch.validate(full=True)  # what a file says of itself need not be true
            num_bytes, cells = num_bytes + batch.get_total_buffer_size(), cells + batch.num_rows * len(names)
            _require_small(path, cells, num_bytes)
            batches.append(batch)
    if not cells:
        raise DataError(f"{path}: no rows; is the file empty?")
    table = arrow.Table.from_batches(batches)
    return names, [table.column(name) if name in kept else None for name in names]


def _require_small(path: Path, cells: int, num_bytes: int) -> None:
    if cells > MAX_CELLS:
        raise DataError(f"{path}: more than {MAX_CELLS} cells, the most that is read")
    if num_bytes > _MOST_BYTES:
        raise DataError(f"{path}: more than {_MOST_BYTES} bytes unpacked, the most that is read")


def column_of(name: str, values: Any, rules: Rules) -> Column:
    """A pyarrow column as one of numbers or text; its own type decides.

    Args:
        name: of the column.
        values: an array or chunked array, (N,).
        rules: of the file; its marks count in text only.

    Raises:
        DataError: its type is neither: lists, structures, bytes.
    """
    arrow: Any = importlib.import_module("pyarrow")
    kinds = arrow.types
    kind = values.type.value_type if kinds.is_dictionary(values.type) else values.type
    if kinds.is_dictionary(values.type):
        values = values.cast(kind)
    empty = {"nothing": values.null_count} if values.null_count else {}
    if (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind)) and name not in rules.options.text:
        return _numbers(name, np.asarray(values.cast(arrow.float64()).to_numpy(), np.float64), empty, rules.largest)
    if kinds.is_null(kind):
        return Column(np.full(len(values), "", np.str_), empty)
    plain = (kinds.is_string, kinds.is_large_string, kinds.is_boolean, kinds.is_temporal, kinds.is_integer)
    if not any(is_kind(kind) for is_kind in plain) and not str(kind).startswith(("string", "decimal", "float", "double")):
        raise DataError(f"column {name!r} is of type {str(kind)[:40]}, which is no feature; leave it out with data.select")
    texts = ["" if value is None else str(value) for value in values.to_pylist()]
    missing = {mark: count for mark in rules.marks if mark and (count := texts.count(mark))}
    return Column(np.array(["" if value in missing else value for value in texts], np.str_), {**empty, **missing})


def _numbers(name: str, value_N: npt.NDArray[np.float64], missing: dict[str, int], largest: float) -> Column:
    nan = int(np.count_nonzero(np.isnan(value_N))) - sum(missing.values())
    missing = {**missing, **({"NaN": nan} if nan > 0 else {})}
    if (wrong_N := np.abs(value_N) > largest).any():  # NaN is not
        row = int(wrong_N.argmax())
        doubt = f"row {row + 1}: column {name!r} holds {value_N[row]:g}, {beyond(largest)}"
        return Column(value_N.astype(np.str_), missing, doubt)
    return Column(value_N, missing)
