"""Rows of delimited text: records with their line numbers, whatever lies within quotes, and a header that names columns.

The parser is that of the standard library, strict about quotes. What it would read in two ways is refused, with the option
that decides.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from saddlebag.errors import DataError
from saddlebag.launch.data.decoding import lines, plain_name
from saddlebag.launch.data.typed import is_finite_number
from saddlebag.launch.recipe.fields import unknown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from saddlebag.launch.recipe.table_options import TableOptions

__all__ = ["MAX_CELLS", "Delimited", "named", "read_delimited", "require_delimiter"]

MAX_CELLS = 1 << 28
"""Cells of a table: as float64 they take 2 GiB; the widest set in the recipes has five million."""
_TABS = (".tsv", ".tab")
_REMARKS = ("#", "|", "%", "//", ";")  # what often begins a line that is no record
_QUOTED = 80  # characters of a header that a message repeats


@dataclasses.dataclass(frozen=True, eq=False)
class Delimited:
    """A file's values as text.

    Attributes:
        columns: name -> values, stripped.
        numbers: of the lines that records begin on.
        skipped: lines that began with the mark of a comment.
    """

    columns: dict[str, list[str]]
    numbers: list[int]
    skipped: int


def read_delimited(path: Path, options: TableOptions) -> Delimited:
    """Read the selected columns of a file.

    Raises:
        ConfigError: an option names no column.
        DataError: file, line, reason, and the option that reads it where there is one.
    """
    feed = _Feed(path, options)
    rows = _records(path, feed, options)
    names = list(options.columns) or _header(path, rows, options)
    header = named(names, options, f"{path}, line {feed.began}" if not options.columns else "data.columns")
    kept = [place for place, name in enumerate(header) if not options.select or name in options.select]
    columns: list[list[str]] = [[] for _ in kept]
    numbers: list[int] = []
    for row in rows:
        if len(row) != len(header):
            raise DataError(f"{path}, line {feed.began}: {_widths(row, header, feed.delimiter, first=not numbers)}")
        numbers.append(feed.began)
        for column, place in zip(columns, kept, strict=True):
            column.append(row[place].strip())
        if len(numbers) * len(header) > MAX_CELLS:
            raise DataError(f"{path}, line {feed.began}: more than {MAX_CELLS} cells, the most that is read")
    if not numbers:
        raise DataError(f"{path}: no rows; is the file empty?")
    return Delimited(dict(zip([header[place] for place in kept], columns, strict=True)), numbers, feed.skipped)


class _Feed(Iterator[str]):
    """The lines of a file for a parser of records; between records blank lines and comments are left out."""

    def __init__(self, path: Path, options: TableOptions) -> None:
        self._lines = lines(path, options.encoding, ends=True)
        self._comment, self._strict = options.comment, options.quotes == "csv"
        self.delimiter = options.delimiter or ("\t" if plain_name(path).lower().endswith(_TABS) else ",")
        self.fresh, self.skipped, self.began, self._number = True, 0, 0, 0

    def __next__(self) -> str:
        for line in self._lines:
            self._number += 1
            if not self.fresh:
                return line
            if not line.strip():
                continue
            if self._comment and line.lstrip(" ").startswith(self._comment):
                self.skipped += 1
                continue
            self.fresh, self.began = False, self._number
            if self.delimiter == " " and (not self._strict or line.count('"') % 2 == 0):
                line = line.strip()  # any number of blanks divides values, as columns that are aligned have it
            if self._strict and self.delimiter == "," and line.count('"') % 2 == 0:
                line = line.strip()  # blanks after the last quote are no value
            return line
        raise StopIteration


def _records(path: Path, feed: _Feed, options: TableOptions) -> Iterator[list[str]]:
    reader = csv.reader(
        feed,
        delimiter=feed.delimiter,
        skipinitialspace=True,
        strict=True,
        quoting=csv.QUOTE_MINIMAL if options.quotes == "csv" else csv.QUOTE_NONE,
    )
    while True:
        feed.fresh = True
        try:
            row = next(reader, None)
        except csv.Error as error:
            hint = 'where quotes are ordinary characters, give data.quotes = "none"'
            raise DataError(f"{path}, line {feed.began}: {error}; {hint}") from None
        if row is None:
            return
        yield row


def _header(path: Path, rows: Iterator[list[str]], options: TableOptions) -> list[str]:
    """The first record, unless it is seen to be none."""
    names = [name.strip() for name in next(rows, [])]
    if not names:
        raise DataError(f"{path}: no rows; is the file empty?")
    if names[0].lower().startswith("sep=") and len(names[0]) == len("sep=;"):
        mark = names[0][-1]
        raise DataError(
            f'{path}: begins with a line of Excel, {names[0]!r}; give data.delimiter = "{mark}", data.comment = "sep="'
        )
    if options.header == "auto" and _counts(names):
        shown = ",".join(names)[:_QUOTED]
        raise DataError(
            f"{path}: the first line holds numbers, {shown!r}; name the columns with data.columns = [...], "
            'or give data.header = "yes" if these are names'
        )
    return ["rows", *names] if options.header == "short" else names


def _counts(names: Sequence[str]) -> bool:
    """Whether a first record holds numbers that are hardly names; years and places that follow each other are."""
    numbers = [name for name in names if is_finite_number(name)]
    follow = all(name.isdecimal() for name in numbers) and [*map(int, numbers)] == [
        int(numbers[0]) + place for place in range(len(numbers))
    ]
    return bool(numbers) and not (follow and len(numbers) > 1)


def named(names: Sequence[str], options: TableOptions, where: str) -> list[str]:
    """Names of columns, renamed; each must differ.

    Raises:
        ConfigError: `rename` or `select` name no column.
        DataError: two columns have the same name, or one has none.
    """
    names = list(names)
    for old, new in options.rename.items():
        place = int(old[1:]) - 1 if old[:1] == "#" and old[1:].isdecimal() and old not in names else -1
        places = [place] if 0 <= place < len(names) else [at for at, name in enumerate(names) if name == old]
        if len(places) != 1:
            known = [*names, *(f"#{number + 1}" for number in range(len(names)) if names.count(names[number]) > 1)]
            raise unknown(f"data.rename names {len(places) or 'no'} columns: {old!r}", old, known)
        names[places[0]] = new
    for place, name in enumerate(names):
        if not name or names.index(name) != place:
            what = "has no name" if not name else f"has the name {name!r}, as column {names.index(name) + 1} has"
            raise DataError(f'{where}: column {place + 1} {what}; give it one: data.rename = {{"#{place + 1}" = "..."}}')
    for field in ("select", "text"):
        for name in getattr(options, field):
            if name not in names:
                raise unknown(f"data.{field} names no column: {name!r}", name, names)
    return names


def _widths(row: list[str], header: list[str], delimiter: str, *, first: bool) -> str:
    """What is wrong with a row of another width, and what may help."""
    found = f"{len(header)} values are expected, got {len(row)}"
    if len(header) == 1 and (other := _other_delimiter(header[0], delimiter)):
        return f'{found}; give data.delimiter = "{other}"'
    for mark in _REMARKS:
        if row[0].startswith(mark) or (len(header) == 1 and header[0].startswith(mark)):
            return f'{found}; if lines that begin with {mark!r} are remarks, give data.comment = "{mark}"'
    if any(cell.lstrip().startswith('"') for cell in row) and '"' not in "".join(cell.strip('"') for cell in row):
        return f'{found}; if values stand in quotes, give data.quotes = "csv"'
    if first and len(row) == len(header) + 1 > 2 and not any(cell.startswith("'") for cell in row):
        return f'{found}; if rows begin with names that the header leaves out, as R writes them, give data.header = "short"'
    return found if len(header) > 1 else f"{found}; is the first line a header, and {delimiter!r} the delimiter?"


def require_delimiter(path: Path, names: Sequence[str], delimiter: str, *, alone: bool = False) -> None:
    """Refuse a table of one column: another delimiter is in its name, or will be, where one is not enough.

    Raises:
        DataError: with the option that reads it.
    """
    other = _other_delimiter(names[0], delimiter)
    if len(names) == 1 and (other or not alone):
        hint = f'give data.delimiter = "{other}"' if other else "give data.delimiter if another mark divides it"
        raise DataError(f"{path}: the header {names[0][:_QUOTED]!r} is one column; {hint}")


def _other_delimiter(name: str, delimiter: str) -> str:
    """What seems to divide a header that was read as one column, as TOML writes it; empty for nothing."""
    found = next((mark for mark in (";", "\t", "|", ",") if mark != delimiter and mark in name), "")
    return "\\t" if found == "\t" else found
