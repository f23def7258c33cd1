"""Columns to features, and labels to numbers and back, by constants that are fitted once to a recipe's table.

What is fitted are plain facts, one for each feature (see `saddlebag.server.groupwise.meaning`); encoding needs no more.
So a study and a service encode alike, and a service that resumes encodes as before, whatever its table holds.

    {"name", "column", "low", "high"}    a number, scaled from low..high to 0..1; as it is without both; "missing" is the mean
    {"name", "column", "gone"}           1 where that number is missing
    {"name", "column", "category"}       1 where the column has this value ("" where it is missing); "share" is its mean
    {"name", "column", "other"}          1 where the column has a value that the table does not have
    {"name", "group"}, {"name"}          a membership; the constant 1

Shapes: N = rows, D = features.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.launch.groupwise.data.columns import Columns
    from saddlebag.launch.groupwise.recipe import FeatureTable, LabelTable

    Facts = dict[str, Any]

_MOST = 1e100  # of a number that is scaled: differences are finite


def fit_features(table: FeatureTable, columns: Columns, awake: Mapping[str, Array]) -> list[Facts]:
    """What each feature of a recipe is, with its constants from a table.

    Raises:
        ConfigError: a column or group is unknown, or there is no feature.
        DataError: a column has missing values that the recipe refuses, or numbers too large to be scaled.
    """
    facts = [fact for name in table.numeric for fact in _fit_number(table, columns, name)]
    facts += [fact for name in table.one_hot for fact in _fit_categories(table, columns, name)]
    for name in table.groups:
        if name not in awake:
            raise ConfigError(f"features.groups: no group {name!r}; known: {', '.join(awake)}")
        facts.append({"name": f"in {name}", "group": name})
    if table.intercept:
        facts.append({"name": "1"})
    if not facts:
        raise ConfigError("features: name at least one column or group")
    return list({fact["name"]: fact for fact in facts}.values())


def encode_features(
    facts: Sequence[Facts], columns: Columns, awake: Mapping[str, Array], table: FeatureTable, *, start: int = 1
) -> Array:
    """The features (N, D) of rows.

    Args:
        facts: of the features.
        columns: of the rows.
        awake: each group's memberships, (N,), of those that are features.
        table: whether missing and unknown values are refused.
        start: the number of the first row, in messages.

    Raises:
        ConfigError: a column is missing or of the wrong kind.
        DataError: a value is missing or unknown, and the recipe refuses it; with column and row.
    """
    x_DN: list[Array] = []
    by_column: dict[str, list[Facts]] = {}
    for fact in facts:
        if "category" in fact or "other" in fact:
            by_column.setdefault(fact["column"], []).append(fact)
    done: dict[str, Array] = {}
    for column, levels in by_column.items():
        encoded_NL = _categories(levels, columns, column, table, start)
        done |= {fact["name"]: encoded_NL[:, number] for number, fact in enumerate(levels)}
    for fact in facts:
        if fact["name"] in done:
            x_DN.append(done[fact["name"]])
        elif "column" in fact:
            x_DN.append(_number(fact, columns, table, start))
        else:
            x_DN.append(awake[fact["group"]] if "group" in fact else np.ones(len(columns)))
    return np.column_stack(x_DN)


def _fit_number(table: FeatureTable, columns: Columns, name: str) -> list[Facts]:
    where = f"features.numeric: column {name!r}"
    value_N = columns.numbers(name, "features.numeric")
    gone_N = np.isnan(value_N)
    if gone_N.any() and (table.missing == "refuse" or gone_N.all()):
        raise DataError(f'{missing_values(where, gone_N)}; features.missing = "mean" takes the mean')
    known_N = value_N[~gone_N]
    fact: Facts = {"name": name, "column": name}
    if table.scale == "min_max":
        fact |= _range(known_N, where)
    if table.missing != "refuse":
        fact["missing"] = float(known_N.mean())
    marked = table.missing == "category"
    return [fact, {"name": f"{name} missing", "column": name, "gone": True}] if marked else [fact]


def _number(fact: Facts, columns: Columns, table: FeatureTable, start: int) -> Array:
    name = fact["column"]
    value_N = columns.numbers(name, "features.numeric")
    gone_N = np.isnan(value_N)
    if "gone" in fact:
        return np.asarray(gone_N, np.float64)
    if gone_N.any():
        if table.missing == "refuse" or "missing" not in fact:
            what = missing_values(f"features.numeric: column {name!r}", gone_N, start)
            raise DataError(f'{what}; features.missing = "mean" takes the mean')
        value_N = np.where(gone_N, float(fact["missing"]), value_N)
    return _scaled(fact, value_N, f"features.numeric: column {name!r}")


def _fit_categories(table: FeatureTable, columns: Columns, name: str) -> list[Facts]:
    values = columns.column(name, "features.one_hot")
    gone_N = gone(values)
    numbers = values.dtype.kind == "f"
    if numbers and gone_N.any() and table.missing == "refuse":
        hint = f'data.text = ["{name}"] makes them a category'
        raise DataError(f"{missing_values(f'features.one_hot: column {name!r}', gone_N)}; {hint}")
    levels = [str(level) for level in np.unique(values[~gone_N] if numbers else values)]
    if table.missing == "category" and "" not in levels:
        levels = ["", *levels]
    facts: list[Facts] = [{"name": f"{name}={level}", "column": name, "category": level} for level in levels]
    if "mean" in (table.missing, table.unknown):
        known = max(int(np.count_nonzero(~gone_N)) if numbers and "" not in levels else len(values), 1)
        for fact in facts:
            fact["share"] = float(np.count_nonzero(_is_level(values, fact["category"])) / known)
    if table.unknown == "category":
        facts.append({"name": f"{name}=(other)", "column": name, "other": True})
    return facts


def _is_level(values: npt.NDArray[Any], category: str) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_]
    if category == "":
        return gone(values)
    found = values == (float(category) if values.dtype.kind == "f" else category)
    return found


def _categories(levels: list[Facts], columns: Columns, name: str, table: FeatureTable, start: int) -> Array:
    """A column's categories; shape (N, levels)."""
    values = columns.column(name, "features.one_hot")
    kind, wanted = values.dtype.kind, [fact["category"] for fact in levels if fact.get("category")]
    if kind == "f" and not all(map(_reads_as_number, wanted)):
        raise ConfigError(f"features.one_hot: column {name!r} must hold text, as it did at first, got numbers")
    member_NL = np.zeros((len(values), len(levels)))
    for number, fact in enumerate(levels):
        if "category" in fact:
            member_NL[:, number] = _is_level(values, fact["category"])
    rest_N = ~member_NL.any(axis=1)
    gone_N = rest_N & gone(values)
    where, shares = f"features.one_hot: column {name!r}", np.array([fact.get("share", 0.0) for fact in levels])
    if gone_N.any():
        if table.missing == "refuse":
            hint = 'features.missing = "category" or "mean" takes them'
            raise DataError(f"{missing_values(where, gone_N, start)}; {hint}")
        member_NL[gone_N] = shares
    new_N = rest_N & ~gone_N
    if new_N.any():
        row = int(new_N.argmax())
        if table.unknown == "refuse":
            raise DataError(
                f"{where} holds {str(values[row])[:60]!r} in row {row + start}, which the recipe's table does not have; "
                'features.unknown = "category" or "mean" takes it'
            )
        member_NL[new_N] = shares if table.unknown == "mean" else [float("other" in fact) for fact in levels]
    return member_NL


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclasses.dataclass(frozen=True)
class LabelCoder:
    """Labels as people have them, and as learners see them.

    Attributes:
        facts: {"column", "positive"} of text, {"column", "low", "high"} of scaled numbers, else {"column"}.
    """

    facts: Mapping[str, Any]

    def encode(self, values: npt.NDArray[Any], where: str) -> Array:
        """Labels as learners see them; any text but `positive` is 0.

        Raises:
            DataError: a label is missing, or of the wrong kind.
        """
        if (gone_N := gone(values)).any():
            raise DataError(missing_values(where, gone_N))
        if "positive" in self.facts:
            label_N: Array = np.where(values.astype(np.str_) == self.facts["positive"], 1.0, 0.0)
            return label_N
        if values.dtype.kind != "f":
            raise DataError(f"{where} must hold numbers, got {str(values[0])[:60]!r}")
        return self.scaled(values, where)

    def scaled(self, value_N: Array, where: str) -> Array:
        """Numbers in units of the label, such as somebody's predictions, as learners see labels."""
        return _scaled(self.facts, value_N, where)

    def decode(self, value_N: Array) -> Array:
        """Predictions in units of the label's column; probabilities of the positive label where it is text."""
        low, high = float(self.facts.get("low", 0.0)), float(self.facts.get("high", 1.0))
        decoded_N: Array = value_N if (low, high) == (0.0, 1.0) else low + value_N * (high - low)
        return decoded_N


