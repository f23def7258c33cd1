"""`saddlebag groupwise serve`: the prediction service of a recipe."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.groupwise import service_bounds
from saddlebag.errors import ConfigError
from saddlebag.launch.drivers.supervisor import ADDRESS_FILE
from saddlebag.launch.groupwise.alarms import watch_of
from saddlebag.launch.groupwise.data.stream import build_stream
from saddlebag.launch.groupwise.intervals import intervals_of
from saddlebag.launch.groupwise.metrics import serve_metrics
from saddlebag.launch.groupwise.recipe import load_groupwise, make_algorithm, prior_of
from saddlebag.launch.groupwise.reports.live import serve_page
from saddlebag.launch.ownership import holds_run, holds_service, owned
from saddlebag.launch.results.folder import RECIPE
from saddlebag.proto.address import parse_address
from saddlebag.proto.checkpoint import write_atomically
from saddlebag.proto.groupwise import rows_of_a_frame
from saddlebag.server.groupwise.core import GroupwiseCore, ServiceSettings
from saddlebag.server.groupwise.service import GroupwiseService
from saddlebag.server.groupwise.shell import GroupwiseShell
from saddlebag.server.port import require_free

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.launch.groupwise.data.rows import RowEncoder
    from saddlebag.proto.endpoint import ServerSecurity

__all__ = ["ServeOptions", "make_core", "make_parts", "serve"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """How to serve.

    Attributes:
        address: HOST:PORT; port 0 takes a free one.
        directory: of checkpoints and journal; None keeps nothing.
        security, token: see `ServerSecurity`.
        metrics: HOST:PORT for Prometheus, or empty.
        rest: HOST:PORT for REST and JSON, or empty.
        page: HOST:PORT for the page that renews itself, or empty.
        sync: wait for the disk at every call.
        mode: permissions of checkpoints and journals.
        checkpoint_every: calls between checkpoints.
        max_rows, max_pending: limits of the service.
        shard, shards: serve one of several shares of the groups.
    """

    address: str
    directory: Path | None
    security: ServerSecurity
    token: str = ""
    metrics: str = ""
    page: str = ""
    rest: str = ""
    sync: bool = False
    mode: int = 0o600
    checkpoint_every: int = 4096
    max_rows: int = 4096
    max_pending: int = 1_000_000
    shard: int = 0
    shards: int = 1


def make_core(path: Path, sets: list[str], **options: Any) -> GroupwiseCore:
    """The state of `make_parts` alone."""
    return make_parts(path, sets, **options)[0]


def make_parts(
    path: Path, sets: list[str], *, max_rows: int, max_pending: int, shard: int = 0, shards: int = 1
) -> tuple[GroupwiseCore, RowEncoder]:
    """The service's state as it begins, nothing learned, and the encoder of its rows.

    The recipe says features, groups (or a share of them) and algorithm, its data the constants.

    Raises:
        ConfigError: the recipe is wrong, or does not fit its data.
        DataError: the data, which say what features and groups there are, cannot be read.
    """
    recipe, _ = load_groupwise(path, sets)
    stream = build_stream(recipe)
    groups, features = stream.groups, stream.features
    if shards > len(groups):
        raise ConfigError(f"{len(groups)} groups cannot be divided into {shards} shards")
    prior_G = prior_of(recipe, groups)
    rules = [{**rule, "prior": float(prior)} for rule, prior in zip(stream.meaning["groups"], prior_G, strict=True)]
    share = slice(len(groups) * shard // shards, len(groups) * (shard + 1) // shards)
    algorithm = make_algorithm(recipe, len(features), len(groups), divided=shards > 1)
    if shards > 1:
        if algorithm.shadows:
            raise ConfigError("mixing.shadows: shadows need the always-on learner beside them; serve without shards")
        algorithm = dataclasses.replace(algorithm, always_on=None)
    algorithm = dataclasses.replace(algorithm, compiled=True)  # where there are loops for it
    settings = ServiceSettings(
        features=features,
        groups=groups[share],
        max_rows=min(max_rows, rows_of_a_frame(len(features), len(groups))),
        max_pending=max_pending,
        meaning={**stream.meaning, "groups": rules[share]},
        bounds=service_bounds(stream.x_ND, recipe.features.bound, recipe.features.outside),
        intervals=intervals_of(recipe, stream),
        calibration=None if recipe.calibration is None else recipe.calibration.rule(),
        watch=watch_of(recipe, algorithm, stream),
        given=stream.given_N is not None,
        shard=shard,
        shards=shards,
    )
    assert stream.encoder is not None, "streams of recipes have one"
    return GroupwiseCore(algorithm, settings, prior_G[share]), dataclasses.replace(
        stream.encoder, share=share if shards > 1 else None
    )


def serve(path: Path, sets: list[str], options: ServeOptions, note: Callable[[str], None]) -> None:
    """As `_run`, as the owner of its folder; nothing is kept there before the address has been found good and free.

    Raises:
        ConfigError: the recipe, address or security do not allow it; another process owns the folder, or it holds a study.
        StateError: the folder's checkpoint is damaged or of another recipe.
    """
    folder = options.directory
    with contextlib.ExitStack() as stack:
        if folder is not None:
            stack.enter_context(owned(folder, "saddlebag groupwise serve"))
            if not holds_service(folder) and (holds_run(folder) or (folder / RECIPE).exists()):
                raise ConfigError(f"{folder} holds a run or a study; give another folder with --out")
        require_free(options.address, options.security, has_token=bool(options.token), warn=note)
        _run(path, sets, options, note)


def _run(path: Path, sets: list[str], options: ServeOptions, note: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; the last state is on disk then.

    Raises:
        ConfigError: the recipe, address or security do not allow it.
        StateError: the folder's checkpoint is damaged or of another recipe.
    """
    core, encoder = make_parts(
        path,
        sets,
        max_rows=options.max_rows,
        max_pending=options.max_pending,
        shard=options.shard,
        shards=options.shards,
    )
    service = GroupwiseService(
        core,
        options.directory,
        encoder=encoder,
        checkpoint_every=options.checkpoint_every,
        sync=options.sync,
        mode=options.mode,
        note=note,
    )
    asyncio.run(_serve(service, options, note))


async def _serve(service: GroupwiseService, options: ServeOptions, note: Callable[[str], None]) -> None:
    shell, loop = GroupwiseShell(service, token=options.token, note=note), asyncio.get_running_loop()
    port = await shell.start(options.address, options.security)
    address = str(parse_address(options.address, listening=True).at(port))
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the loop instead
            loop.add_signal_handler(number, shell.stop)
    async with contextlib.AsyncExitStack() as stack:
        if options.rest:
            from saddlebag.launch.groupwise.gateway import serve_rest

            stop, at = await serve_rest(options.rest, service, shell, options.security, options.token)
            stack.push_async_callback(stop)
            note(f"REST and JSON at {parse_address(options.rest, listening=True).at(at)}")
        if options.metrics:
            stack.callback(serve_metrics(options.metrics, service.report, loop))
        if options.page:
            stack.callback(serve_page(options.page, service.report, loop))
            note(f"a page for people at http://{options.page}/")
        if options.directory is not None:
            write_atomically(options.directory / ADDRESS_FILE, json.dumps({"address": address, "pid": os.getpid()}).encode())
        core = service.core
        note(
            f"serving {len(core.settings.groups)} groups and {len(core.settings.features)} features at {address}; "
            f"{core.tickets.next:,} predictions and {core.learned:,} labels so far"
        )
        await shell.run()
    note(f"stopped after {core.tickets.next:,} predictions and {core.learned:,} labels")
