"""From `data.source` to data: one reader for each kind of data that problems ask for.

A problem's factory says what it `Reads`, a key of `READERS`; one that does not reads labelled rows. An option that the
reader would ignore is refused.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.method_capabilities import Reads
from saddlebag.errors import ConfigError
from saddlebag.launch.data.images import read_images
from saddlebag.launch.data.rows import LibsvmOptions, load_data, read_libsvm
from saddlebag.launch.data.sentences import SentenceOptions, read_sentences
from saddlebag.launch.data.tables import is_table, read_tabular
from saddlebag.launch.data.text import read_text
from saddlebag.launch.recipe.fields import unknown
from saddlebag.launch.recipe.sections import BUNDLED, DataSection
from saddlebag.launch.recipe.table_options import TableOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from saddlebag.algorithms.problems.data.rows import Dataset

__all__ = ["READERS", "build_data", "read_data", "read_rows"]


def read_data(factory: Callable[..., Any], data: DataSection) -> Any:
    """The data of a section, as the problem's factory wants them.

    Raises:
        ConfigError: a key does not fit the source or the reader, or there is no such reader.
        DataError: the file is missing or malformed.
    """
    kind = factory.reads if isinstance(factory, Reads) else "rows"
    if kind not in READERS:
        raise unknown(f"problem.name: the problem reads {kind!r}, for which there is no reader", kind, READERS)
    if kind != "rows" and (data.target or data.drop or data.num_features is not None):
        raise ConfigError(f"data.target, data.drop and data.num_features are for rows; this problem reads {kind}")
    _require_taken(data, _TAKEN.get(kind, ()), f"this problem reads {kind}")
    return READERS[kind](data)


def build_data(
    source: str, num_features: int | None = None, *, target: str = "", drop: Sequence[str] = (), **options: Any
) -> Dataset:
    """A bundled data set, or a file by its path; `options` are those of `DataSection`. See `read_rows`.

    Raises:
        ConfigError: an argument does not fit the source, or names no column.
        DataError: the file is missing or malformed.
    """
    return read_rows(DataSection(source=source, num_features=num_features, target=target, drop=list(drop), **options))


def read_rows(data: DataSection) -> Dataset:
    """A bundled data set; or a file, packed or not: a table (.csv, .tsv, .parquet, adult.data) or LIBSVM text.

    What a file is, its name says, or `data.format`.

    Raises:
        ConfigError: a key does not fit the source, or names no column.
        DataError: the file is missing or malformed.
    """
    tabular = data.source not in BUNDLED and (
        data.format in ("csv", "tsv", "parquet") or (not data.format and is_table(data.source))
    )
    if not tabular and (data.target or data.drop):
        raise ConfigError(f"data.target and data.drop are for tables (.csv, .tsv, .parquet, adult.data), got {data.source!r}")
    if tabular:
        if data.num_features is not None:
            raise ConfigError(f"data.num_features is for LIBSVM files, got {data.num_features} for the table {data.source!r}")
        _require_taken(data, (*_TABLE, "target", "positive", "labels", "format"), f"{data.source!r} is a table")
        options: TableOptions = data
        if data.format == "tsv" and not data.delimiter:
            options = dataclasses.replace(data, delimiter="\t")
        return read_tabular(
            data.source, target=data.target, drop=data.drop, positive=data.positive, labels=data.labels, options=options
        )
    if data.source in BUNDLED:
        _require_taken(data, (), f"{data.source!r} is a bundled set")
        return load_data(data.source)
    names = [field.name for field in dataclasses.fields(LibsvmOptions)]
    _require_taken(data, (*names, "format"), f"{data.source!r} is read as LIBSVM text (data.format says otherwise)")
    return read_libsvm(
        data.source, num_features=data.num_features, options=LibsvmOptions(**{name: getattr(data, name) for name in names})
    )


def _require_taken(data: DataSection, taken: Sequence[str], why: str) -> None:
    """Refuse an option that would be ignored."""
    for name in data.options():
        if name not in taken:
            hint = f"; there it is data.{_TWINS[name]}" if _TWINS.get(name) in taken else ""
            raise ConfigError(f"data.{name} does not apply: {why}{hint}")


_TWINS = {"label_column": "target", "target": "label_column"}  # the labels' column, of sentences and of tables
_TABLE = tuple(field.name for field in dataclasses.fields(TableOptions))
_TAKEN: dict[str, Sequence[str]] = {
    "images": (),
    "rows": tuple(field.name for field in dataclasses.fields(DataSection)),
    "sentences": ("encoding", "quotes", "text_column", "label_column"),
    "text": ("encoding", "text_column"),
}
READERS: dict[str, Callable[[DataSection], Any]] = {
    "images": lambda data: read_images(data.source),
    "rows": read_rows,
    "sentences": lambda data: read_sentences(data.source, SentenceOptions.of(data)),
    "text": lambda data: read_text(data.source, encoding=data.encoding, column=data.text_column),
}
"""By the value of a factory's `reads`; a new kind of data is a function and a line here, with the options that it takes."""
