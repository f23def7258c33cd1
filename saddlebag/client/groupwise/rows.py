"""Rows as people have them, as the columns that a service asks for: dictionaries, columns, Arrow and data frames.

Shapes: N = rows.
"""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt


@runtime_checkable
class _ArrowStream(Protocol):
    """A table as Arrow's PyCapsule interface gives it."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


@runtime_checkable
class _ArrowArray(Protocol):
    """A batch of it."""

    def __arrow_c_array__(self, requested_schema: object = None) -> object: ...


_QUOTED = 60  # characters of a value in a message


def columns_of(rows: Any, needed: Mapping[str, bool]) -> dict[str, npt.NDArray[Any]]:
    """The needed columns of some rows, as float64 (NaN where missing) or text ("" where missing); others are left out.

    Args:
        rows: a list of dictionaries, a dictionary of columns, an Arrow table or batch, or a data frame that gives itself out as
            Arrow (pandas, polars).
        needed: the columns by name, and whether they are text.

    Raises:
        ConfigError: a column is missing, or holds values of the wrong kind; with column and row.

    Example:
        >>> columns_of([{"age": 30, "sex": "Female"}, {"age": None, "sex": "Male"}], {"age": False})
        {'age': array([30., nan])}
    """
    if isinstance(rows, Mapping):
        found = rows
    elif isinstance(rows, Sequence) and not isinstance(rows, str):
        found = _of_dictionaries(rows, needed)
    elif isinstance(rows, _ArrowStream | _ArrowArray):
        found = _of_arrow(rows, needed)
    else:
        raise ConfigError(
            f"rows must be a list of dictionaries, a dictionary of columns, or an Arrow table, got {type(rows).__name__}"
        )
    for name in needed:
        if name not in found:
            raise ConfigError(f"rows need column {name!r}; the columns are {', '.join(needed)}")
    values = {name: values_of(found[name], name, text) for name, text in needed.items()}
    lengths = {name: len(value) for name, value in values.items()}
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"columns must be of one length, got {', '.join(f'{name}: {n}' for name, n in lengths.items())}")
    return values


def values_of(values: Any, name: str, text: bool) -> npt.NDArray[Any]:
    """A column of numbers, as float64 with NaN for None; or of text, with "" for None. Shape (N,).

    Raises:
        ConfigError: a value is of another kind, or infinite; with column and row.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of several lengths
        raise ConfigError(f"column {name!r} must be a list of values: {error}") from error
    if array.ndim != 1:
        raise ConfigError(f"column {name!r} must be a list of values, got shape {array.shape}")
    if not text and array.dtype.kind in "biuf":
        numbers = array.astype(np.float64)
    elif text and isinstance(values, np.ndarray) and array.dtype.kind == "U":
        return array  # of a list numpy makes text whatever is in it
    else:
        of = _text if text else _number
        listed = array.tolist() if isinstance(values, np.ndarray) else list(values)
        converted = [of(value, name, row) for row, value in enumerate(listed)]
        if text:
            return np.array(converted, np.str_)
        numbers = np.array(converted, np.float64)
    if np.isinf(numbers).any():
        raise ConfigError(
            f"column {name!r} must be finite, got {numbers[np.isinf(numbers)][0]} in row {np.isinf(numbers).argmax()}"
        )
    return numbers


def _number(value: Any, name: str, row: int) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, int | float | np.number | np.bool_):
        return float(value)
    raise ConfigError(f"column {name!r} must hold numbers, got {repr(value)[:_QUOTED]} in row {row}")


def _text(value: Any, name: str, row: int) -> str:
    if value is None:
        return ""
    if isinstance(value, str | bool | np.bool_ | datetime.date | datetime.time):
        return str(value)
    raise ConfigError(f"column {name!r} must hold text, got {repr(value)[:_QUOTED]} in row {row}")


def _of_dictionaries(rows: Sequence[Any], needed: Mapping[str, bool]) -> dict[str, list[Any]]:
    for row, values in enumerate(rows):
        if not isinstance(values, Mapping):
            raise ConfigError(f"rows must be dictionaries, got {repr(values)[:_QUOTED]} in row {row}")
        missing = [name for name in needed if name not in values]
        if missing:
            raise ConfigError(
                f"row {row} has no {missing[0]!r}; a value that is not known is None. Columns: {', '.join(needed)}"
            )
    return {name: [values[name] for values in rows] for name in needed}


def _of_arrow(rows: Any, needed: Mapping[str, bool]) -> dict[str, list[Any]]:
    try:
        arrow: Any = importlib.import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise ConfigError("rows of Arrow need the package pyarrow; pip install 'saddlebag[arrow]'") from error
    table = arrow.table(rows)
    return {name: table.column(name).to_pylist() for name in needed if name in table.column_names}
