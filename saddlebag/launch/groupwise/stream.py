"""From columns to what the algorithm sees: features, labels and memberships, round by round."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import check_labels, table_bounds
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.groupwise.columns import Columns, read_columns
from saddlebag.launch.groupwise.expressions import parse
from saddlebag.launch.groupwise.recipe import ALWAYS_ON, SYNTHETIC, label_interval
from saddlebag.launch.groupwise.synthetic import synthetic_columns
from saddlebag.launch.recipe.table_options import TableOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.launch.groupwise.expressions import Expression
    from saddlebag.launch.groupwise.recipe import DataTable, FeatureTable, GroupwiseRecipe, LabelTable

__all__ = ["RoundStream", "bounded", "build_stream"]

_MOST = 1e100  # of a number that is scaled: differences are finite


@dataclasses.dataclass(frozen=True, eq=False)
class RoundStream:
    """N rounds in the order of the file.

    Attributes:
        features: names of the D features.
        groups: names of the G groups, the always-on group last.
        x_ND, y_N: features and labels.
        awake_NG: memberships in [0, 1].
        given_N: the user's own predictions, scaled as the labels are; None for none.
        meaning: what features, groups and labels are, as JSON values: see `saddlebag.server.groupwise.meaning`.
        notes: what the reader of the table has to say.
    """

    features: tuple[str, ...]
    groups: tuple[str, ...]
    x_ND: Array
    y_N: Array
    awake_NG: Array
    given_N: Array | None = None
    meaning: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def reordered(self, order_N: Any) -> RoundStream:
        """The rounds in another order."""
        rows = {name: getattr(self, name)[order_N] for name in ("x_ND", "y_N", "awake_NG")}
        given_N = None if self.given_N is None else self.given_N[order_N]
        return dataclasses.replace(self, **rows, given_N=given_N)


def build_stream(recipe: GroupwiseRecipe) -> RoundStream:
    """Read the data of a recipe.

    Raises:
        ConfigError: a column is unknown or of the wrong kind, or a group is empty.
        DataError: a file cannot be read; a label lies outside `label.interval`, or a feature beyond its bound.
    """
    columns = _columns(recipe.data)
    expressions = _expressions(recipe)
    for name, each in expressions.items():
        _require_known(recipe.features, columns, each, f"groups.{name}")
    awake = {name: each.members(columns, f"groups.{name}").astype(np.float64) for name, each in expressions.items()}
    awake |= _matrix(recipe.data, len(columns), recipe)
    for name, awake_N in awake.items():
        if not awake_N.any():
            raise ConfigError(f"groups.{name} is empty: no row of {columns.name} belongs to it")
    facts, x_ND = _features(recipe.features, columns, awake)
    awake_NG = np.column_stack([*awake.values(), np.ones(len(columns))])
    label, y_N = _labels(recipe.label, columns)
    rules = {name: each.rule for name, each in expressions.items()} | {ALWAYS_ON: "all"}
    groups = [{"name": name, "rule": rules.get(name, "a column of the membership file")} for name in (*awake, ALWAYS_ON)]
    meaning = {"features": facts, "groups": groups, "label": label}
    check_labels(y_N, label_interval(recipe), columns.name)
    names = tuple(each["name"] for each in facts)
    x_ND = bounded(recipe.features, names, x_ND, columns.name)
    given_N = _given(recipe, columns, label)
    return RoundStream(names, (*awake, ALWAYS_ON), x_ND, y_N, awake_NG, given_N, meaning, columns.notes)


def _given(recipe: GroupwiseRecipe, columns: Columns, label: dict[str, Any]) -> Array | None:
    """The user's own predictions, as labels are scaled."""
    if recipe.intervals is None or not recipe.intervals.prediction:
        return None
    if recipe.intervals.prediction == recipe.label.column:
        raise ConfigError(f"intervals.prediction: {recipe.label.column!r} is the label, unknown before the prediction")
    where = "intervals.prediction"
    values_N = _known(columns.numbers(recipe.intervals.prediction, where), f"{where}: column {recipe.intervals.prediction!r}")
    width = label.get("high", 1.0) - label.get("low", 0.0)
    return np.asarray((values_N - label.get("low", 0.0)) / (width or 1.0))


def bounded(table: FeatureTable, names: tuple[str, ...], x_ND: Array, where: str) -> Array:
    """The features of a recorded table within their bounds, declared or learned.

    Raises:
        DataError: a row exceeds them, and `features.outside` is "refuse"; or is not finite.
    """
    bounds = table_bounds(x_ND, table.bound, table.outside)
    found = bounds.wrong(x_ND)
    if found is not None:
        row, column, limit = found
        raise DataError(
            f"{where}, row {row + 1}: feature {names[column]!r} is {x_ND[row, column]:g}, beyond {limit:g}; "
            'give features.bound, features.outside = "clip", or features.scale = "min_max"'
        )
    return bounds.taken(x_ND)


def _columns(data: DataTable) -> Columns:
    if data.source == SYNTHETIC:
        return synthetic_columns(data.rounds, data.rule)
    return read_columns(Path(data.source), data)


def _expressions(recipe: GroupwiseRecipe) -> dict[str, Expression]:
    found = {}
    for name, text in recipe.groups.items():
        expression = parse(text, f"groups.{name}")
        if recipe.label.column in expression.columns:
            raise ConfigError(f"groups.{name} depends on the label {recipe.label.column!r}, unknown before the prediction")
        found[name] = expression
    return found


