"""Parameters to show a compressor with: the first of a name is typical, all together span its range of sizes.

A compressor of another package brings its own as an attribute `examples` of the factory, a sequence of tables; one that
can be made without parameters needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saddlebag.launch.plugins import REGISTRIES, load_plugins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saddlebag.compression.base import Compressor

__all__ = ["EXAMPLES", "example_of", "settings_of"]

Table = dict[str, Any]


def _each(key: str, *values: object, **rest: object) -> tuple[Table, ...]:
    """One table for each value of a parameter."""
    return tuple({key: value, **rest} for value in values)


_KEPT = _each("fraction", 0.01, 0.001, 0.003, 0.03, 0.1, 0.3)

EXAMPLES: dict[str, tuple[Table, ...]] = {
    "dithering": _each("levels", 7, 1, 127, norm="max", block=256),
    "identity": ({},),
    "low_rank": _each("rank", 4, 1, 2, 8, 16, 32),
    "natural": ({},),
    "natural_dithering": _each("levels", 7, 3),
    "rand_k": _KEPT,
    "top_k": _KEPT,
    "unscaled_rand_k": _KEPT,
}


def settings_of(name: str) -> tuple[Table, ...]:
    """The parameters to show a registered compressor with; empty where nobody knows any."""
    load_plugins()
    given: Sequence[Table] = EXAMPLES.get(name) or getattr(REGISTRIES["compressors"][name], "examples", None) or ({},)
    return tuple(table for table in given if _make(name, table) is not None)


def example_of(name: str) -> Compressor | None:
    """A registered compressor with typical parameters, or None where nobody knows any."""
    settings = settings_of(name)
    return _make(name, settings[0]) if settings else None


def _make(name: str, table: Table) -> Compressor | None:
    try:
        compressor: Compressor = REGISTRIES["compressors"][name](**table)
    except Exception:  # of a stranger, who may raise anything; ours are made in a test
        return None
    return compressor
