"""`saddlebag list`: what a recipe may name, with where it comes from."""

from __future__ import annotations

import inspect
import textwrap
from typing import TYPE_CHECKING, Any

import click

from saddlebag.algorithms.problems.bilinear import BilinearGame
from saddlebag.algorithms.registry import make_method, takes_compressors
from saddlebag.compression.rand_k import RandK
from saddlebag.compression.top_k import TopK
from saddlebag.errors import SaddlebagError
from saddlebag.launch.fields import parameters_of
from saddlebag.launch.plugins import REGISTRIES, load_plugins

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.compression.base import Compressor

__all__ = ["entries", "print_entries"]

_INDENT = 6 * " "
_PROBES: dict[str, Compressor] = {"unbiased": RandK(k=1), "contractive": TopK(k=1)}


def entries(kind: str) -> list[dict[str, str]]:
    """One row for each entry of a registry: name, kind, parameters, origin, description."""
    plugins = load_plugins()
    describe = {"compressors": _compressor_kind, "methods": _method_kind, "problems": _problem_kind}[kind]
    return [
        {
            "name": name,
            "kind": describe(name, factory),
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


def _compressor_kind(name: str, factory: Callable[..., Any]) -> str:
    del name
    kinds = [
        f"{kind} ({constant})"
        for kind, constant in (("unbiased", "omega"), ("contractive", "alpha"))
        if hasattr(factory, constant)
    ]
    return " and ".join(kinds) or "not known"


def _method_kind(name: str, factory: Callable[..., Any]) -> str:
    """Which compressors a method takes, found by trying one of each kind."""
    del factory
    if not takes_compressors(name):
        return "uncompressed"
    problem, takes = BilinearGame(n=1, num_workers=1), []
    for kind, probe in _PROBES.items():
        try:
            make_method(name, problem, up=probe, down=probe, step_size=0.1)
        except SaddlebagError:
            continue
        takes.append(kind)
    return f"takes {' and '.join(takes)}" if takes else "not known"


def _problem_kind(name: str, factory: Callable[..., Any]) -> str:
    del name
    parameters = parameters_of(factory)
    return "on data" if "split" in parameters else "generated"


def _description(name: str, factory: Callable[..., Any]) -> str:
    """The first line of the module that is named after the entry, or of the factory."""
    module = inspect.getmodule(factory)
    own = module is not None and module.__name__.rpartition(".")[2] == name
    text = inspect.getdoc(module if own else factory) or ""
    return text.partition("\n")[0]


def print_entries(kinds: list[str]) -> None:
    """The entries for people."""
    for kind in kinds:
        click.secho(kind, bold=True)
        for row in entries(kind):
            click.echo(f"  {row['name']:24}  {row['kind']:40}  {row['origin']}")
            click.echo(textwrap.fill(row["description"], 100, initial_indent=_INDENT, subsequent_indent=_INDENT))
            if row["parameters"]:
                click.echo(f"{_INDENT}parameters: {row['parameters']}")
        click.echo()
