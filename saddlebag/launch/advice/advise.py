"""`saddlebag advise`: measure the codec and the link, predict the round of each compressor, and say whether to compress."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from saddlebag.algorithms import Message
from saddlebag.compression import Draws, Identity, Sum, kind_of
from saddlebag.errors import ConfigError, SaddlebagError, check_choice
from saddlebag.launch.advice.echo import Link, loopback, measure_link
from saddlebag.launch.advice.examples import CHOICES, settings_of
from saddlebag.launch.advice.listing import written
from saddlebag.launch.advice.local_methods import local_costs, periods_of, predict_local
from saddlebag.launch.advice.measure import SEED, measure, squared_errors, timed
from saddlebag.launch.advice.model import GENTLE, Costs, Network, Prediction, Verdict, judge, predict
from saddlebag.launch.advice.vectors import synthetic
from saddlebag.launch.link.terms import METHODS as LINKED
from saddlebag.launch.recipe.plugins import REGISTRIES, find, load_plugins
from saddlebag.launch.recipe.toml import inline
from saddlebag.launch.results.columns import print_table
from saddlebag.launch.results.units import format_bytes, format_rate, format_short
from saddlebag.proto.codec import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from saddlebag.compression import Compressor, Vector
    from saddlebag.launch.advice.local_methods import LocalPrediction
    from saddlebag.launch.advice.vectors import Law
    from saddlebag.proto.endpoint import ClientSecurity

__all__ = ["Question", "advise", "advise_local", "costs_of", "network_of", "print_advice", "to_json"]

MEASURED = 4_000_000
"""Coordinates up to which costs are measured; beyond, times are taken as proportional to d and sizes to the cost model."""
_BUDGET_S = 0.15  # for each timing
_PROBE, _PROBES = 4096, 40  # coordinates and draws that show whether lengths vary
_MOST_MESSAGES = 8  # whose mean is timed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """What advice is asked about.

    Attributes:
        d: coordinates of the model.
        dtype: of its vectors, and of the dense messages that compression must beat.
        workers: M.
        compute_s: a worker's own work in a round.
        only: names of compressors; empty for all.
        law: of the entries of the vector that is compressed.
        methods: names of methods of local steps; empty for all.
        every: steps between their exchanges; empty for what each is shown with.

    Raises:
        ConfigError: a name in `only` or `methods` is unknown.
    """

    d: int
    dtype: str = "float32"
    workers: int = 8
    compute_s: float = 0.0
    only: tuple[str, ...] = ()
    law: Law = "gaussian"
    methods: tuple[str, ...] = ()
    every: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in self.methods:
            check_choice("--method", name, LINKED)
        for name in self.only:
            find("compressors", name, "--only")


def network_of(
    question: Question,
    *,
    link: str | None,
    bandwidth: float | None,
    latency_s: float | None,
    server_rate: float | None,
    security: ClientSecurity | None = None,
) -> Network:
    """The network: given numbers, or measured where they are not; gRPC's own rate is always measured.

    Args:
        question: for the number of workers.
        link: HOST:PORT of `saddlebag echo`, or "loopback".
        bandwidth: of a worker's link in bits per second, instead.
        latency_s: one way; beside `link` it replaces what was measured.
        server_rate: of the server's link in bits per second; None for one that never limits.
        security: TLS files for `link`.

    Raises:
        ConfigError: not exactly one of link and bandwidth is given.
        PeerLost: nothing answers there.
    """
    if (link is None) == (bandwidth is None):
        raise ConfigError("give either --bandwidth (such as 100M) or --link (HOST:PORT of 'saddlebag echo', or loopback)")
    transport = loopback()
    if bandwidth is not None:
        seconds = transport.latency_s if latency_s is None else latency_s
        found = Link(up=bandwidth, down=bandwidth, latency_s=seconds, source="as given")
    else:
        found = transport if link == "loopback" else measure_link(str(link), security=security)
        found = found if latency_s is None else dataclasses.replace(found, latency_s=latency_s)
    rate = math.inf if server_rate is None else server_rate
    return Network(link=found, workers=question.workers, server_rate=rate, transport=transport)


def costs_of(name: str, table: Mapping[str, Any], compressor: Compressor, question: Question, x_D: Vector) -> Costs:
    """Measure a compressor on (a part of) the model's size.

    Raises:
        ConfigError: its parameters do not fit the dimension.
    """
    measured_d = len(x_D)
    grown = question.d / measured_d
    got = measure(compressor, x_D, draws=1, seconds=_BUDGET_S)
    return Costs(
        name=name,
        parameters=dict(table),
        kind=kind_of(compressor),
        message_bytes=got.encoded_bytes * (compressor.bits(question.d) / got.model_bits if got.model_bits else grown),
        error=math.sqrt(got.error2),
        compress_s=grown * (got.compress_s + got.encode_s),
        apply_s=grown * got.apply_s,
        gather_s=grown * _gather_s(compressor, x_D, min(question.workers, _MOST_MESSAGES)),
    )


def _require_steady(compressor: Compressor, x_D: Vector) -> None:
    """Raise `ConfigError` for messages of very different lengths: a round waits for the longest, and one says nothing."""
    _, sizes = squared_errors(compressor, x_D, _PROBES)
    if max(sizes) > 2 * min(sizes):
        raise ConfigError(
            f"its messages vary from {min(sizes)} to {max(sizes)} bytes at d={len(x_D)}; a round waits for the longest"
        )


def _gather_s(compressor: Compressor, x_D: Vector, workers: int) -> float:
    """Seconds for each of the workers' messages when the server decodes them and forms their mean."""
    received = []
    for worker in range(workers):
        draws = Draws(SEED, 0, worker)
        received.append((b"".join(encode(Message((compressor.encode(x_D, draws),)))), draws))
    memory_D = np.zeros(len(x_D))

    def gather() -> None:
        total = Sum(len(x_D), memory_D)
        for data, draws in received:
            total.add(decode(data, (len(x_D),), draws).parts[0])
        total.mean(workers)

    return timed(gather, _BUDGET_S) / workers


