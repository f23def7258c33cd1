"""Tables that a program holds: pandas and pyarrow, as the readers of files have them.

Neither package is imported here: who hands over a frame has done that. Shapes: N = rows.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import DataError
from saddlebag.launch.data.parquet import column_of
from saddlebag.launch.data.table_file import Table
from saddlebag.launch.data.typed import LARGEST, Column, Rules, beyond
from saddlebag.launch.recipe.table_options import TableOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["is_frame", "table_of"]

_RULES = Rules(options=TableOptions(), marks=())
_QUOTED = 30


def is_frame(value: Any) -> bool:
    """Whether it is a DataFrame of pandas, or a Table of pyarrow."""
    return _is(value, "pandas", "DataFrame") or _is(value, "pyarrow", "Table")


def _is(value: Any, package: str, kind: str) -> bool:
    module = sys.modules.get(package)
    return module is not None and isinstance(value, vars(module).get(kind, ()))


def table_of(frames: Sequence[Any]) -> Table:
    """Frames with the same columns, one below the other. An index is no column.

    Raises:
        DataError: a name stands twice, a column is neither numbers nor text, or frames differ in names or types of columns.
    """
    parts = [_columns(frame, f"data[{number}]" if len(frames) > 1 else "data") for number, frame in enumerate(frames)]
    for number, part in enumerate(parts):
        if list(part) != list(parts[0]):
            raise DataError(f"data[{number}]: has columns {', '.join(part)[:80]}, data[0] has {', '.join(parts[0])[:80]}")
        for name, column in part.items():
            if (column.values.dtype.kind == "f") != (parts[0][name].values.dtype.kind == "f"):
                raise DataError(f"data[{number}]: column {name!r} holds numbers in some frames, and text in others")
    values = {name: np.concatenate([part[name].values for part in parts]) for name in parts[0]}
    doubts = {name: column.doubt for part in parts for name, column in part.items() if column.doubt}
    return Table("data", values, doubts)


def _columns(frame: Any, where: str) -> dict[str, Column]:
    arrow = _is(frame, "pyarrow", "Table")
    names = [str(name) for name in (frame.column_names if arrow else frame.columns)]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{where}: column {name!r} stands there {names.count(name)} times")
    if not names or not len(frame):
        raise DataError(f"{where}: has {len(frame)} rows and {len(names)} columns; at least 1 of both is needed")
    try:
        if arrow:
            return {name: column_of(name, frame.column(place), _RULES) for place, name in enumerate(names)}
        return {name: _of_series(name, frame.iloc[:, place]) for place, name in enumerate(names)}
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _of_series(name: str, series: Any) -> Column:
    """A column of pandas: what it calls numeric is numbers, all else text."""
    missing_N = np.asarray(series.isna(), np.bool_)
    count = {"nothing": int(missing_N.sum())} if missing_N.any() else {}
    kind = series.dtype.kind
    if kind in "iuf":
        value_N = np.asarray(series.to_numpy(np.float64, na_value=np.nan))
        if (wrong_N := np.abs(value_N) > LARGEST).any():
            row = int(wrong_N.argmax())
            return Column(
                value_N.astype(np.str_), count, f"row {row + 1}: column {name!r} holds {value_N[row]:g}, {beyond(LARGEST)}"
            )
        return Column(value_N, count)
    if kind not in "bOMmTUS":
        raise DataError(f"column {name!r} is of type {series.dtype}, which is no feature; leave it out")
    values = ["" if gone else value for value, gone in zip(series.to_numpy(object), missing_N, strict=True)]
    doubt = _doubt(name, values)
    return Column(np.array([str(value) for value in values], np.str_), count, doubt)


def _doubt(name: str, values: list[Any]) -> str:
    """What is wrong with a column of objects; empty for text, truth values and times."""
    numbers = [isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_) for value in values]
    if not any(numbers):
        return ""
    known = [value != "" for value in values]
    other = next((row for row, (number, there) in enumerate(zip(numbers, known, strict=True)) if there and not number), None)
    if other is None:
        return f"column {name!r} holds numbers as objects; write frame[{name!r}].astype(float)"
    shown = repr(str(values[other])[:_QUOTED])
    return f"row {other + 1}: column {name!r} holds numbers, and {shown}; make it numbers or text before"
