"""The type of a column, decided on all its values: numbers, text, or what must not be guessed.

Shapes: N = rows.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.launch.recipe.table_options import MARKS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy.typing as npt

    from saddlebag.launch.recipe.table_options import TableOptions

__all__ = ["LARGEST", "Column", "Rules", "beyond", "is_finite_number", "type_column"]

LARGEST = 1e50
"""Of a value: Lipschitz constants are sums of squares of values, and steps divide by their products; these stay finite."""
_QUOTED = 30
_FEW = 20  # rows, of which nobody wonders that all differ
_GROUPED = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
_COMMA = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")
_SPACED = re.compile(r"[-+]?\d{1,3}(?:([\u00a0\u202f'\u2019 _])\d{3})+(?:[.,]\d*)?")  # thousands
_UNIT = re.compile(r"[$\u20ac\u00a3\u00a5]\s?[-+]?[\d.,]+|[-+]?[\d.,]+\s?[%$\u20ac\u00a3\u00a5]")


@dataclasses.dataclass(frozen=True, eq=False)
class Column:
    """A column with its type.

    Attributes:
        values: float64 with NaN where missing, or text with "" where missing; (N,).
        missing: values that are missing, by their mark.
        doubt: why the type is not sure, with the options that decide; then `values` are text. Empty where it is.
        remark: what a person should know of it, with the option that changes it.
    """

    values: npt.NDArray[Any]
    missing: Mapping[str, int]
    doubt: str = ""
    remark: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """What a column's type is decided by.

    Attributes:
        options: of the file.
        marks: what stands for a missing value.
        largest: the largest size of a number.
    """

    options: TableOptions
    marks: Sequence[str]
    largest: float = LARGEST


def is_finite_number(text: str) -> bool:
    """Whether a text is a finite number, as Python writes them, without underscores."""
    value = _float(text)
    return value is not None and math.isfinite(value)


def type_column(name: str, texts: Sequence[str], lines: Sequence[int], rules: Rules) -> Column:
    """Decide a column's type on its distinct values.

    Args:
        name: of the column.
        texts: its values, stripped; (N,).
        lines: where they stand, for messages; (N,).
        rules: of the file.
    """
    options, counts = rules.options, Counter(texts)
    missing = {mark: counts[mark] for mark in rules.marks if mark in counts}
    known = [text for text in counts if text not in missing]
    if name in options.text or not known:
        return Column(_text(texts, missing), missing, remark="" if name in options.text else _empty(name, texts))
    value_of = {text: _number(text, options) for text in known}
    odd = [text for text, value in value_of.items() if value is None or not abs(value) <= rules.largest]
    if not odd:
        numbers_N = np.array([value_of.get(text, math.nan) for text in texts], np.float64)
        return Column(numbers_N, missing, remark=_padded(name, known))
    numbers = [text for text, value in value_of.items() if value is not None and not math.isnan(value)]
    if numbers:
        place = min(texts.index(text) for text in odd)
        value = value_of[texts[place]]
        if value is not None and abs(value) > rules.largest:
            doubt = f"line {lines[place]}: column {name!r} holds {_quote(texts[place])}, {beyond(rules.largest)}"
        else:
            doubt = _mixed(name, texts[place], sum(counts[text] for text in odd), lines[place])
    else:
        doubt = _written(name, known)
    return Column(_text(texts, missing), missing, doubt, remark="" if doubt else _texts(name, known, len(texts)))


def _text(texts: Sequence[str], missing: Collection[str]) -> npt.NDArray[Any]:
    return np.array(["" if text in missing else text for text in texts] if missing else list(texts), np.str_)


def _float(text: str) -> float | None:
    """Python's reading of a number, without its underscores."""
    try:
        return None if "_" in text else float(text.replace("\u2212", "-"))  # the minus of typesetters
    except ValueError:
        return None