def fit_label(table: LabelTable, columns: Columns) -> LabelCoder:
    """What the label of a recipe is, with its constants from a table.

    Raises:
        ConfigError: the column is unknown, or of the wrong kind, or has no positive label.
        DataError: labels are missing, or too large to be scaled.
    """
    where = f"label.column: {table.column!r}"
    if table.positive:
        values = columns.column(table.column, "label.column")
        coder = LabelCoder({"column": table.column, "positive": table.positive})
        if not coder.encode(values, where).any():
            some = ", ".join(repr(str(level)) for level in np.unique(values)[:6])
            raise ConfigError(f"label.positive {table.positive!r} occurs nowhere; the column has {some}")
        return coder
    value_N = columns.numbers(table.column, "label.column")
    if (gone_N := np.isnan(value_N)).any():
        raise DataError(missing_values(where, gone_N))
    return LabelCoder({"column": table.column, **(_range(value_N, where) if table.scale == "min_max" else {})})


def gone(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a column has no value: NaN, or empty text."""
    missing: npt.NDArray[np.bool_] = np.isnan(values) if values.dtype.kind == "f" else values == ""
    return missing


def missing_values(where: str, gone_N: Any, start: int = 1) -> str:
    """How many values are missing, and where the first one is."""
    return f"{where} has {np.count_nonzero(gone_N)} missing values, the first in row {int(gone_N.argmax()) + start}"


def _range(value_N: Array, where: str) -> dict[str, float]:
    low, high = float(value_N.min()), float(value_N.max())
    if not abs(low) <= _MOST or not abs(high) <= _MOST:
        worst = low if abs(low) > abs(high) else high
        raise DataError(f"{where} holds {worst:g}; only numbers of at most {_MOST:g} can be scaled")
    return {"low": low, "high": high}


def _scaled(fact: Mapping[str, Any], value_N: Array, where: str) -> Array:
    if "low" not in fact:
        return value_N
    low, high = fact["low"], fact["high"]
    if np.abs(value_N).max(initial=0.0) > _MOST:
        raise DataError(f"{where} holds {value_N[np.abs(value_N).argmax()]:g}; only numbers of at most {_MOST:g} can be scaled")
    return np.asarray((value_N - low) / (high - low)) if high > low else np.zeros(len(value_N))
