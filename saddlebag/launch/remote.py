"""`saddlebag server` and `saddlebag worker`: one process of a run, on any machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saddlebag.launch.drivers.process import watch_parent
from saddlebag.launch.drivers.server import run_server
from saddlebag.launch.drivers.worker import run_worker
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.launch.results.units import format_bytes
from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from saddlebag.algorithms.simulate import Record

__all__ = ["serve", "work"]

_PRINT_EVERY_S = 2.0

Tls = tuple[Path | None, Path | None, Path | None]
"""Certificate, private key, CA."""


def note(text: str) -> None:
    """Tell the person at the terminal."""
    click.echo(text, err=True)


def progress(num_workers: int) -> Callable[[Record], None]:
    """An observer that prints a record now and then."""
    last = -_PRINT_EVERY_S

    def observe(record: Record) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PRINT_EVERY_S:
            last = now
            (name, value), *_ = record.merits.items()
            up, down = (format_bytes(size / num_workers) for size in (record.up_bytes, record.down_bytes))
            note(f"round {record.round:,}, iteration {record.iteration:,}: {name} {value:.2e}; per worker {up} up, {down} down")

    return observe


def serve(
    path: Path,
    sets: Sequence[str],
    *,
    address: str | None,
    out: Path | None,
    resume: bool,
    force: bool,
    insecure: bool,
    token: str,
    tls: Tls,
    parent_fd: int | None,
) -> None:
    """Serve the main method of a recipe until its end."""
    if parent_fd is not None:
        watch_parent(parent_fd)
    recipe = load_recipe(path, list(sets))
    certificate, key, ca = tls
    folder = out or Path(recipe.output.directory) / recipe.label
    result = run_server(
        recipe,
        folder,
        address=address,
        token=token,
        security=ServerSecurity(certificate=certificate, key=key, ca=ca, insecure=insecure),
        resume=resume,
        force=force,
        note=note,
        observe=progress(recipe.workers),
        listening=lambda bound: note(f"serving {recipe.label} to {recipe.workers} workers at {bound}; results in {folder}"),
    )
    name, value = next(iter(result["merits"].items()))
    note(f"finished ({result['reason']}): {name} {value:.2e} after {result['rounds']:,} rounds")


def work(
    path: Path,
    sets: Sequence[str],
    *,
    rank: int,
    address: str,
    out: Path | None,
    token: str,
    tls: Tls,
    parent_fd: int | None,
) -> None:
    """Take part in a run until its end."""
    if parent_fd is not None:
        watch_parent(parent_fd)
    recipe = load_recipe(path, list(sets))
    certificate, key, ca = tls
    security = ClientSecurity(certificate=certificate, key=key, ca=ca)
    run_worker(recipe, rank, address, out=out, token=token, security=security, note=note)
