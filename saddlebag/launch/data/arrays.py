"""Data that a program holds already: arrays, one pair or a pair for each worker, as rows with labels."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from saddlebag.algorithms.problems.data.rows import Dataset, DenseRows, SparseRows
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.frames import is_frame, table_of
from saddlebag.launch.data.tables import Encoding
from saddlebag.launch.data.typed import LARGEST

__all__ = ["from_memory"]

_TAKEN = (
    "a pair of arrays (X, y), a DataFrame or Table, a Dataset or DataLoader of torch with samples (x, y), or a list of those, "
    "one for each worker"
)


def from_memory(data: Any, target: str = "") -> Any:
    """Arrays `(X, y)`, a frame or a data set of torch as labelled rows; a list of them with each worker's kept together.

    Objects of other types are for their own problems, and stay as they are.

    Args:
        data: X of shape (N, F), an array, a sparse matrix of scipy or a DataFrame of numbers, and y of shape (N,); or a
            DataFrame of pandas or Table of pyarrow, whose columns become features as those of a file do (see `Encoding`); or a
            `Dataset` or `DataLoader` of torch whose samples are (x, y), x of shape (F,), collected once.
        target: the column of labels in a frame; its last one if empty.

    Raises:
        ConfigError: a frame has no such column; samples of torch cannot be `collected`.
        DataError: the shapes do not fit, a value is not finite, or is no number; the type of a frame's column is in doubt; or
            it is an array, list, tuple or dict that is none of the above.

    Example:
        >>> from_memory(([[1.0, 2.0], [3.0, 4.0]], ["no", "yes"])).labels_N.tolist()
        [-1.0, 1.0]
    """
    frames = [data] if is_frame(data) else data
    if isinstance(frames, list | tuple) and frames and all(map(is_frame, frames)):
        return _encoded(list(frames), target, shards=not is_frame(data))
    if target:
        raise ConfigError(f"target={target!r} names a column of a table or frame; data is {type(data).__name__}")
    if _is_torch(data) or _is_pair(data):
        return _joined([_pair_of(data)], shards=False)
    if isinstance(data, list | tuple) and data and all(_is_torch(part) or _is_pair(part) for part in data):
        return _joined([_pair_of(part) for part in data], shards=True)
    if isinstance(data, np.ndarray | Sequence | Mapping):
        raise DataError(f"data must be {_TAKEN}; got {_described(data)}")
    return data


def _described(data: Any) -> str:
    if isinstance(data, np.ndarray):
        return f"an array of shape {data.shape} without labels"
    return f"a {type(data).__name__} of {', '.join(sorted({type(part).__name__ for part in data})) or 'nothing'}"


def _is_torch(value: Any) -> bool:
    """Whether it is a `Dataset` or `DataLoader` of torch, which is not imported to find out."""
    torch_data = sys.modules.get("torch.utils.data")
    return torch_data is not None and isinstance(value, (torch_data.Dataset, torch_data.DataLoader))


def _pair_of(value: Any) -> Any:
    """(X, y), of samples (x, y) where it is a data set."""
    if not _is_torch(value):
        return value
    from saddlebag.algorithms.networks.samples import collected

    arrays = collected(value, "data")
    if len(arrays) != 2:
        raise DataError(f"data: samples of torch must be (x, y), got {len(arrays)} parts a sample")
    return arrays


def _encoded(frames: list[Any], target: str, *, shards: bool) -> Dataset:
    """Frames with the encoding of all of them."""
    table = table_of(frames)
    dataset = Encoding.fit(table, target=target).apply(table)
    if not shards:
        return dataset
    ends = np.cumsum([len(frame) for frame in frames])
    index = tuple(np.arange(end - len(frame), end) for frame, end in zip(frames, ends, strict=True))
    return dataclasses.replace(dataset, shards=index)


@runtime_checkable
class _Shaped(Protocol):
    """An array of any library."""

    @property
    def shape(self) -> tuple[int, ...]: ...


@runtime_checkable
class _Sparse(Protocol):
    """A sparse matrix of scipy."""

    def tocsr(self) -> Any: ...


def _shape_of(value: Any) -> tuple[int, ...]:
    return value.shape if isinstance(value, _Shaped) else np.shape(value)


def _is_pair(value: Any) -> bool:
    """Whether it is (X, y): two parts, of which the first has rows."""
    if not (isinstance(value, tuple) and len(value) == 2):
        return False
    shapes = [_shape_of(part) for part in value]
    return len(shapes[0]) == 2 and len(shapes[1]) == 1


def _joined(pairs: list[tuple[Any, Any]], *, shards: bool) -> Dataset:
    counts, widths = [], set()
    for number, (rows, labels) in enumerate(pairs):
        where = f"data[{number}]" if shards else "data"
        num_rows, width = _shape_of(rows)
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
    if all(isinstance(part, _Sparse) for part in parts):
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
