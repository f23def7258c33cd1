"""Data that a program holds already: arrays, one pair or a pair for each worker, as rows with labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from saddlebag.algorithms.problems.data.rows import Dataset, DenseRows, SparseRows
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.frames import is_frame, table_of
from saddlebag.launch.data.tables import Encoding
from saddlebag.launch.data.typed import LARGEST

__all__ = ["from_memory"]


def from_memory(data: Any, target: str = "") -> Any:
    """Arrays `(X, y)` or a frame as labelled rows; a list of them with each worker's kept together; all else as it is.

    Args:
        data: X of shape (N, F), an array, a sparse matrix of scipy or a DataFrame of numbers, and y of shape (N,); or a
            DataFrame of pandas or Table of pyarrow, whose columns become features as those of a file do (see `Encoding`).
        target: the column of labels in a frame; its last one if empty.

    Raises:
        ConfigError: a frame has no such column.
        DataError: the shapes do not fit, a value is not finite, or is no number; the type of a frame's column is in doubt.

    Example:
        >>> from_memory(([[1.0, 2.0], [3.0, 4.0]], ["no", "yes"])).labels_N.tolist()
        [-1.0, 1.0]
    """
    frames = [data] if is_frame(data) else data
    if isinstance(frames, list | tuple) and frames and all(map(is_frame, frames)):
        return _encoded(list(frames), target, shards=not is_frame(data))
    if target:
        raise ConfigError(f"target={target!r} names a column of a table or frame; data is {type(data).__name__}")
    if _is_pair(data):
        return _joined([data], shards=False)
    if isinstance(data, Sequence) and not isinstance(data, str | bytes) and data and all(map(_is_pair, data)):
        return _joined(list(data), shards=True)
    return data


def _encoded(frames: list[Any], target: str, *, shards: bool) -> Dataset:
    """Frames with the encoding of all of them."""
    table = table_of(frames)
    dataset = Encoding.fit(table, target=target).apply(table)
    if not shards:
        return dataset
    ends = np.cumsum([len(frame) for frame in frames])
    index = tuple(np.arange(end - len(frame), end) for frame, end in zip(frames, ends, strict=True))
    return dataclasses.replace(dataset, shards=index)


def _is_pair(value: Any) -> bool:
    """Whether it is (X, y): two parts, of which the first has rows."""
    if not (isinstance(value, tuple) and len(value) == 2):
        return False
    shapes = [getattr(part, "shape", None) or np.shape(part) for part in value]
    return len(shapes[0]) == 2 and len(shapes[1]) == 1


def _joined(pairs: list[tuple[Any, Any]], *, shards: bool) -> Dataset:
    counts, widths = [], set()
    for number, (rows, labels) in enumerate(pairs):
        where = f"data[{number}]" if shards else "data"
        num_rows, width = getattr(rows, "shape", None) or np.shape(rows)
        if num_rows != len(labels) or not num_rows:
            raise DataError(f"{where}: X has {num_rows} rows, y {len(labels)} labels; both need the same number, at least 1")
        counts.append(num_rows)
        widths.add(width)
    if len(widths) != 1:
        raise DataError(f"data: every X needs the same number of features, got {', '.join(map(str, sorted(widths)))}")
    label_N = _signs(np.concatenate([np.asarray(labels) for _, labels in pairs]))
    ends = np.cumsum(counts)
    index = tuple(np.arange(end - count, end) for count, end in zip(counts, ends, strict=True)) if shards else None
    return Dataset("arrays", _rows([rows for rows, _ in pairs]), label_N, shards=index)


def _rows(parts: list[Any]) -> DenseRows | SparseRows:
    if all(hasattr(part, "tocsr") for part in parts):
        from scipy.sparse import vstack  # scikit-learn brings it

        matrix = vstack(parts).tocsr()
        matrix.sum_duplicates()
        matrix.sort_indices()
        values_E = _finite(matrix.data)
        return SparseRows(values_E, matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64), matrix.shape[1])
    return DenseRows(_finite(np.concatenate([np.asarray(part) for part in parts])))


def _finite(values: Any) -> Any:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"data: X must hold numbers: {error}") from error
    if not np.isfinite(numbers).all():
        raise DataError(f"data: X must be finite, {np.count_nonzero(~np.isfinite(numbers))} of its values are not")
    if numbers.size and np.abs(numbers).max() > LARGEST:
        place = np.unravel_index(int(np.abs(numbers).argmax()), numbers.shape)
        raise DataError(f"data: X must hold numbers of size {LARGEST:g} at most, got {numbers[place]:g}; scale the data")
    return numbers


def _signs(label_N: Any) -> Any:
    """Exactly two different labels as -1 and +1, in their order; others as numbers."""
    distinct = np.unique(label_N)
    if len(distinct) == 2:
        return np.where(label_N == distinct[1], 1.0, -1.0)
    try:
        numbers = label_N.astype(np.float64)
    except (TypeError, ValueError) as error:
        shown = ", ".join(map(str, distinct[:5]))
        raise DataError(f"data: y needs numbers or two different labels, got {len(distinct)}: {shown}") from error
    if not (np.abs(numbers) <= LARGEST).all():
        raise DataError(f"data: y must be finite, and of size {LARGEST:g} at most")
    return numbers
