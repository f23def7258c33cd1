"""The table [conjunctions] of a recipe."""

from __future__ import annotations

import dataclasses

from saddlebag.errors import ConfigError

MOST = 100_000
"""Groups; each costs a model, and names and numbers in reports."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConjunctionTable:
    """Groups from columns.

    Attributes:
        columns: of text or numbers.
        depth: how many columns a group may name at once.
        at_least: rows of a group, in the whole table.
        bins: parts of a column of numbers, between quantiles.
        most: groups; more are refused.
    """

    columns: list[str] = dataclasses.field(default_factory=list)
    depth: int = 2
    at_least: int = 50
    bins: int = 4
    most: int = 1000

    def __post_init__(self) -> None:
        if not self.columns or len(set(self.columns)) < len(self.columns):
            raise ConfigError(f"columns must be different names, at least one, got {self.columns}")
        if not 1 <= self.depth <= len(self.columns):
            raise ConfigError(f"depth must be 1 to {len(self.columns)}, the number of columns, got {self.depth}")
        for name, low, high in (("at_least", 1, None), ("bins", 2, 100), ("most", 1, MOST)):
            value = getattr(self, name)
            if value < low or (high is not None and value > high):
                raise ConfigError(f"{name} must be at least {low}{f' and at most {high}' if high else ''}, got {value}")
