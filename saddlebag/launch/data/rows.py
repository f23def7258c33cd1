"""Reading labelled data: the set that scikit-learn ships, and LIBSVM text files, plain or compressed."""

from __future__ import annotations

import array
import dataclasses
import math
import operator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from saddlebag.algorithms.problems import Dataset, DenseRows, SparseRows
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.bundled import bundled
from saddlebag.launch.data.decoding import lines, plain_name
from saddlebag.launch.data.typed import LARGEST, is_finite_number

if TYPE_CHECKING:
    from saddlebag.compression.payload import Vector

__all__ = ["LARGEST", "SOURCES", "LibsvmOptions", "load_data", "read_libsvm"]

SOURCES = ("breast_cancer", "diabetes", "libsvm")

MAX_FEATURES = 2**27
"""Largest index of a feature: a vector of so many float64 takes 1 GiB; the widest public LIBSVM sets have half of it."""


_MAX_ENTRIES = 1 << 28  # stored values, with their columns 4 GiB
_QUOTED = 30  # characters of a bad token that a message repeats


@dataclasses.dataclass(frozen=True, kw_only=True)
class LibsvmOptions:
    """How LIBSVM text is read.

    Attributes:
        first_index: where indices of features begin to count, 1 or 0.
        repeated: what an index that stands twice in a row means.
        positive: the label that becomes +1, all others -1; also where a row has several.
        labels: "numbers" to regress on them, "signs" for two values; "auto" regresses on more than two.
        encoding: see `saddlebag.launch.data.decoding`.
    """

    first_index: int = 1
    repeated: Literal["refuse", "sum", "last"] = "refuse"
    positive: str = ""
    labels: Literal["auto", "signs", "numbers"] = "auto"
    encoding: str = ""


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


def read_libsvm(path: str | Path, *, num_features: int | None = None, options: LibsvmOptions | None = None) -> Dataset:
    """Read `label [qid:id] index:value index:value ... [# remark]` lines; blank ones are skipped.

    Indices may stand in any order. The smaller of two labels becomes -1, the larger +1; more are numbers to regress on.

    Args:
        path: of the file, packed or not.
        num_features: width; by default the largest index.
        options: what else the file may do.

    Raises:
        ConfigError: `num_features` is out of range, or no label is `options.positive`.
        DataError: file, line and reason.
    """
    if num_features is not None and not 1 <= num_features <= MAX_FEATURES:
        raise ConfigError(f"num_features must lie in 1..{MAX_FEATURES}, got {num_features}")
    path, options = Path(path), options or LibsvmOptions()
    limit = (num_features or MAX_FEATURES) - 1
    labels: list[str] = []
    values, columns, ends = array.array("d"), array.array("q"), array.array("q", [0])
    remarks = ids = 0
    for number, line in enumerate(lines(path, options.encoding), 1):
        record, remark, _ = line.partition("#")
        remarks += bool(remark)
        tokens = record.split()
        if not tokens:
            continue
        try:
            labels.append(_parse_label(tokens, number))
            queried = len(tokens) > 1 and tokens[1].startswith("qid:")
            ids += queried
            row_indices, row_values = _parse_features(tokens[1 + queried :], limit, options)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        columns.extend(row_indices)
        values.extend(row_values)
        ends.append(len(values))
        if len(values) > _MAX_ENTRIES:
            raise DataError(f"{path}, line {number}: more than {_MAX_ENTRIES} features, the most that is read")
    index_E = np.array(columns, np.int64)
    width = num_features or int(index_E.max(initial=-1)) + 1
    if not width:
        raise DataError(f"{path}: no row has a feature" if labels else f"{path}: no rows; is the file empty?")
    rows = SparseRows(np.array(values, np.float64), index_E, np.array(ends, np.int64), width)
    told = ((remarks, "remarks (#) left out"), (ids, "query ids (qid) left out: rows are taken one by one"))
    notes = tuple(f"{path.name}: {count} {what}" for count, what in told if count)
    label_N, kind = signs_of(str(path), labels, options)
    notes = (f"{path.name}: {len(labels)} rows of {width} features; {kind}", *notes)
    return Dataset(plain_name(path).split(".")[0] or path.name, rows, label_N, notes=notes)


def _parse_label(tokens: list[str], number: int) -> str:
    """The label of a row as it is written: a number, or several behind commas."""
    label = tokens[0]
    for part in label.split(","):
        try:
            _parse_number(part, "label")
        except ValueError as error:
            raise ValueError(f"{error}{_other_kind(label) if number == 1 else ''}") from None
    return label


def _other_kind(token: str) -> str:
    """What else a file may be whose first word is no label, and what reads it."""
    if token[0] in "{[":
        return "; it seems to hold JSON; save it as CSV or Parquet"
    if token.lower().startswith("@relation"):
        return '; it seems to be an ARFF file: give data.format = "csv", data.comment = "@" and data.columns = [...]'
    if "," in token and ":" in token:
        return "; labels and features stand apart by blanks, not by commas"
    return "" if ":" in token else '; is it a table? Then give data.format = "csv" or "tsv"'


