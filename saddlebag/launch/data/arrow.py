"""Reading folders that Hugging Face's `datasets` saved (`save_to_disk`): Arrow files, named by a JSON beside them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["read_split", "saved_splits"]

_SPLITS, _STATE = "dataset_dict.json", "state.json"
_MOST_BYTES = 1 << 31  # of a split, unpacked, as of a file of text
_MOST_JSON_BYTES = 1 << 24  # some hundred bytes for each file of a split
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


def read_split(folder: Path, columns: Mapping[str, str]) -> list[list[Any]]:
    """Whole columns of one split, as Python values, none of them missing.

    Args:
        folder: of the split.
        columns: for each name the type it must have, "string" or "int64".

    Raises:
        ConfigError: the package pyarrow is not installed.
        DataError: a file is missing or malformed, or lacks a column.
    """
    try:
        arrow: Any = importlib.import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise ConfigError(f"{folder}: Arrow files need the package pyarrow; pip install 'saddlebag[arrow]'") from error
    files = _json(folder / _STATE).get("_data_files")
    if not isinstance(files, list) or not all(isinstance(file, dict) and _plain(file.get("filename")) for file in files):
        raise DataError(f"{folder / _STATE}: '_data_files' must be a list of file names, got {str(files)[:_QUOTED]}")
    found: list[list[Any]] = [[] for _ in columns]
    num_bytes = 0
    for file in files:
        path = folder / file["filename"]
        try:
            with arrow.OSFile(str(path)) as source, arrow.ipc.open_stream(source) as batches:
                for batch in batches:
                    num_bytes += batch.get_total_buffer_size()
                    if num_bytes > _MOST_BYTES:
                        raise DataError(f"{path}: with it the split has more than {_MOST_BYTES} bytes, the most that is read")
                    _append(batch, columns, found, path)
        except (OSError, MemoryError, arrow.ArrowException) as error:
            raise DataError(f"{path}: cannot be read: {(str(error).splitlines() or ['damaged'])[0]}") from error
    return found


def _append(batch: Any, columns: Mapping[str, str], found: list[list[Any]], path: Path) -> None:
    """Add a batch's values, after a look at their buffers: what a file says of itself need not be true."""
    for values, (name, kind) in zip(found, columns.items(), strict=True):
        if batch.schema.names.count(name) != 1:
            raise DataError(f"{path}: must have one column {name!r}, has {', '.join(batch.schema.names)[:_QUOTED]}")
        column = batch.column(name)
        if str(column.type) != kind:
            raise DataError(f"{path}: column {name!r} must be of type {kind}, got {str(column.type)[:_QUOTED]}")
        column.validate(full=True)  # lengths, offsets and UTF-8; they are followed blindly afterwards
        if column.null_count:
            raise DataError(f"{path}: column {name!r} must have no missing values, got {column.null_count}")
        values.extend(column.to_pylist())


def _plain(name: object) -> bool:
    """Whether it names something in its folder, not elsewhere."""
    return isinstance(name, str) and name not in ("", ".", "..") and "\0" not in name and Path(name).name == name


def _json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_JSON_BYTES + 1)
        found = json.loads(text) if len(text) <= _MOST_JSON_BYTES else None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError):
        raise DataError(f"{path}: is no JSON") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: must be a JSON object of {_MOST_JSON_BYTES} bytes at most")
    return found
