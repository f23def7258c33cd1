"""Reading folders that Hugging Face's `datasets` saved (`save_to_disk`): Arrow files, named by a JSON beside them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["read_split", "saved_splits"]

_SPLITS, _STATE = "dataset_dict.json", "state.json"
_MOST_ROWS = 1 << 27


def saved_splits(folder: Path) -> tuple[str, ...] | None:
    """The names of the splits that were saved here; none for a data set of one split; None where nothing was saved.

    Raises:
        DataError: the JSON is malformed.
    """
    if (folder / _SPLITS).is_file():
        names = _json(folder / _SPLITS).get("splits")
        if not isinstance(names, list) or not all(isinstance(name, str) and _plain(name) for name in names):
            raise DataError(f"{folder / _SPLITS}: 'splits' must be a list of names of folders, got {str(names)[:60]}")
        return tuple(names)
    return () if (folder / _STATE).is_file() else None


def read_split(folder: Path, columns: Sequence[str]) -> list[list[Any]]:
    """Whole columns of one split, as Python values, none of them missing.

    Raises:
        ConfigError: the package pyarrow is not installed.
        DataError: a file is missing or malformed, or lacks a column.
    """
    try:
        arrow: Any = importlib.import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise ConfigError(f"{folder} holds Arrow files, which need the package pyarrow; pip install pyarrow") from error
    files = _json(folder / _STATE).get("_data_files")
    if not isinstance(files, list) or not all(isinstance(file, dict) and _plain(file.get("filename")) for file in files):
        raise DataError(f"{folder / _STATE}: '_data_files' must be a list of file names, got {str(files)[:60]}")
    found: list[list[Any]] = [[] for _ in columns]
    for file in files:
        path = folder / file["filename"]
        try:
            with arrow.OSFile(str(path)) as source:
                table = arrow.ipc.open_stream(source).read_all()
        except (OSError, arrow.ArrowException) as error:
            raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
        for values, name in zip(found, columns, strict=True):
            if name not in table.column_names:
                raise DataError(f"{path}: must have a column {name!r}, has {', '.join(table.column_names)}")
            values.extend(table.column(name).to_pylist())
    for values, name in zip(found, columns, strict=True):
        if None in values or len(values) > _MOST_ROWS:
            raise DataError(f"{folder}: column {name!r} must have no missing values and {_MOST_ROWS} rows at most")
    return found


def _plain(name: object) -> bool:
    """Whether it names something in its folder, not elsewhere."""
    return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError):
        raise DataError(f"{path}: is no JSON") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: must be a JSON object")
    return found
