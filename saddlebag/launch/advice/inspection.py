"""`saddlebag inspect compressor`: what is proven about a compressor beside what is measured on a vector."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import click

from saddlebag.compression import Contractive, Unbiased, kind_of
from saddlebag.errors import ConfigError
from saddlebag.launch.advice.examples import settings_of
from saddlebag.launch.advice.listing import written
from saddlebag.launch.advice.measure import measure
from saddlebag.launch.recipe import toml
from saddlebag.launch.recipe.fields import at, fit
from saddlebag.launch.recipe.plugins import find
from saddlebag.launch.results.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from saddlebag.compression import Compressor, Vector

__all__ = ["build", "inspect_compressor", "parameters", "print_report"]


def parameters(name: str, kept: float | None, sets: Sequence[str]) -> dict[str, Any]:
    """The parameters of a compressor as the command line gives them, or its typical ones where it gives none.

    Args:
        name: of the compressor.
        kept: below 1 a `fraction`, else the whole number `k`.
        sets: `key=value`, TOML values.

    Raises:
        ConfigError: `kept` is neither, or an assignment is malformed.
    """
    find("compressors", name, "compressor")
    table: dict[str, Any] = {}
    if kept is not None:
        if not (0 < kept < 1 or (kept >= 1 and kept == int(kept))):
            raise ConfigError(f"--k must be a fraction in (0, 1) or a whole number of coordinates, got {kept:g}")
        table = {"fraction": kept} if kept < 1 else {"k": int(kept)}
    for assignment in sets:
        toml.override(table, assignment)
    return table or next(iter(settings_of(name)), {})


def build(name: str, table: Mapping[str, Any]) -> Compressor:
    """The compressor with these parameters.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type or is out of range.
    """
    factory = find("compressors", name, "compressor")
    with at(name):
        compressor: Compressor = factory(**fit(factory, table, name))
    return compressor


def inspect_compressor(name: str, table: Mapping[str, Any], x_D: Vector, *, draws: int, what: str) -> dict[str, Any]:
    """Everything about one compressor on one vector, as JSON would have it; times in seconds, sizes in bytes.

    `omega` and `alpha` are the proven constants, `omega_here` and `alpha_here` those of this vector: by the law,
    omega_here <= omega and alpha_here >= alpha, up to the spread over the draws.
    """
    compressor = build(name, table)
    d = len(x_D)
    measured = measure(compressor, x_D, draws=draws)
    report: dict[str, Any] = {"name": name, "parameters": dict(table), "vector": what, "d": d, "kind": kind_of(compressor)}
    if isinstance(compressor, Unbiased):
        report |= {"omega": compressor.omega(d), "omega_here": measured.error2}
    if isinstance(compressor, Contractive):
        report |= {"alpha": compressor.alpha(d), "alpha_here": 1.0 - measured.error2}
    report |= dataclasses.asdict(measured)
    if math.isnan(measured.entropy_bytes):
        report["entropy_bytes"] = None  # JSON has no NaN
    report["model_bytes"] = report.pop("model_bits") / 8.0
    report["bits_per_coordinate"] = 8.0 * measured.encoded_bytes / d
    report["saving"] = 4.0 * d / measured.encoded_bytes
    return report


def print_report(report: Mapping[str, Any]) -> None:
    """The report for people."""
    d = report["d"]
    parameters = f" ({written(report['parameters'])})" if report["parameters"] else ""
    click.secho(f"{report['name']}{parameters} on {report['vector']}, d = {d:,}", bold=True)
    _line("kind", report["kind"])
    _line(
        "error",
        f"E|C(x) - x|^2 = {report['error2']:.4g} |x|^2 over {report['draws']} draws; |C(x) - x| is about "
        f"{math.sqrt(report['error2']):.3g} |x|",
    )
    if "omega" in report:
        _line("omega", f"{report['omega_here']:.4g} measured here, {report['omega']:.4g} proven for every vector")
    if "alpha" in report:
        _line("alpha", f"{report['alpha_here']:.4g} measured here, {report['alpha']:.4g} proven for every vector")
    size = report["encoded_bytes"]
    _line(
        "message",
        f"{format_bytes(size)} ({size:,.0f} bytes), {report['bits_per_coordinate']:.4g} bits per coordinate, "
        f"{report['saving']:.3g} times less than float32",
    )
    _line("model", f"{format_bytes(report['model_bytes'])}; the message is {_ratio(size, report['model_bytes'])} of it")
    bound = report["entropy_bytes"]
    _line(
        "entropy",
        "not known for this layout" if bound is None else f"{format_bytes(bound)}; the message is {_ratio(size, bound)} of it",
    )
    if report["index_bits"] is not None:
        index, least = report["index_bits"], report["index_bound_bits"]
        _line("indices", f"{index:.4g} bits each; {_ratio(index, least)} of log2 C(d, k) / k = {least:.4g}")
    for name, key in (("compress", "compress_s"), ("encode", "encode_s"), ("decode", "decode_s"), ("apply", "apply_s")):
        _line(name, f"{1e3 * report[key]:.3g} ms, {d / report[key] / 1e6:,.4g} M coordinates/s  ({_STAGES[name]})")


_STAGES = {
    "compress": "vector to payload",
    "encode": "payload to bytes",
    "decode": "bytes to payload",
    "apply": "bytes to payload, added to a vector",
}


def _line(name: str, text: str) -> None:
    click.echo(f"  {name:9} {text}")


def _ratio(size: float, bound: float) -> str:
    return f"{size / bound:.4f}" if bound else "-"