def _parse_features(tokens: list[str], limit: int, options: LibsvmOptions) -> tuple[list[int], list[float]]:
    """The columns, ascending, and values of a row, or `ValueError` with the reason."""
    pairs = [token.split(":") for token in tokens]
    try:
        indices = [int(index) - options.first_index for index, _ in pairs]
        values = [float(value) for _, value in pairs]
        well_formed = all(-LARGEST <= value <= LARGEST for value in values) and not any("_" in token for token in tokens)
    except ValueError:
        well_formed = False
    if not well_formed:  # the same once more, to say where
        for pair in pairs:
            if len(pair) != 2:
                raise ValueError(f"a feature must read index:value, got {_quote(':'.join(pair))}")
            _parse_index(pair[0])
            _parse_number(pair[1], "value", f" (feature {int(pair[0])})")
    if not all(map(operator.lt, indices, indices[1:])):
        indices, values = _ordered(indices, values, options)
    if indices and indices[0] < 0:
        wrong = indices[0] + options.first_index
        hint = "; if the file counts from 0, give data.first_index = 0" if wrong == 0 else ""
        raise ValueError(f"indices count from {options.first_index}, got {wrong}{hint}")
    if indices and indices[-1] > limit:
        wrong = indices[-1] + options.first_index
        raise ValueError(f"index {wrong} exceeds the width {limit + 1}; data.num_features is the width of all rows")
    return indices, values


def _ordered(indices: list[int], values: list[float], options: LibsvmOptions) -> tuple[list[int], list[float]]:
    """A row in the order of its indices, each of them once."""
    found: dict[int, float] = {}
    for index, value in zip(indices, values, strict=True):
        if index in found and options.repeated == "refuse":
            hint = 'data.repeated = "sum" or "last" says what counts'
            raise ValueError(f"index {index + options.first_index} stands twice in the row; {hint}")
        found[index] = value + (found.get(index, 0.0) if options.repeated == "sum" else 0.0)
    if not all(abs(value) <= LARGEST for value in found.values()):
        raise ValueError(f"the values of an index must sum to {LARGEST:g} at most in size; scale the data")
    return sorted(found), [found[index] for index in sorted(found)]


def _parse_index(token: str) -> None:
    try:
        int(token)
    except ValueError:
        raise ValueError(f"index must be a whole number, got {_quote(token)}") from None
    if "_" in token:
        raise ValueError(f"index must be a whole number, got {_quote(token)}")


def _parse_number(token: str, what: str, where: str = "") -> float:
    try:
        value = float(token)
    except ValueError:
        value = math.nan
    if "_" in token or not math.isfinite(value):  # Python reads 1_0 as 10
        raise ValueError(f"{what} must be a finite number, got {_quote(token)}{where}")
    if abs(value) > LARGEST:
        raise ValueError(f"{what} must be a number of size {LARGEST:g} at most, got {_quote(token)}{where}; scale the data")
    return value


def _quote(token: str) -> str:
    return repr(token if len(token) <= _QUOTED else token[:_QUOTED] + "...")


def signs_of(where: str, labels: list[str], options: LibsvmOptions) -> tuple[Vector, str]:
    """Labels as the options ask, and what they are in words.

    Raises:
        ConfigError: no label is the positive one.
        DataError: they are several behind commas without a positive one, or not two.
    """
    if options.positive:
        wanted = float(options.positive) if is_finite_number(options.positive) else math.nan
        holds = {label: any(float(part) == wanted for part in label.split(",")) for label in set(labels)}
        if not any(holds.values()):
            raise ConfigError(f"data.positive {options.positive!r} is no label of {where}; it has {_some(labels)}")
        return np.array([1.0 if holds[label] else -1.0 for label in labels]), f"label {options.positive} against all others"
    several = next((row for row, label in enumerate(labels) if "," in label), None)
    if several is not None:
        raise DataError(
            f'{where}: row {several + 1} has several labels, {_quote(labels[several])}; data.positive = "..." sets one of '
            "them against all others"
        )
    label_N = np.array([float(label) for label in labels], np.float64)
    distinct = np.unique(label_N)
    if options.labels != "numbers" and len(distinct) == 2:
        return np.where(label_N == distinct[1], 1.0, -1.0), f"labels {distinct[0]:g} and {distinct[1]:g} as -1 and +1"
    if options.labels == "numbers" or (options.labels == "auto" and len(distinct) > 2):
        return label_N, f"{len(distinct)} different labels, numbers to regress on"
    shown = ", ".join(f"{label:g}" for label in distinct[:5]) + (", ..." if len(distinct) > 5 else "")
    raise DataError(f"{where}: a binary problem needs two different labels, got {len(distinct)}: {shown}")


def _some(labels: list[str]) -> str:
    return ", ".join(sorted({part for label in labels for part in label.split(",")})[:12])
