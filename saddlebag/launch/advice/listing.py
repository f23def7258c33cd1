"""`saddlebag list`: what a recipe may name, with where it comes from."""

from __future__ import annotations

import contextlib
import inspect
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.groupwise.capabilities import Replays
from saddlebag.algorithms.method_capabilities import Sends
from saddlebag.algorithms.problems.games.finite_bilinear import FiniteBilinearGame
from saddlebag.algorithms.registry import make_method, takes_compressors
from saddlebag.compression.base import HasReference
from saddlebag.compression.compressors.identity import Identity
from saddlebag.compression.compressors.sparsifiers.rand_k import RandK
from saddlebag.compression.compressors.sparsifiers.top_k import TopK
from saddlebag.errors import SaddlebagError
from saddlebag.launch.advice.entry_table import CONSTANTS, DIMENSION
from saddlebag.launch.advice.examples import example_of, settings_of
from saddlebag.launch.recipe.plugins import REGISTRIES, load_plugins
from saddlebag.launch.recipe.toml import inline
from saddlebag.parameters import parameters_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from saddlebag.compression.base import Compressor

__all__ = ["entries", "written"]

_PROBES: dict[str, Compressor] = {"unbiased": RandK(k=1), "contractive": TopK(k=1)}


def entries(kind: str) -> list[dict[str, Any]]:
    """One row for each entry of a registry: name, kind, parameters, origin, description; for compressors more."""
    plugins = load_plugins()
    describe = _KINDS[kind]
    return [
        {
            "name": name,
            **describe(name, factory),
            "parameters": ", ".join(key for key in _parameters(factory) if key not in _ELSEWHERE),
            "origin": plugins.origin(kind, name),
            "description": _description(name, factory),
        }
        for name, factory in sorted(REGISTRIES[kind].items())
    ]


_ELSEWHERE = ("problem", "up", "down", "data", "num_workers", "split")  # they come from other tables of a recipe


def _parameters(factory: Callable[..., Any]) -> list[str]:
    try:
        return list(parameters_of(factory))
    except (TypeError, ValueError):  # a callable without a signature
        return []


def _compressor(name: str, factory: Callable[..., Any]) -> dict[str, Any]:
    """Kind, constants and size with typical parameters at a million coordinates; None for what nobody can tell."""
    example = example_of(name)
    made = factory if example is None else example
    kinds = [kind for kind, constant in CONSTANTS.items() if hasattr(made, constant)]
    row: dict[str, Any] = {"kind": " and ".join(kinds) or "not known", "example": None, "bits_per_coordinate": None}
    row |= dict.fromkeys(CONSTANTS.values())
    if example is not None:
        row["example"] = written(settings_of(name)[0])
        with contextlib.suppress(Exception):  # a stranger's example need not fit a million coordinates
            row["bits_per_coordinate"] = example.bits(DIMENSION) / DIMENSION
            row |= {constant: getattr(example, constant)(DIMENSION) for constant in map(CONSTANTS.get, kinds) if constant}
    row["reference"] = made.reference if isinstance(made, HasReference) else None
    return row


def written(table: Mapping[str, Any]) -> str:
    """Parameters as `--set` takes them."""
    return " ".join(f"{key}={value if isinstance(value, str) else inline(value)}" for key, value in table.items())


def _method(name: str, factory: Callable[..., Any]) -> dict[str, str]:
    """Which compressors a method takes, found by trying one of each kind."""
    if not takes_compressors(name):
        return {"kind": factory.sends if isinstance(factory, Sends) else "uncompressed"}
    problem, takes = FiniteBilinearGame(n=1, num_workers=1), []
    for kind, probe in _PROBES.items():
        try:
            make_method(name, problem, up=probe, down=Identity(), step_size=0.1)
        except SaddlebagError:
            continue
        takes.append(kind)
    return {"kind": f"takes {' and '.join(takes)}" if takes else "not known"}


def _problem(name: str, factory: Callable[..., Any]) -> dict[str, str]:
    del name
    return {"kind": "on data" if "split" in _parameters(factory) else "generated"}


def _learner(name: str, factory: Callable[..., Any]) -> dict[str, str]:
    """Whether a recorded stream is replayed by products of matrices, or round by round."""
    del name
    learner = factory(dimension=1) if "dimension" in _parameters(factory) else factory
    return {"kind": "online, fast replay" if isinstance(learner, Replays) else "online"}


def _mixer(name: str, factory: Callable[..., Any]) -> dict[str, str]:
    del name
    known = _parameters(factory)
    return {"kind": "range declared" if "loss_range" in known else "rate declared" if "rate" in known else "scale-free"}


_KINDS: dict[str, Callable[[str, Callable[..., Any]], dict[str, Any]]] = {
    "compressors": _compressor,
    "learners": _learner,
    "methods": _method,
    "mixers": _mixer,
    "problems": _problem,
}


def _description(name: str, factory: Callable[..., Any]) -> str:
    """The first line of the module that is named after the entry, or of the factory."""
    module = inspect.getmodule(factory)
    own = module is not None and module.__name__.rpartition(".")[2] == name
    text = inspect.getdoc(module if own else factory) or ""
    return text.partition("\n")[0]
