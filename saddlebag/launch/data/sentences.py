"""Reading labelled sentences: tab-separated files with a header, as GLUE publishes SST-2, plain or compressed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saddlebag.algorithms.networks.text import Sentences
from saddlebag.errors import DataError
from saddlebag.launch.data.arrow import read_split, saved_splits
from saddlebag.launch.data.text import decoded_lines, file_of, require_path, split_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_sentences"]

_COLUMNS = ("sentence", "label")
_TRAIN, _DEV = ("train",), ("dev", "valid")
_MAX_CLASSES = 1000
_HELD_OUT = 10  # of one file alone, every tenth sentence judges
_QUOTED = 30  # characters of a bad field that a message repeats


def read_sentences(source: str) -> Sentences:
    """Sentences with classes from a file `sentence<TAB>label`, or a folder with one such file for train and one for dev.

    Or a folder that Hugging Face's `datasets` saved with these columns (needs pyarrow).
    Labels are whole numbers from 0. Quotes are ordinary characters. Files without labels (GLUE's test.tsv) are not read.

    Raises:
        ConfigError: the source is no path.
        DataError: a file is missing or malformed; path, line and reason.
    """
    path = require_path(source, "the path of a file of sentences and labels (.tsv), or of a folder with train and dev files")
    splits = saved_splits(path)
    if splits:
        (train, train_labels), (dev, dev_labels) = (_saved(path / split_of(path, splits, names)) for names in (_TRAIN, _DEV))
        return Sentences(path.name, train, train_labels, dev, dev_labels)
    if splits is None and path.is_dir():
        (train, train_labels), (dev, dev_labels) = (_read(file_of(path, names)) for names in (_TRAIN, _DEV))
        return Sentences(path.name, train, train_labels, dev, dev_labels)
    sentences, labels = _read(path) if splits is None else _saved(path)
    if len(sentences) < 2:
        raise DataError(f"{path}: must hold two sentences, one to train on and one to judge by, got {len(sentences)}")
    held = range(0, len(sentences), _HELD_OUT)
    kept = [row for row in range(len(sentences)) if row % _HELD_OUT]
    columns = [tuple(column[row] for row in rows) for rows in (kept, held) for column in (sentences, labels)]
    return Sentences(path.name.split(".")[0], columns[0], columns[1], columns[2], columns[3])  # type: ignore[arg-type]


def _read(path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The sentences and labels of one file."""
    lines = [(number, line.removesuffix("\r")) for number, line in decoded_lines(path) if line.strip()]
    if not lines or lines[0][1].split("\t") != list(_COLUMNS):
        shown = _quote(lines[0][1]) if lines else "an empty file"
        raise DataError(f"{path}: the first line must be {'<TAB>'.join(_COLUMNS)}, got {shown}")
    sentences, labels = [], []
    for number, line in lines[1:]:
        fields = line.split("\t")
        if len(fields) != len(_COLUMNS):
            raise DataError(f"{path}, line {number}: must hold a sentence, a tab and a label, got {len(fields)} fields")
        sentence, label = fields[0].strip(), fields[1].strip()
        if not sentence:
            raise DataError(f"{path}, line {number}: the sentence is empty")
        if not (label.isascii() and label.isdecimal() and len(label) < 9 and int(label) < _MAX_CLASSES):
            raise DataError(
                f"{path}, line {number}: the label must be a whole number below {_MAX_CLASSES}, got {_quote(label)}"
            )
        sentences.append(sentence)
        labels.append(int(label))
    if not sentences:
        raise DataError(f"{path}: holds no sentences")
    return tuple(sentences), tuple(labels)


def _saved(folder: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The sentences and labels of a split that the library datasets saved."""
    sentences, labels = read_split(folder, dict(zip(_COLUMNS, ("string", "int64"), strict=True)))
    for row, (sentence, label) in enumerate(zip(sentences, labels, strict=True)):
        if not (sentence.strip() and 0 <= label < _MAX_CLASSES):
            raise DataError(
                f"{folder}, row {row}: must be a sentence and a label in 0..{_MAX_CLASSES - 1}, got {_quote(str(label))}"
            )
    return tuple(sentences), tuple(labels)


def _quote(text: str) -> str:
    return repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "...")