def _number(text: str, options: TableOptions) -> float | None:
    """A number as the file writes it."""
    if options.thousands and options.thousands in text:
        whole, mark, rest = text.partition(options.decimal)
        groups = whole.lstrip("+-").split(options.thousands)
        if not (all(map(str.isdecimal, groups)) and 1 <= len(groups[0]) <= 3 and all(len(part) == 3 for part in groups[1:])):
            return None
        text = whole.replace(options.thousands, "") + mark + rest
    if options.decimal != ".":
        if "." in text:
            return None
        text = text.replace(options.decimal, ".")
    return _float(text)


def beyond(largest: float) -> str:
    """What is wrong with a larger number."""
    return f"more than {largest:g} in size; scale it, or drop it"


def _quote(text: str) -> str:
    return repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "...")


def _padded(name: str, known: Sequence[str]) -> str:
    """What to say of numbers of one length, some of which begin with zeros: zip codes, and months, are written so."""
    zeros = next((text for text in known if text.isdecimal() and text[0] == "0" and len(text) > 1), None)
    if zeros is None or any(len(text) != len(zeros) or not text.isdecimal() for text in known):
        return ""
    return f'{name!r} has values such as {zeros!r}, read as numbers; if they are names, give data.text = ["{name}"]'


def _empty(name: str, texts: Sequence[str]) -> str:
    """What to say of a column without a value."""
    return f'{name!r} holds no value; data.drop = ["{name}"] leaves it out' if texts else ""


def _texts(name: str, known: Sequence[str], rows: int) -> str:
    """What to say of text that is a name of its own in every row, or one value in several ways of writing."""
    if len(known) == rows > _FEW:
        return f'{name!r} has a value of its own in every row; if it names the rows, data.drop = ["{name}"] leaves it out'
    folded: dict[str, str] = {}
    for text in known:
        first = folded.setdefault(" ".join(text.casefold().split()), text)
        if first != text:
            return f"{name!r} holds {_quote(first)} and {_quote(text)}, read as two values"
    return ""


def _mark(letter: str) -> str:
    """A mark as TOML writes it; one that cannot be seen by its number."""
    return f'"{letter}"' if letter.isascii() else f'"\\u{ord(letter):04x}"'


def _mixed(name: str, text: str, count: int, line: int) -> str:
    """Numbers and something else."""
    what = f"line {line}: column {name!r} holds numbers, and {_quote(text)} ({count} such values in all)"
    if text in MARKS or text.lower() in {mark.lower() for mark in MARKS}:
        return f'{what}; if it is missing there, give data.missing = ["{text}", ...], if it is text data.text = ["{name}"]'
    if spaced := _SPACED.fullmatch(text):
        return f"{what}; give data.thousands = {_mark(spaced[1])}"
    if _GROUPED.fullmatch(text):
        return f'{what}; give data.thousands = "," (or data.decimal = ",")'
    if _COMMA.fullmatch(text):
        return f'{what}; give data.decimal = ","'
    return f'{what}; if the column is text, give data.text = ["{name}"], if the value is missing data.missing'


def _written(name: str, known: Sequence[str]) -> str:
    """Values all of which read like numbers in another way of writing them; empty for text."""
    options: tuple[tuple[re.Pattern[str], str], ...] = (
        (_GROUPED, 'give data.thousands = "," (or data.decimal = ",")'),
        (_COMMA, 'give data.decimal = ","'),
        (_UNIT, "units are not read"),
    )
    if spaced := _SPACED.fullmatch(known[0]):
        options = ((_SPACED, f"give data.thousands = {_mark(spaced[1])}"), *options)
    for pattern, hint in options:
        if all(pattern.fullmatch(text) for text in known):
            return f'column {name!r} holds {known[0]!r}: {hint}; if it is text, data.text = ["{name}"]'
    if all(_float(text) is not None for text in known):  # nan, inf
        return (
            f"column {name!r} holds {known[0]!r} only: if that is missing, name it in data.missing; if text, "
            f'data.text = ["{name}"]'
        )
    return ""
