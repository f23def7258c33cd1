"""Reading labelled data: the set that scikit-learn ships, and LIBSVM text files, plain or compressed."""

from __future__ import annotations

import array
import bz2
import gzip
import itertools
import lzma
import math
import operator
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.problems import Dataset, DenseRows, SparseRows
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.bundled import bundled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from saddlebag.compression.payload import Vector

__all__ = ["LARGEST", "SOURCES", "lines_of", "load_data", "read_libsvm"]

SOURCES = ("breast_cancer", "diabetes", "libsvm")

LARGEST = 1e50
"""Of a value: Lipschitz constants are sums of squares of values, and steps divide by their products; these stay finite."""
MAX_FEATURES = 2**27
"""Largest index of a feature: a vector of so many float64 takes 1 GiB; the widest public LIBSVM sets have half of it."""


def _open_plain(path: Path) -> IO[bytes]:
    return path.open("rb")


_OPENERS: dict[str, Callable[[Path], IO[bytes] | gzip.GzipFile]] = {
    ".bz2": bz2.BZ2File,
    ".gz": gzip.GzipFile,
    ".xz": lzma.LZMAFile,
}

_QUOTED = 30  # characters of a bad token that a message repeats


def load_data(source: str, *, path: str | Path | None = None, num_features: int | None = None) -> Dataset:
    """Read a data set.

    Args:
        source: "breast_cancer" (569 x 30, dense; +1 is benign), "diabetes" (442 x 10, dense; a number to regress on) or
            "libsvm" (see `read_libsvm`).
        path: of the LIBSVM file.
        num_features: its width, where the file does not use the last features.

    Raises:
        ConfigError: the source is unknown, or an argument does not fit it.
        DataError: the file is missing or malformed.
    """
    if source not in SOURCES:
        raise ConfigError(f"unknown data source {source!r}; known: {', '.join(SOURCES)} (with a path)")
    if source == "libsvm":
        if path is None:
            raise ConfigError("data source 'libsvm' needs a path")
        return read_libsvm(path, num_features=num_features)
    if path is not None or num_features is not None:
        raise ConfigError(f"data source {source!r} takes neither path nor num_features")
    return _breast_cancer() if source == "breast_cancer" else _diabetes()


def _breast_cancer() -> Dataset:
    rows_NF, label_N = bundled("breast_cancer")
    return Dataset("breast_cancer", DenseRows(rows_NF), np.where(label_N == 1, 1.0, -1.0))


def _diabetes() -> Dataset:
    rows_NF, target_N = bundled("diabetes")
    return Dataset("diabetes", DenseRows(rows_NF), target_N)


def read_libsvm(path: str | Path, *, num_features: int | None = None) -> Dataset:
    """Read `label index:value index:value ...` lines; indices count from 1 and ascend, blank lines are skipped.

    The suffixes .xz, .gz and .bz2 are decompressed. The smaller of the two labels becomes -1, the larger +1.

    Args:
        path: of the file.
        num_features: width; by default the largest index.

    Raises:
        ConfigError: `num_features` is out of range.
        DataError: file, line and reason.
    """
    if num_features is not None and not 1 <= num_features <= MAX_FEATURES:
        raise ConfigError(f"num_features must lie in 1..{MAX_FEATURES}, got {num_features}")
    path = Path(path)
    limit = num_features or MAX_FEATURES
    labels, values, columns = array.array("d"), array.array("d"), array.array("q")
    ends = array.array("q", [0])
    for number, line in enumerate(lines_of(path), 1):
        tokens = line.split()
        if not tokens:
            continue
        try:
            labels.append(_parse_number(tokens[0], "label"))
            row_indices, row_values = _parse_features(tokens[1:], limit)
        except ValueError as error:
            reason = error if line.isascii() else "not ASCII text; is the file compressed? Then name it .xz, .gz or .bz2"
            raise DataError(f"{path}, line {number}: {reason}") from None
        columns.extend(row_indices)
        values.extend(row_values)
        ends.append(len(values))
    index_E = np.array(columns, np.int64)
    width = num_features or int(index_E.max(initial=0))
    if not width:
        raise DataError(f"{path}: no row has a feature" if labels else f"{path}: no rows; is the file empty?")
    rows = SparseRows(np.array(values, np.float64), index_E - 1, np.array(ends, np.int64), width)
    return Dataset(path.name.split(".")[0] or path.name, rows, _signs(path, np.array(labels, np.float64)))


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file, decompressed; trouble with the file becomes a `DataError`."""
    try:
        with _OPENERS.get(path.suffix, _open_plain)(path) as file:
            yield from file
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read: {reason}") from error


def _parse_features(tokens: list[bytes], limit: int) -> tuple[list[int], list[float]]:
    """The indices and values of a row, or `ValueError` with the reason."""
    pairs = [token.split(b":") for token in tokens]
    try:
        indices = [int(index) for index, _ in pairs]
        values = [float(value) for _, value in pairs]
        well_formed = all(-LARGEST <= value <= LARGEST for value in values) and not any(b"_" in token for token in tokens)
    except ValueError:
        well_formed = False
    if not well_formed:  # the same once more, to say where
        for pair in pairs:
            if len(pair) != 2:
                raise ValueError(f"a feature must read index:value, got {_quote(b':'.join(pair))}")
            _parse_index(pair[0])
            _parse_number(pair[1], "value", f" (feature {int(pair[0])})")
    if indices and indices[0] < 1:
        raise ValueError(f"indices count from 1, got {indices[0]}")
    if not all(map(operator.lt, indices, indices[1:])):
        first, second = next(pair for pair in itertools.pairwise(indices) if pair[0] >= pair[1])
        raise ValueError(f"indices must ascend, got {second} after {first}")
    if indices and indices[-1] > limit:
        raise ValueError(f"index {indices[-1]} exceeds the width {limit}")
    return indices, values


def _parse_index(token: bytes) -> None:
    try:
        int(token)
    except ValueError:
        raise ValueError(f"index must be a whole number, got {_quote(token)}") from None
    if b"_" in token:
        raise ValueError(f"index must be a whole number, got {_quote(token)}")


def _parse_number(token: bytes, what: str, where: str = "") -> float:
    try:
        value = float(token)
    except ValueError:
        value = math.nan
    if b"_" in token or not math.isfinite(value):  # Python reads 1_0 as 10
        raise ValueError(f"{what} must be a finite number, got {_quote(token)}{where}")
    if abs(value) > LARGEST:
        raise ValueError(f"{what} must be a number of size {LARGEST:g} at most, got {_quote(token)}{where}; scale the data")
    return value


def _quote(token: bytes) -> str:
    text = token.decode("ascii", "backslashreplace")
    return repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "...")


def _signs(path: Path, label_N: Vector) -> Vector:
    """Two labels as -1 and +1, in their order."""
    distinct = np.unique(label_N)
    if len(distinct) != 2:
        shown = ", ".join(f"{label:g}" for label in distinct[:5]) + (", ..." if len(distinct) > 5 else "")
        raise DataError(f"{path}: a binary problem needs two different labels, got {len(distinct)}: {shown}")
    return np.where(label_N == distinct[1], 1.0, -1.0)
