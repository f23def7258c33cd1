"""Rules for the means of a round by name, as recipes write them, and the methods that bear them.

The server's half of a method must bear another mean than the plain one: `TakesAnyMean` says whether it does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.averages.robust import (
    CentredClipping,
    ContributionMean,
    CoordinateMedian,
    GeometricMedian,
    NormBound,
    TrimmedMean,
)
from saddlebag.algorithms.method_capabilities import Compresses, TakesAnyMean
from saddlebag.algorithms.wrapped import unwrapped
from saddlebag.compression.base import Sparsifier, errors_average, jointly
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.averages.robust import RobustMean
    from saddlebag.algorithms.base import AnyMethod

__all__ = ["MEANS"]

PLAIN = "mean"
"""What recipes call the plain mean, which is no rule."""

MEANS: dict[str, Callable[..., RobustMean]] = {
    "centred_clipping": CentredClipping,
    "contribution": ContributionMean,
    "coordinate_median": CoordinateMedian,
    "geometric_median": GeometricMedian,
    "norm_bound": NormBound,
    "trimmed_mean": TrimmedMean,
}
"""Name -> rule; a new one is its class and a line here."""


def make_mean(said: str | Mapping[str, Any]) -> RobustMean | None:
    """A rule by its name, or by a table of its name and parameters, as recipes write it; None for the plain mean.

    Raises:
        ConfigError: the name or a parameter is unknown, or a value has the wrong type or is out of range.

    Example:
        >>> make_mean({"name": "trimmed_mean", "fraction": 0.3})
        TrimmedMean(fraction=0.3)
        >>> make_mean("mean") is None
        True
    """
    table = dict(said) if isinstance(said, Mapping) else {"name": said}
    name = table.pop("name", None)
    known = (PLAIN, *sorted(MEANS))
    if name not in known:
        raise ConfigError(f"name must be one of {', '.join(map(repr, known))}, got {name!r}")
    if name == PLAIN:
        fields: dict[str, dataclasses.Field[Any]] = {}
    else:
        factory: Any = MEANS[name]
        fields = {field.name: field for field in dataclasses.fields(factory)}
    for key, value in table.items():
        if key not in fields:
            raise ConfigError(f"{key} is no parameter of {name!r}; it has {', '.join(fields) or 'none'}")
        whole = fields[key].type == "int"
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise ConfigError(f"{key} must be a {'whole ' if whole else ''}number, got {value!r}")
    return None if name == PLAIN else MEANS[name](**table)


def require_robust(method: AnyMethod, rule: RobustMean | None, path: str = "server.mean") -> None:
    """Refuse a rule that the method's server, or its compressor, does not bear.

    Args:
        method: of the run.
        rule: what takes the place of the mean; None, the plain one, fits everything.
        path: where it was asked for, for the message.

    Raises:
        ConfigError: it does not fit, and why.
    """
    if rule is None:
        return
    inner = unwrapped(method)
    memories = "its server adds up what the workers keep of themselves"
    why = inner.needs_plain_mean if isinstance(inner, TakesAnyMean) else memories
    if why:
        raise ConfigError(
            f"{path}: {type(inner).__name__} takes the plain mean only, for {why}; use one whose rounds stand alone, such as "
            "qsgda, compressed_sgd or local_average"
        )
    up = inner.up if isinstance(inner, Compresses) else None
    if up is not None and jointly(up):
        raise ConfigError(f"{path}: {up} divides coordinates among workers, so no two of them can be compared")
    if rule.by_coordinate and isinstance(up, Sparsifier) and errors_average(up):
        raise ConfigError(
            f"{path}: with {up} most workers send nothing of most coordinates, and {type(rule).__name__} of that is 0; use a "
            "quantiser, a common support, or a rule of whole vectors such as 'geometric_median'"
        )


def mean_for(method: AnyMethod, said: str | Mapping[str, Any], path: str) -> RobustMean | None:
    """What `make_mean` makes of it, where `require_robust` has nothing against it; errors as theirs, from `path` on."""
    try:
        rule = make_mean(said)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    require_robust(method, rule, path)
    return rule