def _matrix(data: DataTable, rounds: int, recipe: GroupwiseRecipe) -> dict[str, Array]:
    if not data.membership:
        return {}
    matrix = read_columns(Path(data.membership), TableOptions(delimiter=data.delimiter, encoding=data.encoding))
    if len(matrix) != rounds:
        raise DataError(f"{data.membership}: {len(matrix)} rows of memberships for {rounds} rounds")
    awake = {}
    for name in matrix.values:
        if name in recipe.groups or name == ALWAYS_ON:
            raise ConfigError(f"data.membership: the group {name!r} is declared twice")
        awake_N = _known(matrix.numbers(name, "data.membership"), f"data.membership: column {name!r}")
        if awake_N.min() < 0 or awake_N.max() > 1:
            raise DataError(
                f"{data.membership}: memberships lie in [0, 1], got {awake_N.min():g}..{awake_N.max():g} for {name!r}"
            )
        awake[name] = awake_N
    return awake


def _features(table: FeatureTable, columns: Columns, awake: dict[str, Array]) -> tuple[list[dict[str, Any]], Array]:
    """What each feature is, and the features (N, D)."""
    features: list[tuple[dict[str, Any], Array]] = []
    for name in table.numeric:
        values_N, filled = _filled(table, columns, name)
        scale = _range(values_N) if table.scale == "min_max" else {}
        scaled_N = _min_max(values_N, f"features.numeric: column {name!r}") if scale else values_N
        features.append(({"name": name, "column": name, **scale, **filled}, scaled_N))
    for name in table.one_hot:
        values = columns.column(name, "features.one_hot")
        gone_N = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), np.bool_)
        if gone_N.any():
            hint = f'data.text = ["{name}"] makes them a category'
            raise DataError(f"{_missing(f'features.one_hot: column {name!r}', gone_N)}; {hint}")
        for level in np.unique(values):
            facts = {"name": f"{name}={level}", "column": name, "category": str(level)}
            features.append((facts, (values == level).astype(np.float64)))
    for name in table.groups:
        if name not in awake:
            raise ConfigError(f"features.groups: no group {name!r}; known: {', '.join(awake)}")
        features.append(({"name": f"in {name}", "group": name}, awake[name]))
    if table.intercept:
        features.append(({"name": "1"}, np.ones(len(columns))))
    if not features:
        raise ConfigError("features: name at least one column or group")
    unique = {facts["name"]: (facts, values_N) for facts, values_N in features}
    return [facts for facts, _ in unique.values()], np.column_stack([values_N for _, values_N in unique.values()])


def _require_known(table: FeatureTable, columns: Columns, expression: Expression, where: str) -> None:
    """Refuse a comparison with numbers of which some are missing, unless the recipe says what they mean."""
    for name in sorted(expression.columns & columns.values.keys()):
        values = columns.values[name]
        if table.missing == "refuse" and values.dtype.kind == "f" and np.isnan(values).any():
            what = _missing(f"{where} compares column {name!r}, which", np.isnan(values))
            raise DataError(f'{what}; with features.missing = "mean" they are unequal to all numbers, below and above none')


def _filled(table: FeatureTable, columns: Columns, name: str) -> tuple[Array, dict[str, float]]:
    """A column of numbers whose missing ones are its mean, and what the service must know of that."""
    values_N = columns.numbers(name, "features.numeric")
    gone_N = np.isnan(values_N)
    if not gone_N.any():
        return values_N, {}
    if table.missing == "refuse" or gone_N.all():
        raise DataError(f'{_missing(f"features.numeric: column {name!r}", gone_N)}; features.missing = "mean" takes the mean')
    mean = float(values_N[~gone_N].mean())
    return np.where(gone_N, mean, values_N), {"missing": mean}


def _known(values_N: Array, where: str) -> Array:
    """Numbers none of which is missing."""
    if np.isnan(values_N).any():
        raise DataError(_missing(where, np.isnan(values_N)))
    return values_N


def _missing(where: str, gone_N: Any) -> str:
    return f"{where} has {np.count_nonzero(gone_N)} missing values, the first in row {int(gone_N.argmax()) + 1}"


def _labels(table: LabelTable, columns: Columns) -> tuple[dict[str, Any], Array]:
    """What the label is, and the labels."""
    if table.positive:
        values = columns.column(table.column, "label.column")
        gone = np.isnan(values) if values.dtype.kind == "f" else values == ""
        if gone.any():
            raise DataError(_missing(f"label.column: {table.column!r}", gone))
        label_N: Array = np.where(values.astype(np.str_) == table.positive, 1.0, 0.0)
        if not label_N.any():
            raise ConfigError(f"label.positive {table.positive!r} occurs nowhere; the column has {_some(values)}")
        return {"column": table.column, "positive": table.positive}, label_N
    label_N = _known(columns.numbers(table.column, "label.column"), f"label.column: {table.column!r}")
    if table.scale == "none":
        return {"column": table.column}, label_N
    return {"column": table.column, **_range(label_N)}, _min_max(label_N, f"label.column: {table.column!r}")


def _some(values: Any) -> str:
    levels = [repr(str(level)) for level in np.unique(values)[:6]]
    return ", ".join(levels)


def _min_max(values_N: Array, where: str) -> Array:
    low, high = values_N.min(), values_N.max()
    if not abs(low) <= _MOST or not abs(high) <= _MOST:
        worst = low if abs(low) > abs(high) else high
        raise DataError(f"{where} holds {worst:g}; only numbers of at most {_MOST:g} can be scaled")
    return (values_N - low) / (high - low) if high > low else np.zeros(len(values_N))


def _range(values_N: Array) -> dict[str, float]:
    return {"low": float(values_N.min()), "high": float(values_N.max())}
