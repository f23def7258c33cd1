"""Of very many groups those that are shown: the worst and best off, and the largest; all of them are in groups.csv."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MANY = 1000
"""Groups of which all are shown."""
_EACH = 60  # of the worst off, of the best off, and of the largest
_NAMED = 10


def shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """A study's values with the rows that people look at, those farthest from their coverage among them.

    `of` says how many groups there are, `verdicts` how many of them are off how.

    Example:
        >>> shown({"groups": [{"group": "young"}, {"group": "always_on"}]})["groups"]
        [{'group': 'young'}, {'group': 'always_on'}]
    """
    rows = values["groups"]
    if len(rows) <= MANY:
        return dict(values)

    def gain(row: Mapping[str, Any]) -> float:
        lost: float = row["loss"]["mean"] - row["single_loss"]["mean"]
        return lost

    groups = rows[:-1]
    worst = sorted((row for row in groups if row["verdict"] not in ("better", "no clear difference")), key=gain, reverse=True)
    best = sorted((row for row in groups if row["verdict"] == "better"), key=gain)
    largest = sorted(groups, key=lambda row: -row["rounds"])
    off = sorted(values.get("intervals", {}).get("groups", ()), key=lambda row: -abs(row["coverage"]["mean"] - row["target"]))
    kept = {row["group"] for part in (worst, best, largest, off) for row in part[:_EACH]} | {rows[-1]["group"]}
    cut = {part: _cut(values[part], kept) for part in ("intervals", "calibration") if part in values}
    verdicts = dict(Counter(row["verdict"] for row in groups))
    return {**values, **cut, "groups": _cut(values, kept)["groups"], "of": len(groups), "verdicts": verdicts}


def _cut(part: Mapping[str, Any], kept: set[str]) -> dict[str, Any]:
    return {**part, "groups": [row for row in part["groups"] if row["group"] in kept]}


def listed(names: Sequence[str]) -> str:
    """Names in a sentence; of many the first, and how many more.

    Example:
        >>> listed([f"group {n}" for n in range(12)])
        'group 0, group 1, group 2, group 3, group 4, group 5, group 6, group 7, group 8, group 9 and 2 more'
    """
    more, mark = len(names) - _NAMED, "; " if any("," in name for name in names) else ", "
    return mark.join(names) if more <= 0 else f"{mark.join(names[:_NAMED])} and {more:,} more"
