"""`saddlebag groupwise`: studies of groupwise regret, and the service."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

from saddlebag.errors import ConfigError
from saddlebag.launch.commands.group import Commands
from saddlebag.launch.commands.options import (
    FILE,
    Tls,
    json_option,
    note,
    print_json,
    recipe_options,
    set_option,
    tls_options,
    token_option,
)

__all__ = ["groupwise"]


@click.group(cls=Commands)
def groupwise() -> None:
    """Predict well for every one of many intersecting groups: studies, reports, replays."""


@groupwise.command()
@recipe_options
@click.option("--out", type=FILE, help="Folder for the results.  [default: the recipe's directory, or runs/ and its name]")
@click.option("--processes", type=click.IntRange(1, 256), help="Processes among which orders are divided.  [default: cores]")
@click.option("--force", is_flag=True, help="Replace the study in that folder.")
@json_option
def run(recipe: Path, sets: list[str], as_json: bool, **given: Any) -> None:
    """Run the study of RECIPE: every order of the rows, groupwise against the single model."""
    from saddlebag.launch.groupwise.running import run_recipe

    folder, values = run_recipe(recipe, sets, tell=(lambda text: None) if as_json else note, **given)  # out, processes, force
    _show(values, as_json)
    if not as_json:
        click.echo(f"results in {folder}: plot.png, groups.csv, curves.csv, result.json, recipe.toml")


@groupwise.command()
@click.argument("result", metavar="FOLDER|HOST:PORT")
@click.option("--plot", "picture", type=FILE, help="Draw the curves into this PNG, PDF or SVG file, too.")
@click.option("--html", is_flag=True, help="Write one page, report.html, into the folder (of a service: here), too.")
@json_option
@token_option
@tls_options("CA (PEM) that must have signed the service's certificate.")
def report(result: str, picture: Path | None, html: bool, as_json: bool, token: str, tls: Tls) -> None:
    """Show the report of a run from its folder, or of the service that answers at HOST:PORT."""
    if not Path(result).exists() and ":" in result:
        if picture is not None:
            raise ConfigError("--plot draws the curves of a run; a service keeps none")
        _report_service(result, tls, token, as_json=as_json, html=html)
        return
    from saddlebag.launch.groupwise.reports.report import read_result

    folder = Path(result)
    _show(read_result(folder), as_json)
    if picture is not None:
        from saddlebag.launch.groupwise.reports.plot import plot_regret

        plot_regret(folder, picture)
    if html:
        from saddlebag.launch.groupwise.reports.page import write_page

        click.echo(f"page in {write_page(folder)}", err=as_json)


def _report_service(address: str, tls: Tls, token: str, *, as_json: bool, html: bool) -> None:
    from saddlebag.launch.groupwise.reports.service import ask_report, print_service, service_values, write_service_page

    found = ask_report(address, tls.client(), token)
    if as_json:
        print_json(service_values(found))
    else:
        print_service(address, found)
    if html:
        write_service_page(found, Path("report.html"))
        click.echo("page in report.html", err=as_json)


@groupwise.command()
@recipe_options
@click.option("--address", default="127.0.0.1:7171", show_default=True, metavar="HOST:PORT", help="Where to listen.")
@click.option("--out", type=FILE, help="Folder for checkpoints and the journal.  [default: runs/ and the recipe's name]")
@click.option("--sync", is_flag=True, help="Wait for the disk at every call: a power cut, too, loses no answered call.")
@click.option("--mode", default="600", show_default=True, metavar="OCTAL", help="Permissions of checkpoints and journals.")
@click.option("--checkpoint-every", type=click.IntRange(1), default=4096, show_default=True, help="Calls between checkpoints.")
@click.option("--max-rows", type=click.IntRange(1, 65536), default=4096, show_default=True, help="Most rows of a request.")
@click.option("--max-pending", type=click.IntRange(1), default=1_000_000, show_default=True, help="Most tickets that wait.")
@click.option("--shard", default="0/1", show_default=True, metavar="I/N", help="Serve share I of N of the groups.")
@click.option("--metrics", default="", metavar="HOST:PORT", help="Answer Prometheus there, on loopback.")
@click.option("--page", default="", metavar="HOST:PORT", help="Show the groups there in a browser, live, on loopback.")
@click.option("--rest", default="", metavar="HOST:PORT", help="Answer REST and JSON there, too.")
@token_option
@tls_options("CA (PEM) that must have signed the clients' certificates.")
@click.option("--insecure", is_flag=True, help="Serve other machines without TLS and authentication.")
def serve(
    recipe: Path, sets: list[str], out: Path | None, mode: str, shard: str, tls: Tls, insecure: bool, **given: Any
) -> None:
    """Serve predictions for RECIPE's groups over gRPC; a killed service resumes from its folder with every bit."""
    from saddlebag.launch.groupwise.serving import ServeOptions
    from saddlebag.launch.groupwise.serving import serve as run_service

    number, _, shards = shard.partition("/")
    if not (number.isdecimal() and shards.isdecimal() and 0 <= int(number) < int(shards)):
        raise ConfigError(f"--shard must read I/N with 0 <= I < N, got {shard!r}")
    if not re.fullmatch("0?[0-7]{3}", mode):
        raise ConfigError(f"--mode must be three octal digits, got {mode!r}")
    bits = int(mode, 8)
    os.umask(os.umask(0) & ~(bits | (bits & 0o444) >> 2))  # who may read the files may enter their folder
    options = ServeOptions(
        mode=bits,
        directory=out or Path("runs") / recipe.stem,
        security=tls.server(insecure=insecure),
        shard=int(number),
        shards=int(shards),
        **given,
    )
    run_service(recipe, sets, options, note)


