"""Reading folders that Hugging Face's `datasets` saved (`save_to_disk`): Arrow files, named by a JSON beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlebag.errors import DataError
from saddlebag.launch.data.parquet import readable, require_arrow
from saddlebag.proto.ordinary import ordinary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["columns_of", "read_split", "saved_splits"]

_SPLITS, _STATE = "dataset_dict.json", "state.json"
_MOST_BYTES = 1 << 31  # of a split, unpacked, as of a file of text
_MOST_JSON_BYTES = 1 << 24  # some hundred bytes for each file of a split
_STRINGS = ("string", "large_string")
_KINDS = {
    "text": _STRINGS,
    "label": (*(f"{sign}int{bits}" for bits in (64, 32, 16, 8) for sign in ("", "u")), "bool", *_STRINGS),
}
_LONGEST_LABEL = 200  # of a dictionary, where one text may stand for any number of rows
_QUOTED = 60  # characters of something unexpected that a message repeats


def saved_splits(folder: Path) -> tuple[str, ...] | None:
    """The names of the splits that were saved here; none for a data set of one split; None where nothing was saved.

    Raises:
        DataError: the JSON is malformed.
    """
    if (folder / _SPLITS).is_file():
        names = _json(folder / _SPLITS).get("splits")
        if not isinstance(names, list) or not all(isinstance(name, str) and _plain(name) for name in names):
            raise DataError(f"{folder / _SPLITS}: 'splits' must be a list of names of folders, got {str(names)[:_QUOTED]}")
        return tuple(names)
    return () if (folder / _STATE).is_file() else None


def columns_of(folder: Path) -> list[str]:
    """Names of the columns of a split.

    Raises:
        ConfigError: the package pyarrow is not installed.
        DataError: a file is missing or malformed.
    """
    for batch, _ in _batches(folder):
        return list(batch.schema.names)
    raise DataError(f"{folder}: has no rows")


def read_split(folder: Path, columns: Mapping[str, str]) -> list[list[Any]]:
    """Whole columns of one split, as Python values, none of them missing.

    Args:
        folder: of the split.
        columns: for each name what it must hold, "text" or "label": a whole number, a truth value or text.

    Raises:
        ConfigError: the package pyarrow is not installed.
        DataError: a file is missing or malformed, or lacks a column.
    """
    found: list[list[Any]] = [[] for _ in columns]
    for batch, path in _batches(folder):
        with readable(path):
            _append(batch, columns, found, path)
    return found


def _batches(folder: Path) -> Iterator[tuple[Any, Path]]:
    """The batches of a split's files with their paths, within bounds."""
    arrow = require_arrow(folder)
    files = _json(folder / _STATE).get("_data_files")
    if not isinstance(files, list) or not all(isinstance(file, dict) and _plain(file.get("filename")) for file in files):
        raise DataError(f"{folder / _STATE}: '_data_files' must be a list of file names, got {str(files)[:_QUOTED]}")
    num_bytes = 0
    for file in files:
        path = folder / file["filename"]
        with readable(path), arrow.OSFile(str(path)) as source, arrow.ipc.open_stream(source) as batches:
            for batch in batches:
                num_bytes += batch.get_total_buffer_size()
                if num_bytes > _MOST_BYTES:
                    raise DataError(f"{path}: with it the split has more than {_MOST_BYTES} bytes, the most that is read")
                yield batch, path


def _append(batch: Any, columns: Mapping[str, str], found: list[list[Any]], path: Path) -> None:
    """Add a batch's values, after a look at their buffers: what a file says of itself need not be true."""
    for values, (name, kind) in zip(found, columns.items(), strict=True):
        if batch.schema.names.count(name) != 1:
            has = ", ".join(batch.schema.names)[:_QUOTED]
            raise DataError(f'{path}: must have one column {name!r}, has {has}; data.{kind}_column = "..." names another')
        column = batch.column(name)
        column.validate(full=True)  # lengths, offsets and UTF-8; they are followed blindly afterwards
        kinds = _KINDS[kind]
        coded = kind == "label" and str(column.type).startswith("dictionary")
        held = column.type.value_type if coded else column.type
        if str(held) not in kinds:
            raise DataError(f"{path}: column {name!r} must be of type {' or '.join(kinds)}, got {str(column.type)[:_QUOTED]}")
        if column.null_count:
            raise DataError(f"{path}: column {name!r} must have no missing values, got {column.null_count}")
        if coded and max((len(str(value)) for value in column.dictionary.to_pylist()), default=0) > _LONGEST_LABEL:
            raise DataError(
                f"{path}: column {name!r} has a label of more than {_LONGEST_LABEL} characters, the most that is read"
            )
        values.extend(column.to_pylist())


def _plain(name: object) -> bool:
    """Whether it names something in its folder, not elsewhere."""
    return isinstance(name, str) and name not in ("", ".", "..") and "\0" not in name and Path(name).name == name


def _json(path: Path) -> dict[str, Any]:
    try:
        with ordinary(path).open("rb") as file:
            text = file.read(_MOST_JSON_BYTES + 1)
        found = json.loads(text) if len(text) <= _MOST_JSON_BYTES else None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError):
        raise DataError(f"{path}: is no JSON") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: must be a JSON object of {_MOST_JSON_BYTES} bytes at most")
    return found
