"""Reading labelled sentences: tables of text with a header, as GLUE publishes SST-2, and folders of Hugging Face's datasets."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from saddlebag.algorithms.networks.texts.text import Sentences
from saddlebag.errors import DataError
from saddlebag.launch.data.arrow import columns_of, read_split, saved_splits
from saddlebag.launch.data.decoding import plain_name
from saddlebag.launch.data.delimited import read_delimited
from saddlebag.launch.data.text import file_of, require_path, split_of
from saddlebag.launch.recipe.table_options import TableOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    Labelled = tuple[tuple[str, ...], tuple[Any, ...]]

__all__ = ["SentenceOptions", "read_sentences"]

_TEXTS, _LABELS = ("sentence", "text"), ("label",)  # the columns' usual names, in the order of preference
_TRAIN, _DEV = ("train",), ("dev", "valid", "test")
_MAX_CLASSES = 1000
_HELD_OUT = 10  # of one file alone, every tenth sentence judges
_QUOTED = 30  # characters of a bad field that a message repeats


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentenceOptions:
    """How sentences are read.

    Attributes:
        text_column, label_column: their columns; empty for "sentence" or "text", and "label".
        encoding: of files, see `saddlebag.launch.data.decoding`.
        quotes: as in `TableOptions`; empty for "csv" in .csv, and "none" elsewhere, as GLUE writes.
    """

    text_column: str = ""
    label_column: str = ""
    encoding: str = ""
    quotes: Literal["", "csv", "none"] = ""

    @classmethod
    def of(cls, data: Any) -> SentenceOptions:
        """Those of a recipe's section."""
        given = data.options()
        return cls(**{field.name: given[field.name] for field in dataclasses.fields(cls) if field.name in given})

    def columns(self, names: Sequence[str], where: Path) -> tuple[str, str]:
        """The columns of text and of labels among those of a file.

        Raises:
            DataError: one is missing, with the options that name it.
        """
        asked = (([self.text_column], _TEXTS, "text_column"), ([self.label_column], _LABELS, "label_column"))
        found = []
        for (own,), usual, option in asked:
            column = next((name for name in ((own,) if own else usual) if name in names), None)
            if column is None:
                wanted = repr(own) if own else " or ".join(map(repr, usual))
                has = ", ".join(map(_quote, names))
                raise DataError(f'{where}: must have a column {wanted}, has {has}; data.{option} = "..." names another')
            found.append(column)
        return found[0], found[1]


def read_sentences(source: str, options: SentenceOptions | None = None) -> Sentences:
    """Sentences with classes from a file with a header, or a folder with one such file for train and one for dev.

    Or a folder that Hugging Face's `datasets` saved (needs pyarrow). Labels are whole numbers from 0, or words, which are
    numbered in their order. Files without labels (GLUE's test.tsv) are not read.

    Raises:
        ConfigError: the source is no path.
        DataError: a file is missing or malformed; path, line and reason.
    """
    options = options or SentenceOptions()
    path = require_path(source, "the path of a file of sentences and labels (.tsv), or of a folder with train and dev files")
    splits = saved_splits(path)
    if splits:
        parts = [_saved(path / split_of(path, splits, names), options) for names in (_TRAIN, _DEV)]
    elif splits is None and path.is_dir():
        parts = [_read(file_of(path, names), options) for names in (_TRAIN, _DEV)]
    else:
        parts = _held_out(path, _read(path, options) if splits is None else _saved(path, options))
    (train, train_labels), (dev, dev_labels) = parts
    (train_classes, dev_classes), notes = _classes(path, train_labels, dev_labels)
    whole = splits or (splits is None and path.is_dir())
    return Sentences(path.name if whole else path.name.split(".")[0], train, train_classes, dev, dev_classes, notes=notes)


def _held_out(path: Path, whole: Labelled) -> list[Labelled]:
    sentences, labels = whole
    if len(sentences) < 2:
        raise DataError(f"{path}: must hold two sentences, one to train on and one to judge by, got {len(sentences)}")
    held = range(0, len(sentences), _HELD_OUT)
    kept = [row for row in range(len(sentences)) if row % _HELD_OUT]
    return [(tuple(sentences[row] for row in rows), tuple(labels[row] for row in rows)) for rows in (kept, held)]


def _read(path: Path, options: SentenceOptions) -> Labelled:
    """The sentences and labels of one file, labels as text."""
    commas = plain_name(path).lower().endswith(".csv")
    table = read_delimited(
        path,
        TableOptions(
            delimiter="," if commas else "\t", quotes=options.quotes or ("csv" if commas else "none"), encoding=options.encoding
        ),
    )
    texts, labels = (table.columns[name] for name in options.columns(list(table.columns), path))
    for number, sentence, label in zip(table.numbers, texts, labels, strict=True):
        if not sentence:
            raise DataError(f"{path}, line {number}: the sentence is empty")
        _require_label(label, f"{path}, line {number}")
    return tuple(texts), tuple(labels)


def _saved(folder: Path, options: SentenceOptions) -> Labelled:
    """The sentences and labels of a split that the library datasets saved."""
    text, label = options.columns(columns_of(folder), folder)
    sentences, labels = read_split(folder, {text: "text", label: "label"})
    for row, (sentence, known) in enumerate(zip(sentences, labels, strict=True)):
        if not sentence.strip():
            raise DataError(f"{folder}, row {row}: the sentence is empty")
        _require_label(known, f"{folder}, row {row}")
    return tuple(sentences), tuple(labels)


def _require_label(label: Any, where: str) -> None:
    """Refuse no label, and a number that is no class."""
    if label == "" or not 0 <= (_whole(label) or 0) < _MAX_CLASSES:
        raise DataError(f"{where}: the label must be a word or a whole number below {_MAX_CLASSES}, got {_quote(str(label))}")


def _classes(path: Path, *parts: Sequence[Any]) -> tuple[list[tuple[int, ...]], tuple[str, ...]]:
    """Labels as classes: whole numbers as they are, words by their order in all parts together."""
    known, notes = {label for part in parts for label in part}, list[str]()
    numbers = {label: _whole(label) for label in known}
    if all(number is not None for number in numbers.values()):
        classes = {label: number or 0 for label, number in numbers.items()}
    else:
        words = sorted(map(str, known))
        if len(words) > _MAX_CLASSES:
            raise DataError(f"{path}: the labels are {len(words)} words, of which {_MAX_CLASSES} at most are read")
        odd = sum(number is not None for number in numbers.values())
        if odd:
            shown = next(label for label, number in numbers.items() if number is None)
            raise DataError(f"{path}: labels must all be whole numbers or all be words, got {_quote(str(shown))} among numbers")
        classes = {label: words.index(str(label)) for label in known}
        notes.append(f"{path.name}: classes: " + ", ".join(f"{number} = {word}" for number, word in enumerate(words[:12])))
    return [tuple(classes[label] for label in part) for part in parts], tuple(notes)


def _whole(label: Any) -> int | None:
    """A label as a whole number; None for words."""
    if isinstance(label, int):
        return int(label)
    text = str(label)
    text = text[:-2] if text.endswith(".0") else text
    sign = text.removeprefix("-")
    return (int(text) if len(sign) < 9 else _MAX_CLASSES) if sign.isascii() and sign.isdecimal() else None


def _quote(text: str) -> str:
    return repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "...")
