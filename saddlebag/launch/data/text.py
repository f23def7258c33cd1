"""Reading text: a file of lines, plain or compressed, or a folder with a file to train on and one to judge by.

What is read is bounded, decoded strictly, and refused with path and line where it is no text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from saddlebag.algorithms.networks.texts.text import Text
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.arrow import read_split, saved_splits
from saddlebag.launch.data.decoding import lines

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HELD_OUT", "file_of", "plain_lines", "read_text", "require_path", "split_of"]

HELD_OUT = 20
"""Of one file alone, its last twentieth judges."""
_TRAIN, _VALID = ("train",), ("valid", "dev", "test")  # in the order of preference; by any part of a file's name
_MAX_BYTES = 1 << 31  # of an unpacked file; WikiText-103 has 0.54e9
_COLUMN = "text"


def read_text(source: str, *, encoding: str = "", column: str = "") -> Text:
    """The lines of a corpus, stripped, blank ones left out.

    Args:
        source: the path of a file (packed or not), of a folder that holds one file with "train" in its name and one with
            "valid", "dev" or "test", or of a Hugging Face data set's folder (needs pyarrow).
        encoding: of files, see `saddlebag.launch.data.decoding`.
        column: of text, of a Hugging Face data set; "text" if empty.

    Raises:
        ConfigError: the source is a bundled set, or the folder is of a kind that needs a package.
        DataError: a file is missing, too large, or no text.
    """
    path = require_path(source, "the path of a text file or of a folder with train and valid files")
    splits = saved_splits(path)
    if column and splits is None:
        raise ConfigError(f"data.text_column is for folders that Hugging Face's datasets saved, got {source!r}")
    if splits:
        train, valid = (_saved_lines(path / split_of(path, splits, names), column) for names in (_TRAIN, _VALID))
    elif splits is None and path.is_dir():
        train, valid = (plain_lines(file_of(path, names), encoding) for names in (_TRAIN, _VALID))
    else:
        found = plain_lines(path, encoding) if splits is None else _saved_lines(path, column)
        held = max(1, len(found) // HELD_OUT)
        train, valid = found[:-held], found[-held:]
    if not train or not valid:
        raise DataError(f"{path}: must hold a line of text to train on and one to judge by, got {len(train)} and {len(valid)}")
    return Text(path.name.split(".")[0], tuple(train), tuple(valid))


def require_path(source: str, what: str) -> Path:
    """A path, not the name of a bundled set.

    Raises:
        ConfigError: there is nothing at the path.
    """
    path = Path(source)
    if not path.exists():
        raise ConfigError(f"data.source must be {what}, got {source!r}")
    return path


def split_of(folder: Path, splits: Sequence[str], names: Sequence[str]) -> str:
    """The first split whose name begins with one of these words.

    Raises:
        DataError: there is none.
    """
    for name in names:
        for split in splits:
            if split.startswith(name):
                return split
    raise DataError(f"{folder}: must have a split {' or '.join(map(repr, names))}, has {', '.join(splits)}")


def _saved_lines(folder: Path, column: str) -> list[str]:
    """The lines in the column of text of a saved split."""
    (texts,) = read_split(folder, {column or _COLUMN: "text"})
    return [line for text in texts for whole in text.split("\n") if (line := whole.strip())]


def file_of(folder: Path, names: Sequence[str]) -> Path:
    """The one file of a folder whose name has the first of these words that any has.

    Raises:
        DataError: there is none, or several.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file())
    for name in names:
        found = [file for file in files if name in file.name.lower()]
        if len(found) > 1:
            raise DataError(f"{folder}: must hold one file with {name!r} in its name, got {', '.join(f.name for f in found)}")
        if found:
            return found[0]
    raise DataError(f"{folder}: must hold a file with {' or '.join(map(repr, names))} in its name, got none")


def plain_lines(path: Path, encoding: str = "") -> list[str]:
    """The lines of a file of text, stripped, without blank ones.

    Raises:
        DataError: it is missing, damaged, too large or no text.
    """
    return [line for whole in lines(path, encoding, most=_MAX_BYTES) if (line := whole.strip())]
