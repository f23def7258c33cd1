"""From columns to what the algorithm sees: features, labels and memberships, round by round."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import Members, check_labels, table_bounds
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.groupwise.data.columns import Columns, read_columns
from saddlebag.launch.groupwise.data.conjunctions import conjunctions
from saddlebag.launch.groupwise.data.encoding import encode_features, fit_features, fit_label, missing_values
from saddlebag.launch.groupwise.data.expressions import parse
from saddlebag.launch.groupwise.data.rows import RowEncoder, check_compared
from saddlebag.launch.groupwise.data.synthetic import synthetic_columns
from saddlebag.launch.groupwise.recipe import ALWAYS_ON, SYNTHETIC, label_interval
from saddlebag.launch.recipe.table_options import TableOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saddlebag.algorithms.groupwise.base import Array, Index
    from saddlebag.launch.groupwise.data.encoding import LabelCoder
    from saddlebag.launch.groupwise.data.expressions import Expression
    from saddlebag.launch.groupwise.recipe import DataTable, FeatureTable, GroupwiseRecipe


@dataclasses.dataclass(frozen=True, eq=False)
class RoundStream:
    """N rounds in the order of the file.

    Attributes:
        features: names of the D features.
        groups: names of the G groups, the always-on group last.
        x_ND, y_N: features and labels.
        members: who is awake when.
        given_N: the user's own predictions, scaled as the labels are; None for none.
        meaning: what features, groups and labels are, as JSON values: see `saddlebag.server.groupwise.meaning`.
        notes: what the reader of the table has to say.
        encoder: encodes further rows as these were; None where they are recorded as they are.
    """

    features: tuple[str, ...]
    groups: tuple[str, ...]
    x_ND: Array
    y_N: Array
    members: Members
    given_N: Array | None = None
    meaning: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    encoder: RowEncoder | None = None

    @functools.cached_property
    def awake_NG(self) -> Array:
        """Memberships in [0, 1] as a table, for few groups."""
        return self.members.table()

    def reordered(self, order_N: Any) -> RoundStream:
        """The rounds in another order."""
        rows = {name: getattr(self, name)[order_N] for name in ("x_ND", "y_N")}
        given_N = None if self.given_N is None else self.given_N[order_N]
        return dataclasses.replace(self, **rows, members=self.members.reordered(order_N), given_N=given_N)


def build_stream(recipe: GroupwiseRecipe) -> RoundStream:
    """Read the data of a recipe.

    Raises:
        ConfigError: a column is unknown or of the wrong kind, or a group is empty.
        DataError: a file cannot be read; a label lies outside `label.interval`, or a feature beyond its bound.
    """
    columns = _columns(recipe.data)
    expressions = _expressions(recipe, columns)
    for name, each in expressions.items():
        check_compared(recipe.features, columns, each, f"groups.{name}")
    names, members = _members(expressions, _matrix(recipe.data, len(columns), recipe), columns)
    awake = _Memberships(names, members)
    facts, label = fit_features(recipe.features, columns, awake), fit_label(recipe.label, columns)
    x_ND = encode_features(facts, columns, awake, recipe.features)
    y_N = label.encode(columns.column(recipe.label.column, "label.column"), f"label.column: {recipe.label.column!r}")
    rules = {name: each.rule for name, each in expressions.items()} | {ALWAYS_ON: "all"}
    groups = [{"name": name, "rule": rules.get(name, "a column of the membership file")} for name in names]
    meaning = {"features": facts, "groups": groups, "label": dict(label.facts)}
    check_labels(y_N, label_interval(recipe), columns.name)
    features = tuple(each["name"] for each in facts)
    x_ND = bounded(recipe.features, features, x_ND, columns.name)
    encoder = RowEncoder(
        facts=facts,
        table=recipe.features,
        kinds={name: "numbers" if values.dtype.kind == "f" else "text" for name, values in columns.values.items()},
        groups={name: expressions.get(name) for name in names[:-1]} | {ALWAYS_ON: parse("all", "groups")},
        label=label,
        marks=tuple(recipe.data.missing or ()),
        prediction="" if recipe.intervals is None else recipe.intervals.prediction,
    )
    return RoundStream(features, names, x_ND, y_N, members, _given(recipe, columns, label), meaning, columns.notes, encoder)


def _members(expressions: dict[str, Expression], matrix: dict[str, Array], columns: Columns) -> tuple[tuple[str, ...], Members]:
    """Names and memberships of all groups, the always-on group last."""
    row_GK: list[Index] = []
    weight_GK: list[Array] = []
    names = (*expressions, *(name for name in matrix if name not in expressions))
    for name in names:
        awake_N = matrix[name] if name in matrix else expressions[name].members(columns, f"groups.{name}")
        row_GK.append(awake_N.nonzero()[0])
        weight_GK.append(awake_N[row_GK[-1]].astype(np.float64))
        if not len(row_GK[-1]):
            raise ConfigError(f"groups.{name} is empty: no row of {columns.name} belongs to it")
    row_GK.append(np.arange(len(columns)))
    weight_GK.append(np.ones(len(columns)))
    return (*names, ALWAYS_ON), Members.of_groups(len(columns), row_GK, weight_GK)


class _Memberships(Mapping[str, "Array"]):
    """Each group's memberships by name, for those that are features: a column of a table that is not made."""

    def __init__(self, names: tuple[str, ...], members: Members) -> None:
        self._numbers, self._members = {name: number for number, name in enumerate(names[:-1])}, members

    def __getitem__(self, name: str) -> Array:
        return self._members.column(self._numbers[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def _given(recipe: GroupwiseRecipe, columns: Columns, label: LabelCoder) -> Array | None:
    """The user's own predictions, as labels are scaled."""
    if recipe.intervals is None or not recipe.intervals.prediction:
        return None
    where, name = "intervals.prediction", recipe.intervals.prediction
    if name == recipe.label.column:
        raise ConfigError(f"{where}: {name!r} is the label, unknown before the prediction")
    return label.scaled(_known(columns.numbers(name, where), f"{where}: column {name!r}"), f"{where}: column {name!r}")


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


def _expressions(recipe: GroupwiseRecipe, columns: Columns) -> dict[str, Expression]:
    found, texts = {}, dict(recipe.groups)
    if recipe.conjunctions is not None:
        for name, text in conjunctions(recipe.conjunctions, columns).items():
            if texts.setdefault(name, text) != text:
                raise ConfigError(f"groups.{name}: [conjunctions] makes a group of this name; choose another")
    for name, text in texts.items():
        expression = parse(text, f"groups.{name}")
        if recipe.label.column in expression.columns:
            raise ConfigError(f"groups.{name} depends on the label {recipe.label.column!r}, unknown before the prediction")
        found[name] = expression
    return found


def _matrix(data: DataTable, rounds: int, recipe: GroupwiseRecipe) -> dict[str, Array]:
    if not data.membership:
        return {}
    matrix = read_columns(Path(data.membership), TableOptions(delimiter=data.delimiter, encoding=data.encoding), alone=True)
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


def _known(values_N: Array, where: str) -> Array:
    """Numbers none of which is missing."""
    if np.isnan(values_N).any():
        raise DataError(missing_values(where, np.isnan(values_N)))
    return values_N
