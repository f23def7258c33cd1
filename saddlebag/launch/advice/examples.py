"""Parameters to show a compressor with: the first of a name is typical, all together span its range of sizes.

A compressor of another package brings its own as an attribute `examples` of the factory, a sequence of tables; one that
can be made without parameters needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saddlebag.compression.base import HasExamples
from saddlebag.launch.recipe.plugins import REGISTRIES, load_plugins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from saddlebag.compression.base import Compressor

__all__ = ["CHOICES", "EXAMPLES", "example_of", "settings_of"]

Table = dict[str, Any]


def _each(key: str, *values: object, **rest: object) -> tuple[Table, ...]:
    """One table for each value of a parameter."""
    return tuple({key: value, **rest} for value in values)


_KEPT = _each("fraction", 0.01, 0.001, 0.003, 0.03, 0.1, 0.3)

_MODEL: Table = {
    "tensors": [{"name": "layer.weight", "shape": [999, 1000]}, {"name": "layer.bias", "shape": [1000]}],
    "rules": [{"match": "*.bias", "use": {"name": "identity"}}, {"use": {"name": "top_k", "fraction": 0.01}}],
}

EXAMPLES: dict[str, tuple[Table, ...]] = {
    "budget": ({"of": "top_k", "budget_bytes": 50_000},),
    "decay": ({"of": "top_k", "parameter": "fraction", "first": 0.1, "ratio": 0.5, "every": 100, "last": 0.01},),
    "bernoulli": _each("probability", 0.1),
    "block_top_k": tuple({"block": 1024, **table} for table in _KEPT),
    "greedy_blocks": tuple({"block": 1000, **table} for table in _KEPT),
    "dithering": _each("levels", 7, 1, 127, norm="max", block=256),
    "identity": ({},),
    "low_rank": _each("rank", 4, 1, 2, 8, 16, 32),
    "natural": ({},),
    "natural_dithering": _each("levels", 7, 3, block=512),
    "compose": tuple({"sparsifier": {"name": "top_k", **table}, "values": {"name": "block_int8"}} for table in _KEPT),
    "per_tensor": (_MODEL,),
    "induced": tuple(
        {"contractive": {"name": "top_k", **table}, "unbiased": {"name": "rand_k", **table}} for table in _KEPT[:-1]
    ),
    "scaled": ({"unbiased": {"name": "natural"}},),
    "hard_threshold": _each("threshold", 1.0),
    "perm_k": _each("workers", 4, 16, 64),
    "rand_k": _KEPT,
    "schedule": (
        {"pieces": [{"round": 0, "name": "top_k", "fraction": 0.1}, {"round": 100, "name": "top_k", "fraction": 0.01}]},
    ),
    "sampled_top_k": _KEPT,
    "top_k": _KEPT,
    "unscaled_rand_k": _KEPT,
}
CHOICES = frozenset({"budget", "decay", "schedule"})
"""Those that only choose among the others, with nothing of their own to draw."""


def settings_of(name: str) -> tuple[Table, ...]:
    """The parameters to show a registered compressor with; empty where nobody knows any."""
    load_plugins()
    factory: object = REGISTRIES["compressors"][name]
    own: Sequence[Mapping[str, Any]] = factory.examples if isinstance(factory, HasExamples) else ()
    given = EXAMPLES.get(name) or own or ({},)
    return tuple(dict(table) for table in given if _make(name, table) is not None)


def example_of(name: str) -> Compressor | None:
    """A registered compressor with typical parameters, or None where nobody knows any."""
    settings = settings_of(name)
    return _make(name, settings[0]) if settings else None


def _make(name: str, table: Mapping[str, Any]) -> Compressor | None:
    try:
        compressor: Compressor = REGISTRIES["compressors"][name](**table)
    except Exception:  # of a stranger, who may raise anything; ours are made in a test
        return None
    return compressor
