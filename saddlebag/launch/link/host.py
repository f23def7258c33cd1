"""`saddlebag host`: the server of linked programs. It learns what travels, and where it starts, from the first of them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.optimizers.site_rounds import site_rounds
from saddlebag.errors import ConfigError, StateError
from saddlebag.launch.drivers.process import tune_process
from saddlebag.launch.drivers.server import serve_job
from saddlebag.launch.link.above import SiteAbove
from saddlebag.launch.link.connection import facts_text
from saddlebag.launch.link.terms import Terms
from saddlebag.launch.ownership import owned, require_no_run
from saddlebag.launch.recipe.sections import CheckpointSection
from saddlebag.launch.results.trackers import require_trackers
from saddlebag.proto.checkpoint import CheckpointStore, count
from saddlebag.proto.endpoint import ServerSecurity
from saddlebag.server.effects import closes_without_some
from saddlebag.server.lobby import Lobby
from saddlebag.server.middle import require_waiting
from saddlebag.server.port import require_free

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from saddlebag.algorithms.simulate import Record
    from saddlebag.compression import Vector
    from saddlebag.launch.job import Job
    from saddlebag.launch.link.above import AboveSection
    from saddlebag.launch.recipe.server_section import ServerSection

__all__ = ["host"]

_START = "start"  # what the run began with, among its checkpoints


def host(
    out: Path,
    *,
    workers: int,
    server: ServerSection,
    checkpoint_every: int = 1,
    seed: int = 0,
    rounds: int | None = None,
    token: str = "",
    security: ServerSecurity | None = None,
    above: AboveSection | None = None,
    trackers: Sequence[str] = (),
    resume: bool = False,
    force: bool = False,
    note: Callable[[str], None] = lambda text: None,
    observe: Callable[[Record], None] = lambda record: None,
    listening: Callable[[str], None] = lambda address: None,
) -> dict[str, Any]:
    """Serve a run of linked programs until all of them are done; writes metrics, checkpoints and the result under `out`.

    Args:
        out: the run's folder, which this process owns meanwhile.
        workers: how many programs there are.
        server: leases, what happens to a lost program, the address.
        checkpoint_every: rounds between checkpoints; with 1 a server that comes back costs no round.
        seed: of the compressors' draws.
        rounds: end after so many, whatever the programs say.
        token: secret of the run.
        security: of the port.
        above: where this server is itself a worker of another one, if it is.
        trackers: as `output.trackers` of a recipe.
        resume: continue the run in `out`.
        force: replace it.
        note: told what a person should know.
        observe: told of every round.
        listening: told the address.

    Raises:
        ConfigError: settings or security do not allow it, or `out` holds a run.
        StateError: `resume` is set and a checkpoint is damaged.
    """
    _require_sound(server, workers, above, checkpoint_every)
    require_trackers(trackers)
    with owned(out, "saddlebag host"):
        require_no_run(out, resume=resume, force=force)
        security = security or ServerSecurity()
        require_free(server.address, security, has_token=bool(token))
        tune_process()
        store = CheckpointStore(out / "checkpoints", _START, keep=1)
        address, known = server.address, resume and bool(store.rounds())
        way = {"folder": out / "checkpoints", "workers": workers, "note": note}
        if known:
            terms, start_D, site = _resumed(store, above, way)
        else:
            lobby = Lobby(lambda text: Terms.parse(text).dimension, token=token, note=note)
            terms, start_D, site, address = _begun(store, lobby.first(address, security, listening), above, way)
            listening = _unheard  # people were told of the lobby
        checkpoint = CheckpointSection(every=checkpoint_every)
        given: dict[str, Any] = {"workers": workers, "seed": seed, "rounds": rounds, "server": server, "trackers": trackers}
        job = _led(terms.lead(terms.recipe(checkpoint=checkpoint, **given), start_D), above)
        ways: dict[str, Any] = {"token": token, "resume": known, "note": note, "observe": observe, "listening": listening}
        with site or contextlib.nullcontext():
            return serve_job(job, out, address, security, **ways, **_settings(job, terms, start_D, above), above=site)


def _settings(job: Job, terms: Terms, start_D: Vector, above: AboveSection | None) -> dict[str, Any]:
    """What the server's settings are beside the recipe's, and what programs that join are told."""
    recipe = job.recipe
    facts: dict[str, Any] = {"seed": recipe.seed, "workers": recipe.workers, "checkpoint_every": recipe.checkpoint.every}
    resolved = facts_text(agreed=job.agreed, start_D=start_D, period=0 if above is None else above.period, **facts)
    return {"recipe": terms.text(), "resolved": resolved, "repeatable": False}


def _unheard(address: str) -> None:
    del address


def _require_sound(server: ServerSection, workers: int, above: AboveSection | None, checkpoint_every: int) -> None:
    if server.secure or server.noise:
        raise ConfigError(
            "server.secure and server.noise are for the workers of a recipe; linked programs send no whole numbers"
        )
    if server.quorum > workers:
        raise ConfigError(f"quorum must lie in [0, {workers}], the number of workers, got {server.quorum}")
    if above is not None:
        require_waiting(merging=closes_without_some(server), checkpoint_every=checkpoint_every)


def _led(job: Job, above: AboveSection | None) -> Job:
    """The job of a site that may lie below another server."""
    method: Any = job.method
    return job if above is None else dataclasses.replace(job, method=site_rounds(method, above.period))


def _begun(
    store: CheckpointStore, first: Coroutine[Any, Any, Any], above: AboveSection | None, way: dict[str, Any]
) -> tuple[Terms, Vector, SiteAbove | None, str]:
    """What the `first` program of a run brings: terms, start and address; and the worker above, from where it starts then."""
    text, start_D, address = asyncio.run(first)
    terms, site = Terms.parse(text), None
    facts: dict[str, Any] = {"terms": text}
    if above is not None:
        site = SiteAbove(above, terms, **way)
        start_D = site.begin(start_D)
        facts |= {"period": above.period, "above": site.round}
    store.save(0, {"start": start_D}, facts)
    return terms, start_D, site, address


def _resumed(store: CheckpointStore, above: AboveSection | None, way: dict[str, Any]) -> tuple[Terms, Vector, SiteAbove | None]:
    """The same of a run that goes on."""
    terms, start_D, facts = _read(store)
    mine, theirs = 0 if above is None else above.period, facts.get("period", 0)
    if mine != theirs:
        raise ConfigError(f"above.period of the run in this folder is {theirs or 'none'}, here it is {mine or 'none'}")
    site = None
    if above is not None:
        site = SiteAbove(above, terms, **way)
        site.take_up(start_D, count(facts, "above"))
    return terms, start_D, site


def _read(store: CheckpointStore) -> tuple[Terms, Vector, dict[str, Any]]:
    arrays, facts = store.load(0)
    start_D, text = arrays.get("start"), facts.get("terms")
    if start_D is None or start_D.dtype != np.float64 or not isinstance(text, str):
        raise StateError(f"{store.path(0)} is damaged: it holds no start")
    return Terms.parse(text), start_D, facts
