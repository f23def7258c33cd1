"""Rows as people have them, encoded by a recipe: what a study does with its table, and a service with every request.

Shapes: N = rows, D = features, G = groups.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import ConfigError, DataError, RemoteProtocolError, SaddlebagError
from saddlebag.launch.groupwise.data.columns import Columns
from saddlebag.launch.groupwise.data.encoding import encode_features, gone, missing_values
from saddlebag.launch.groupwise.data.expressions import ROUND, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.launch.groupwise.data.encoding import LabelCoder
    from saddlebag.launch.groupwise.data.expressions import Expression
    from saddlebag.launch.groupwise.recipe import FeatureTable


def check_compared(table: FeatureTable, columns: Columns, expression: Expression, where: str, *, start: int = 1) -> None:
    """Refuse a comparison with numbers of which some are missing, unless the recipe says what they mean."""
    for name in sorted(expression.columns & columns.values.keys()):
        values = columns.values[name]
        if table.missing == "refuse" and values.dtype.kind == "f" and np.isnan(values).any():
            what = missing_values(f"{where} compares column {name!r}, which", np.isnan(values), start)
            raise DataError(f'{what}; with features.missing = "mean" they are unequal to all numbers, below and above none')


@dataclasses.dataclass(frozen=True, eq=False)
class RowEncoder:
    """Encodes tables of rows for a service, by constants that do not change.

    Attributes:
        facts: of the features, with their constants: see `saddlebag.launch.groupwise.data.encoding`.
        table: what the recipe says of missing and unknown values.
        kinds: "numbers" or "text" of each column that is needed.
        groups: names of all groups; each with its expression, or with None for a column of 0 and 1 that has its name.
        label: of the labels.
        marks: texts that stand for a missing one.
        prediction: the column of the user's own predictions; empty for none.
        share: the groups whose memberships are wanted; None for all.
    """

    facts: Sequence[dict[str, Any]]
    table: FeatureTable
    kinds: Mapping[str, str]
    groups: Mapping[str, Expression | None]
    label: LabelCoder
    marks: tuple[str, ...] = ()
    prediction: str = ""
    share: slice | None = None

    @property
    def columns(self) -> dict[str, str]:
        """The columns that a row needs, and their kinds: "numbers" or "text"."""
        needed = [fact["column"] for fact in self.facts if "column" in fact]
        for name, expression in self.groups.items():
            needed += sorted(expression.columns & self.kinds.keys()) if expression else [name]
        needed += [self.prediction] if self.prediction else []
        return {name: self.kinds.get(name, "numbers") for name in needed}

    @property
    def label_column(self) -> tuple[str, bool]:
        """The label's column, and whether it is text."""
        name = str(self.label.facts["column"])
        return name, self.kinds.get(name) == "text"

    def frozen(self, facts: Sequence[dict[str, Any]]) -> RowEncoder:
        """The same with the constants of an earlier start."""
        return dataclasses.replace(self, facts=facts)

    def with_group(self, name: str, rule: str) -> RowEncoder:
        """The same with one more group at the end.

        Raises:
            ConfigError: the rule is no expression over the table's columns, or reads the label.
        """
        where, expression = f"groups.{name}", parse(rule, f"groups.{name}")
        if self.label.facts["column"] in expression.columns:
            raise ConfigError(f"{where} depends on the label {self.label.facts['column']!r}, unknown before the prediction")
        for column in sorted(expression.columns - {ROUND}):
            if column not in self.kinds:
                raise ConfigError(f"{where}: the table has no column {column!r}; it has {', '.join(self.kinds)}")
        none = {name: np.empty(0, np.str_ if kind == "text" else np.float64) for name, kind in self.kinds.items()}
        expression.members(Columns("the table", none), where)  # numbers are not compared with text
        return dataclasses.replace(self, groups={**self.groups, name: expression})

    def encode(self, values: Mapping[str, npt.NDArray[Any]], first: int) -> tuple[Array, npt.NDArray[np.bool_], Array | None]:
        """Features (N, D), memberships (N, G) of the share's groups, and the user's own predictions (N,) or None.

        Args:
            values: the needed columns, float64 (NaN where missing) or text ("" where missing).
            first: the number of the first row, which expressions know as `round`.

        Raises:
            RemoteProtocolError: a value is missing or unknown, and the recipe refuses it.
        """
        values = {name: self._unmarked(value) for name, value in values.items()}
        columns = Columns("the request", values)
        try:
            awake = {name: self._members(name, columns, first) for name in self.groups}
            doubles = {name: member_N.astype(np.float64) for name, member_N in awake.items()}
            x_ND = encode_features(self.facts, columns, doubles, self.table, start=0)
            given_N = None
            if self.prediction:
                where = f"intervals.prediction: column {self.prediction!r}"
                given_N = self.label.scaled(columns.numbers(self.prediction, "intervals.prediction"), where)
                if not np.isfinite(given_N).all():
                    raise DataError(missing_values(where, ~np.isfinite(given_N), 0))
        except SaddlebagError as error:
            raise RemoteProtocolError(str(error)) from error
        return x_ND, np.column_stack(list(awake.values())[self.share or slice(None)]), given_N

    def encode_labels(self, values: npt.NDArray[Any]) -> Array:
        """Labels as learners see them, from values of the label's column.

        Raises:
            RemoteProtocolError: one is missing, or of the wrong kind.
        """
        try:
            return self.label.encode(self._unmarked(values), f"label {self.label.facts['column']!r}")
        except DataError as error:
            raise RemoteProtocolError(str(error)) from error

    def decode_labels(self, value_N: Array) -> Array:
        """Predictions in units of the label's column."""
        return self.label.decode(value_N)

    def _unmarked(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.where(np.isin(values, self.marks), "", values) if self.marks and values.dtype.kind == "U" else values

    def _members(self, name: str, columns: Columns, first: int) -> npt.NDArray[np.bool_]:
        expression = self.groups[name]
        if expression is not None:
            check_compared(self.table, columns, expression, f"groups.{name}", start=0)
            return expression.members(columns, f"groups.{name}", first_round=first)
        value_N = columns.numbers(name, f"groups.{name}")
        if (gone_N := gone(value_N)).any():
            raise DataError(missing_values(f"groups.{name}: column {name!r}", gone_N, 0))
        if not np.isin(value_N, (0.0, 1.0)).all():
            raise DataError(f"groups.{name}: column {name!r} must hold 0 and 1, a service takes no fractions")
        member_N: npt.NDArray[np.bool_] = value_N == 1.0
        return member_N
