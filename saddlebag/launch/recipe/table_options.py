"""How a table is read: the options that recipes of `saddlebag run` and of `saddlebag groupwise` share."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from saddlebag.errors import ConfigError, check_choice

__all__ = ["ENCODINGS", "MARKS", "TableOptions", "default_of"]

ENCODINGS = (
    *("utf-8", "utf-16", "utf-16-le", "utf-16-be", "ascii", "latin-1", "iso-8859-2", "iso-8859-15", "mac-roman"),
    *("cp437", "cp850", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "koi8-r"),
    *("gb18030", "big5", "shift_jis", "euc-jp", "euc-kr"),
)
"""What `data.encoding` may name; without it text is UTF-8, with or without its mark."""
MARKS = ("?", "NA", "N/A", "nan", "NaN", "NULL", "null", "None", "-", "")
"""What files in the wild write for a missing value; `data.missing` names those of a file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Options of a table of text or Parquet. All are about the file as it is, before columns get their types.

    Attributes:
        columns: names, for a file without a header.
        header: "yes" to take a first line with numbers for names, which is refused by "auto"; "short" where it leaves out the
            names of rows, as R writes tables: they become the column "rows".
        delimiter: one character between values; empty for a tab in .tsv and .tab, a comma elsewhere. A blank stands for any
            number of them.
        quotes: "csv" for values in double quotes, strictly; "none" where quotes are ordinary characters.
        comment: how lines begin that are no records; they are left out and counted.
        encoding: of the text, see `ENCODINGS`; empty for UTF-8.
        decimal: the mark before decimals, "." or ",".
        thousands: the mark between thousands, such as ","; empty for none.
        missing: what stands for a missing value, besides an empty one; by default "?", for groupwise nothing else.
        text: columns that hold text, also where it reads like numbers.
        rename: new names of columns, by the old ones, or by place: {"#1" = "id"}.
        select: the columns that are read; all by default.
    """

    columns: list[str] = dataclasses.field(default_factory=list)
    header: Literal["auto", "yes", "short"] = "auto"
    delimiter: str = ""
    quotes: Literal["csv", "none"] = "csv"
    comment: str = ""
    encoding: str = ""
    decimal: str = "."
    thousands: str = ""
    missing: list[str] | None = None
    text: list[str] = dataclasses.field(default_factory=list)
    rename: dict[str, str] = dataclasses.field(default_factory=dict)
    select: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        for field in ("columns", "missing", "text", "select"):
            names = getattr(self, field)
            if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
                raise ConfigError(f"data.{field} must be a list of texts, got {names!r}")
        if not isinstance(self.rename, dict) or not all(isinstance(name, str) and name for name in self.rename.values()):
            raise ConfigError(f"data.rename must be a table of names, such as {{old = 'new'}}, got {self.rename!r}")
        if len(set(self.columns)) < len(self.columns) or not all(self.columns):
            raise ConfigError(f"data.columns must give each column a name of its own, got {', '.join(self.columns)}")
        if self.columns and self.header != "auto":
            raise ConfigError(f'data.columns is for files without a header; leave it out, or data.header = "{self.header}"')
        self._check_marks()

    def _check_marks(self) -> None:
        check_choice("data.header", self.header, ("auto", "yes", "short"))
        check_choice("data.quotes", self.quotes, ("csv", "none"))
        check_choice("data.decimal", self.decimal, (".", ","))
        if self.encoding:
            check_choice("data.encoding", self.encoding, ENCODINGS)
        if len(self.delimiter) > 1 or self.delimiter in ("\n", "\r", '"') or self.delimiter > "\uffff":
            raise ConfigError(f"data.delimiter must be one character, no quote and no end of line, got {self.delimiter!r}")
        if len(self.thousands) > 1 or self.thousands.isalnum() or self.thousands in ("-", "+", self.decimal):
            raise ConfigError(f"data.thousands must be one mark other than data.decimal, got {self.thousands!r}")
        if len(self.comment) > 8 or self.comment != self.comment.strip():
            raise ConfigError(f"data.comment must be 8 characters at most, none of them blank, got {self.comment!r}")

    def given(self, *names: str) -> list[str]:
        """Those of these options (all of a table's by default) that are set to something."""
        fields = {field.name: field for field in dataclasses.fields(TableOptions)}
        return [name for name in names or fields if getattr(self, name) != default_of(fields[name])]


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a dataclass's field."""
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