@groupwise.command()
@click.argument("rounds", type=FILE, metavar="FILE")
@click.option("--recipe", type=FILE, help="Take learner, mixer and mixing from this recipe.")
@set_option
@click.option("--out", type=FILE, help="Write the results into this folder, too.")
@json_option
def replay(rounds: Path, recipe: Path | None, sets: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Replay recorded rounds, one JSON object a line in FILE: {"x": [...], "groups": [...], "y": ...}."""
    from saddlebag.launch.groupwise.replay import replay_file
    from saddlebag.launch.groupwise.running import write_all

    values, groups, study = replay_file(rounds, recipe, list(sets))
    if out is not None:
        write_all(out, values, groups, study)
    _show(values, as_json)


@groupwise.command()
@click.option("--side", default=4, show_default=True, help="Nodes on a side of the grid.")
@click.option("--rounds", default=3000, show_default=True)
@click.option("--seeds", default=10, show_default=True, help="Independent runs.")
@click.option("--out", type=FILE, help="Write the results into this folder, too.")
@json_option
def paths(side: int, rounds: int, seeds: int, out: Path | None, as_json: bool) -> None:
    """Online shortest paths for groups: perturbed leaders over an oracle, against one leader for all."""
    from saddlebag.launch.groupwise.paths import GROUPS, paths_study
    from saddlebag.launch.groupwise.running import write_all

    values, study = paths_study(side=side, rounds=rounds, seeds=seeds)
    if out is not None:
        write_all(out, values, GROUPS, study)
    _show(values, as_json)


@groupwise.command()
@recipe_options
@click.option("--block", type=click.IntRange(1), default=512, show_default=True, help="Rows of the longest block.")
@json_option
def blocks(recipe: Path, sets: list[str], block: int, as_json: bool) -> None:
    """Learn RECIPE's stream in blocks divided among the ranks of torchrun (or alone, without it).

    torchrun --nproc-per-node 2 -m saddlebag groupwise blocks RECIPE --block 512
    """
    from saddlebag.launch.groupwise.parallel import learn_recipe, print_blocks

    values = learn_recipe(recipe, sets, longest=block)
    if values is None:  # another rank tells
        return
    if as_json:
        print_json(values)
    else:
        print_blocks(values)


def _show(values: dict[str, object], as_json: bool) -> None:
    if as_json:
        from saddlebag.launch.groupwise.reports.shown import shown

        print_json(shown(values))
    else:
        from saddlebag.launch.groupwise.reports.report import print_report

        print_report(values)
