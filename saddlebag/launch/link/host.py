"""`saddlebag host`: the server of linked programs. It learns what travels, and where it starts, from the first of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import ConfigError, StateError
from saddlebag.launch.drivers.process import tune_process
from saddlebag.launch.drivers.server import serve_job
from saddlebag.launch.link.joining import facts_text
from saddlebag.launch.link.terms import Terms
from saddlebag.launch.ownership import owned, require_no_run
from saddlebag.launch.recipe.sections import CheckpointSection
from saddlebag.proto.checkpoint import CheckpointStore
from saddlebag.proto.endpoint import ServerSecurity
from saddlebag.server.lobby import Lobby
from saddlebag.server.port import require_free

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.algorithms.simulate import Record
    from saddlebag.compression import Vector
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
        resume: continue the run in `out`.
        force: replace it.
        note: told what a person should know.
        observe: told of every round.
        listening: told the address.

    Raises:
        ConfigError: settings or security do not allow it, or `out` holds a run.
        StateError: `resume` is set and a checkpoint is damaged.
    """
    _require_quorum(server, workers)
    with owned(out, "saddlebag host"):
        require_no_run(out, resume=resume, force=force)
        security = security or ServerSecurity()
        require_free(server.address, security, has_token=bool(token))
        tune_process()
        store = CheckpointStore(out / "checkpoints", _START, keep=1)
        address, known = server.address, resume and bool(store.rounds())
        if not known:
            address = _meet(store, address, security, token=token, note=note, listening=listening)
        terms, start_D = _read(store)
        checkpoint = CheckpointSection(every=checkpoint_every)
        recipe = terms.recipe(workers=workers, seed=seed, rounds=rounds, checkpoint=checkpoint, server=server)
        job = terms.lead(recipe, start_D)
        facts: dict[str, Any] = {"seed": seed, "workers": workers, "checkpoint_every": checkpoint_every, "start_D": start_D}
        ways: dict[str, Any] = {"token": token, "resume": known, "note": note, "observe": observe}
        told: Callable[[str], None] = listening if known else lambda bound: None  # else it was told of the lobby
        resolved = facts_text(agreed=job.agreed, **facts)
        settings: dict[str, Any] = {"recipe": terms.text(), "resolved": resolved, "repeatable": False}
        return serve_job(job, out, address, security, listening=told, **ways, **settings)


def _meet(
    store: CheckpointStore,
    address: str,
    security: ServerSecurity,
    *,
    token: str,
    note: Callable[[str], None],
    listening: Callable[[str], None],
) -> str:
    """Keep the terms and the start of the first program that comes; returns the address with its port."""
    lobby = Lobby(lambda text: Terms.parse(text).dimension, token=token, note=note)
    text, start_D, address = asyncio.run(lobby.first(address, security, listening))
    store.save(0, {"start": start_D}, {"terms": text})
    return address


def _require_quorum(server: ServerSection, workers: int) -> None:
    if server.quorum > workers:
        raise ConfigError(f"quorum must lie in [0, {workers}], the number of workers, got {server.quorum}")


def _read(store: CheckpointStore) -> tuple[Terms, Vector]:
    arrays, facts = store.load(0)
    start_D, text = arrays.get("start"), facts.get("terms")
    if start_D is None or start_D.dtype != np.float64 or not isinstance(text, str):
        raise StateError(f"{store.path(0)} is damaged: it holds no start")
    return Terms.parse(text), start_D
