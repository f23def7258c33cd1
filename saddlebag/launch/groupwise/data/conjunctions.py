"""Groups that nobody lists: all conjunctions of some columns' values with enough rows, as expressions like those of [groups].

Text gives a part for each value, numbers parts between quantiles of the table. A conjunction takes at most one part of each
column. It is kept if it has `at_least` rows, and not just those of a simpler one: what selects the same rows is the same group.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import ConfigError
from saddlebag.launch.groupwise.data.encoding import gone
from saddlebag.launch.groupwise.tables.conjunction_table import MOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from saddlebag.launch.groupwise.data.columns import Columns
    from saddlebag.launch.groupwise.tables.conjunction_table import ConjunctionTable


def conjunctions(table: ConjunctionTable, columns: Columns) -> dict[str, str]:
    """Names and expressions of the groups, simple ones first.

    Raises:
        ConfigError: a column is unknown, there are too many groups, or none.

    Example:
        >>> import numpy as np
        >>> from saddlebag.launch.groupwise.data.columns import Columns
        >>> from saddlebag.launch.groupwise.tables.conjunction_table import ConjunctionTable
        >>> people = Columns("people", {"sex": np.array(["f", "m", "f"]), "age": np.array([20.0, 30.0, 40.0])})
        >>> conjunctions(ConjunctionTable(columns=["sex", "age"], at_least=1, bins=2), people)["sex = f, age <= 30"]
        "`sex` == 'f' and `age` <= 30.0"
    """
    parts = {name: list(_parts(table, columns, name)) for name in table.columns}
    found: dict[str, str] = {}
    seen: set[bytes] = {np.packbits(np.ones(len(columns), np.bool_)).tobytes()}  # the group of all rounds
    # what is below a conjunction too small is smaller still
    whole: list[tuple[int, str, str, npt.NDArray[np.bool_]]] = [(-1, "", "", np.ones(len(columns), np.bool_))]
    for depth in range(1, table.depth + 1):
        deeper = []
        for place, name, text, member_N in whole:
            for number, column in itertools.islice(enumerate(table.columns), place + 1, None):
                for label, expression, part_N in parts[column]:
                    both_N = member_N & part_N
                    if np.count_nonzero(both_N) < table.at_least:
                        continue
                    joined = (f"{name}, {label}" if name else label, f"{text} and {expression}" if text else expression)
                    if depth < table.depth:
                        deeper.append((number, *joined, both_N))
                    key = np.packbits(both_N).tobytes()
                    if key not in seen:
                        seen.add(key)
                        found[joined[0]] = joined[1]
                        if len(found) > table.most:
                            raise ConfigError(
                                f"conjunctions: more than {table.most} groups of at least {table.at_least} rows; "
                                f"raise at_least or most (up to {MOST}), or lower depth"
                            )
        whole = deeper
    if not found:
        raise ConfigError(f"conjunctions: no group has {table.at_least} rows; lower at_least")
    return found


def _parts(table: ConjunctionTable, columns: Columns, name: str) -> Iterator[tuple[str, str, npt.NDArray[np.bool_]]]:
    """The parts of a column: in words, as an expression, and who belongs to it."""
    values: npt.NDArray[Any] = columns.column(name, "conjunctions.columns")
    if "`" in name:
        raise ConfigError(f"conjunctions.columns: a column with a backquote cannot be named in an expression, got {name!r}")
    quoted = f"`{name}`"
    if values.dtype.kind != "f":
        for level in np.unique(values).tolist():
            mark = "'" if "'" not in level else '"'
            if mark in level:
                raise ConfigError(f"conjunctions.columns: {name!r} holds {level!r}, with both kinds of quotes")
            yield f"{name} = {level}", f"{quoted} == {mark}{level}{mark}", values == level
        return
    known_N = values[~gone(values)]
    if not len(known_N):
        return
    edges = np.unique(np.quantile(known_N, np.arange(1, table.bins) / table.bins, method="lower")).tolist()
    edges = [edge for edge in edges if edge < known_N.max()]
    if not edges:
        return
    yield f"{name} <= {edges[0]:.6g}", f"{quoted} <= {edges[0]!r}", values <= edges[0]
    for low, high in itertools.pairwise(edges):
        yield f"{low:.6g} < {name} <= {high:.6g}", f"{low!r} < {quoted} <= {high!r}", (low < values) & (values <= high)
    yield f"{name} > {edges[-1]:.6g}", f"{quoted} > {edges[-1]!r}", values > edges[-1]