def advise(question: Question, network: Network, note: Callable[[str], None] = lambda text: None) -> tuple[Verdict, list[str]]:
    """Measure, predict and judge; also returns why compressors were left out."""
    load_plugins()
    x_D = synthetic(question.law, min(question.d, MEASURED)).astype(question.dtype)
    others: list[Prediction] = []
    left_out: list[str] = []
    for name in question.only or sorted(REGISTRIES["compressors"].keys() - CHOICES - {"identity"}):
        note(f"measuring {name}")
        for table in settings_of(name)[:1]:
            if "workers" in table:  # it deals coordinates to them
                table = {**table, "workers": question.workers}
            try:
                compressor = REGISTRIES["compressors"][name](**table)
                _require_steady(compressor, x_D[:_PROBE])
                costs = costs_of(name, table, compressor, question, x_D)
            except SaddlebagError as error:
                left_out.append(f"{name}: {error}")
                continue
            others.append(predict(costs, network, question.compute_s))
    note("measuring the dense round")
    dtype: Any = question.dtype
    dense = costs_of("identity", {"dtype": dtype}, Identity(dtype=dtype), question, x_D)
    return judge(predict(dense, network, question.compute_s), others), left_out


def advise_local(
    question: Question, network: Network, note: Callable[[str], None] = lambda text: None
) -> list[LocalPrediction]:
    """Measure and predict the methods of local steps, fastest gradient first."""
    x_D = synthetic(question.law, min(question.d, MEASURED))
    rows = []
    for name in question.methods or LINKED:
        note(f"measuring {name}")
        costs = local_costs(name, x_D, question.d, question.workers, _BUDGET_S)
        rows += [predict_local(costs, every, network, question.compute_s) for every in periods_of(name, question.every)]
    return sorted(rows, key=lambda row: row.gradient_s)


def to_json(question: Question, network: Network, verdict: Verdict, left_out: Sequence[str]) -> dict[str, Any]:
    """Everything as JSON would have it; times in seconds, rates in bits per second."""
    return {
        **dataclasses.asdict(question),
        "link": dataclasses.asdict(network.link),
        "server_rate": None if math.isinf(network.server_rate) else network.server_rate,
        "transport": dataclasses.asdict(network.transport),
        "compress": verdict.compress,
        "reason": verdict.reason,
        "gentle": verdict.gentle and verdict.gentle.costs.name,
        "rounds": [
            {**dataclasses.asdict(prediction), "total_s": prediction.total_s, "speedup": speedup}
            for prediction, speedup in zip(verdict.ranked, verdict.speedups, strict=True)
        ],
        "left_out": list(left_out),
    }


def print_advice(question: Question, network: Network, verdict: Verdict, left_out: Sequence[str]) -> None:
    """The table and the verdict for people."""
    link, grpc = network.link, network.transport
    click.echo(f"{question.d:,} coordinates in {question.dtype}, {network.workers} workers")
    click.echo(
        f"link ({link.source}): {format_rate(link.up)} up, {format_rate(link.down)} down, {format_short(link.latency_s)}"
    )
    click.echo(f"gRPC between two processes here: {format_rate(grpc.up)} up, {format_rate(grpc.down)} down")
    if question.d > MEASURED:
        click.echo(f"costs measured at {MEASURED:,} coordinates; times grow in proportion")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("compressor", "setting", "kind", "error", "message", "compress", "network", "server", "round", "speed-up"):
        left = column in ("compressor", "setting", "kind")
        table.add_column(column, justify="left" if left else "right", max_width=40 if column == "setting" else None)
    for each, speedup in zip(verdict.ranked, verdict.speedups, strict=True):
        costs, dense = each.costs, each.costs.name == "identity"
        table.add_row(
            "dense" if dense else escape(costs.name),
            escape(written(costs.parameters)),
            "-" if dense else costs.kind.replace("unbiased and contractive", "both"),
            "-" if dense else f"{costs.error:.2g}",
            format_bytes(costs.message_bytes),
            format_short(each.compress_s + each.apply_s),
            format_short(each.up_s + each.down_s),
            format_short(each.server_s),
            format_short(each.total_s),
            f"{speedup:.2f}x",
            style="bold" if dense else None,
        )
    print_table(table)
    _print_verdict(verdict, left_out)


def _print_verdict(verdict: Verdict, left_out: Sequence[str]) -> None:
    click.secho(verdict.reason, bold=True, fg="green" if verdict.compress else "yellow")
    if verdict.compress:
        click.echo("A compressed round brings less than a dense one: a compressor pays off while it needs less than its")
        click.echo("speed-up times as many rounds, which 'saddlebag run' with a baseline measures on your problem.")
        for kind in ("unbiased", "contractive"):
            best = next(
                (each.costs for each in verdict.ranked if kind in each.costs.kind and each.costs.name != "identity"), None
            )
            if best is not None:
                click.echo(f"fastest {kind + ' one:':28} up = {_recipe(best)}")
        name = f"with an error below {100 * GENTLE:g} %:"
        click.echo(
            f"fastest {name:28} " + (f"up = {_recipe(verdict.gentle.costs)}" if verdict.gentle else "none is faster than dense")
        )
    for reason in left_out:
        click.echo(f"left out {reason}")


def _recipe(costs: Costs) -> str:
    return inline({"name": costs.name, **costs.parameters})
