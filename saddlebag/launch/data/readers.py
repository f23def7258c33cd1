"""From `data.source` to data: one reader for each kind of data that problems ask for.

A problem's factory says what it `Reads`, a key of `READERS`; one that does not reads labelled rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.capabilities import Reads
from saddlebag.errors import ConfigError
from saddlebag.launch.data.images import read_images
from saddlebag.launch.data.rows import load_data
from saddlebag.launch.data.sentences import read_sentences
from saddlebag.launch.data.tables import is_table, read_tabular
from saddlebag.launch.data.text import read_text
from saddlebag.launch.recipe.fields import unknown
from saddlebag.launch.recipe.sections import BUNDLED, DataSection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from saddlebag.algorithms.problems.rows import Dataset

__all__ = ["READERS", "build_data", "read_data"]


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
    return READERS[kind](data)


def build_data(source: str, num_features: int | None = None, *, target: str = "", drop: Sequence[str] = ()) -> Dataset:
    """A bundled data set, or a file by its path: a table (.csv, adult.data) or LIBSVM text, plain or compressed.

    Raises:
        ConfigError: an argument does not fit the source, or names no column.
        DataError: the file is missing or malformed.
    """
    tabular = source not in BUNDLED and is_table(source)
    if not tabular and (target or drop):
        raise ConfigError(f"data.target and data.drop are for tables (.csv, adult.data), got {source!r}")
    if tabular:
        if num_features is not None:
            raise ConfigError(f"data.num_features is for LIBSVM files, got {num_features} for the table {source!r}")
        return read_tabular(source, target=target, drop=drop)
    if source in BUNDLED:
        return load_data(source)
    return load_data("libsvm", path=source, num_features=num_features)


READERS: dict[str, Callable[[DataSection], Any]] = {
    "images": lambda data: read_images(data.source),
    "rows": lambda data: build_data(data.source, data.num_features, target=data.target, drop=data.drop),
    "sentences": lambda data: read_sentences(data.source),
    "text": lambda data: read_text(data.source),
}
"""By the value of a factory's `reads`; a new kind of data is a function and a line here."""
