"""`saddlebag advise`."""

from __future__ import annotations

from typing import Any

import click

from saddlebag.launch.commands.group import COUNT, Choice
from saddlebag.launch.commands.options import Tls, json_option, note, print_json, tls_options

__all__ = ["advise"]


@click.command(short_help="Say whether compression pays, from measured costs.")
@click.option("--d", type=COUNT, required=True, help="Coordinates of the model.")
@click.option("--bandwidth", metavar="RATE", help="Of each worker's link, e.g. 100M (bits per second) or 12.5MB/s.")
@click.option("--latency", metavar="TIME", help="One way, e.g. 1ms.  [default: as measured]")
@click.option("--link", metavar="HOST:PORT", help="Measure the link to 'saddlebag echo' there instead, or 'loopback'.")
@tls_options("CA (PEM) that signed the certificate of 'saddlebag echo'.")
@click.option("--server-bandwidth", metavar="RATE", help="Of the server's link, which all workers share.  [default: no limit]")
@click.option("--workers", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--dtype", type=Choice(["float32", "float64"]), default="float32", show_default=True)
@click.option("--compute", metavar="TIME", default="0s", show_default=True, help="A worker's own step.")
@click.option("--method", "methods", multiple=True, metavar="NAME", help="Methods of local steps to consider.  [default: all]")
@click.option("--every", type=COUNT, multiple=True, help="Steps between their exchanges.  [default: 8, 32, the method's]")
@click.option("--only", multiple=True, metavar="NAME", help="Compressors to consider.  [default: all]")
@click.option("--vector", type=Choice(["gaussian", "heavy", "uniform"]), default="gaussian", show_default=True)
@json_option
def advise(d: int, workers: int, dtype: str, only: tuple[str, ...], tls: Tls, as_json: bool, **rest: Any) -> None:
    """Predict the time of a round with each compressor and of a gradient with local steps, and say which to take.

    The costs of compression and of gRPC are measured on this machine, which should be like those of the run.
    """
    from saddlebag.launch.advice.advise import Question, advise_local, network_of, print_advice, to_json
    from saddlebag.launch.advice.advise import advise as answer
    from saddlebag.launch.advice.local_methods import recommend
    from saddlebag.launch.advice.local_table import local_json, print_local
    from saddlebag.launch.results.units import parse_rate, parse_seconds

    def rate(key: str, name: str) -> float | None:
        return None if rest[key] is None else parse_rate(rest[key], name)

    latency_s = None if rest["latency"] is None else parse_seconds(rest["latency"], "--latency")
    compute_s = parse_seconds(rest["compute"], "--compute")
    given = {"bandwidth": rate("bandwidth", "--bandwidth"), "server_rate": rate("server_bandwidth", "--server-bandwidth")}
    local = {"methods": rest["methods"], "every": rest["every"]}
    question = Question(d=d, dtype=dtype, workers=workers, compute_s=compute_s, only=only, law=rest["vector"], **local)
    network = network_of(question, link=rest["link"], latency_s=latency_s, security=tls.client(), **given)
    say = (lambda text: None) if as_json else note
    verdict, left_out = answer(question, network, note=say)
    rows = advise_local(question, network, note=say)
    recommended = recommend(verdict, rows)
    if as_json:
        print_json({**to_json(question, network, verdict, left_out), **local_json(verdict, rows, recommended)})
    else:
        print_advice(question, network, verdict, left_out)
        print_local(verdict, rows, recommended)
