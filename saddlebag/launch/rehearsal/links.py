"""What machines and links a fleet has: distributions from a TOML file, and what they give each worker."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from saddlebag.errors import ConfigError
from saddlebag.launch.recipe.fields import read_table, unknown
from saddlebag.launch.recipe.toml import read
from saddlebag.launch.results.units import parse_rate, parse_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["Links", "Spread", "links_from_dict", "load_links"]


@dataclasses.dataclass(frozen=True)
class Spread:
    """A log-normal distribution: 68 % of all values lie within a factor `spread` of the median; 1 makes all of them alike."""

    median: float
    spread: float = 1.0

    def draw(self, rng: np.random.Generator, size: int) -> npt.NDArray[np.float64]:
        """So many values, float64."""
        return self.median * np.exp(math.log(self.spread) * rng.standard_normal(size))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Links:
    """A fleet.

    Attributes:
        up, down: bytes a second of a worker's link, drawn once for each worker.
        latency: seconds one way, drawn once for each worker.
        loss: chance that a message is sent again, `resend_s` later.
        server: bytes a second of the server's link, each way, which all workers share.
        step: seconds of a worker's step: its median is drawn once for each worker; None for what is measured here.
        stragglers, factor: chance that a step takes so many times as long.
        hours: mean hours between two failures of a worker, exponential; infinity for none.
        away: seconds until a worker that failed is back, drawn for each failure.
    """

    up: Spread = Spread(1.25e8)
    down: Spread = Spread(1.25e8)
    latency: Spread = Spread(1e-3)
    loss: float = 0.0
    resend_s: float = 0.2
    server: float = 1.25e9
    step: Spread | None = None
    stragglers: float = 0.0
    factor: float = 10.0
    hours: float = math.inf
    away: Spread = Spread(30.0)


def _rate(value: Any, path: str) -> float:
    """Bytes a second of a rate in bits, "100M", or in bytes, "12.5MB/s"."""
    if not isinstance(value, str):
        raise ConfigError(f'{path} must be a rate such as "100M" (bits a second) or "12.5MB/s", got {value!r}')
    return parse_rate(value, path) / 8


def _seconds(value: Any, path: str) -> float:
    if not isinstance(value, str):
        raise ConfigError(f'{path} must be a time such as "20ms", got {value!r}')
    return parse_seconds(value, path)


def _number(value: Any, path: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{path} must be a number from {low:g} to {high:g}, got {value!r}")
    return float(value)


def _spread(value: Any, path: str, one: Callable[[Any, str], float]) -> Spread:
    """One value for all, or a table of median and spread."""
    if not isinstance(value, dict):
        median, spread = one(value, path), 1.0
    else:
        for key in value.keys() - {"median", "spread"}:
            raise unknown(f"{path} has no key {key!r}", key, ("median", "spread"))
        if "median" not in value:
            raise ConfigError(f"{path} needs a median")
        median, spread = one(value["median"], f"{path}.median"), _number(value.get("spread", 1.0), f"{path}.spread", 1.0, 100.0)
    if not median > 0:
        raise ConfigError(f"{path} must be positive, got {value!r}")
    return Spread(median, spread)


_KEYS: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
    "link.up": ("up", lambda value, path: _spread(value, path, _rate)),
    "link.down": ("down", lambda value, path: _spread(value, path, _rate)),
    "link.latency": ("latency", lambda value, path: _spread(value, path, _seconds)),
    "link.loss": ("loss", lambda value, path: _number(value, path, 0.0, 0.5)),
    "link.resend": ("resend_s", _seconds),
    "server.bandwidth": ("server", _rate),
    "step.time": ("step", lambda value, path: _spread(value, path, _seconds)),
    "step.stragglers": ("stragglers", lambda value, path: _number(value, path, 0.0, 1.0)),
    "step.factor": ("factor", lambda value, path: _number(value, path, 1.0, 1e6)),
    "failures.hours": ("hours", lambda value, path: _number(value, path, 1e-3, 1e9)),
    "failures.away": ("away", lambda value, path: _spread(value, path, _seconds)),
}


def links_from_dict(table: Mapping[str, Any]) -> Links:
    """The fleet of a table.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type or range.

    Example:
        >>> links_from_dict({"link": {"up": {"median": "80M", "spread": 2}}}).up
        Spread(median=10000000.0, spread=2.0)
    """
    values: dict[str, Any] = {}
    for name, section in table.items():
        for key, value in read_table(section, name).items():
            path = f"{name}.{key}"
            if path not in _KEYS:
                raise unknown(f"a file of links has no key {path}", path, _KEYS)
            field, convert = _KEYS[path]
            values[field] = convert(value, path)
    return Links(**values)


def load_links(path: Path) -> Links:
    """The fleet of a TOML file; errors as `links_from_dict`."""
    return links_from_dict(read(path))
