"""The driver without a server on one machine: starts torchrun with a rank for each worker, and follows the run."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError, SaddlebagError
from saddlebag.launch.drivers.supervisor import REFUSED, Child, unsaid
from saddlebag.launch.ownership import forget_run, lend, owned, require_no_run
from saddlebag.launch.results.history import Follower
from saddlebag.launch.results.progress import PROGRESS, read_progress
from saddlebag.launch.results.results import METRICS, RESULT
from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.algorithms import Record
    from saddlebag.launch.recipe.recipe import Recipe
    from saddlebag.launch.results.progress import Progress

__all__ = ["run_collective", "start_ranks"]

_POLL_S = 0.05
_RESTARTS = 100  # of all ranks, as often as one dies
_ORPHANS_S = 30.0  # for ranks to notice that torchrun is gone
_LOST = " lost the others: "  # what `client.group` says of a rank that has no peer any more


def run_collective(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    observe: Callable[[Record], None] = lambda record: None,
    progress: Callable[[Progress], None] = lambda progress: None,
    note: Callable[[str], None] = lambda text: None,
    started: Callable[[int], None] = lambda pid: None,
) -> dict[str, Any]:
    """Run a recipe's method over torch.distributed on this machine; returns rank 0's result.

    When a rank dies, torchrun starts all of them again and they resume on the same trajectory, and so does this process when
    torchrun is killed; when this process dies, they end too. `started` is told the process id of torchrun.

    Raises:
        SaddlebagError: a rank gave up with a clear error, which is passed on, or died too often.
    """
    with owned(out, "saddlebag run"):
        return _supervise(recipe, out, resume, observe, progress, note, started)


def _supervise(
    recipe: Recipe,
    out: Path,
    resume: bool,
    observe: Callable[[Record], None],
    progress: Callable[[Progress], None],
    note: Callable[[str], None],
    started: Callable[[int], None],
) -> dict[str, Any]:
    """The run in a folder that this process owns."""
    (out / PROGRESS).unlink(missing_ok=True)
    if not resume:
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    file = out / "job.toml"
    write_atomically(file, recipe.to_toml().encode())
    command = ["collective", str(file), "--out", str(out), "--resume"]
    torchrun = Child("ranks", lambda again: command, out)
    follower = Follower(out / METRICS)
    try:
        torchrun.start()
        started(torchrun.pid)
        note(f"{recipe.workers} ranks; what they say is in {out / 'ranks.log'}")
        while (status := torchrun.status()) is None or status < 0:
            if status is not None:
                _again(torchrun, -status, recipe.workers, out, note)
            time.sleep(_POLL_S)
            for record in follower.new():
                observe(record)
            if (seen := read_progress(out / PROGRESS)) is not None:
                progress(seen)
        for record in follower.new():
            observe(record)
    finally:
        torchrun.stop()
    if status:
        raise SaddlebagError(_complaint(out / "ranks.log"))
    result: dict[str, Any] = json.loads((out / RESULT).read_text())
    return result


def _again(torchrun: Child, number: int, ranks: int, out: Path, note: Callable[[str], None]) -> None:
    """Start torchrun once more after a signal has ended it; its ranks end soon after it, and are waited for.

    Raises:
        SaddlebagError: it has been killed too often.
    """
    if torchrun.starts > _RESTARTS:
        raise SaddlebagError(f"torchrun was killed {torchrun.starts} times, by signal {number} at last")
    note(f"torchrun was killed by signal {number}; starting it again")
    deadline = time.monotonic() + _ORPHANS_S
    for rank in range(1, ranks):
        while time.monotonic() < deadline:
            with contextlib.suppress(ConfigError), owned(out, "saddlebag run", name=f"rank-{rank}"):
                break
            time.sleep(_POLL_S)
    torchrun.start()


def _complaint(log: Path) -> str:
    """The last error of a rank, in the midst of what torchrun has to say about it.

    Those that lost the others say so later than the rank that ended first, and know less. Its own line is missing where the
    log is on the disk that is full.
    """
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    causes = [error for error in errors if _LOST not in error]
    if causes:
        return causes[-1]
    others = f" ({errors[-1]})" if errors else ""
    return unsaid("a rank", log) + others


def start_ranks(recipe: Recipe, out: Path, *, timeout_s: float, resume: bool = False, force: bool = False) -> int:
    """Be torchrun: start a rank for each worker on this machine; returns the exit status.

    Ranks that die are started again, all of them, but not after an error that one has told: it would come again. torchrun
    itself does not know the difference, so it is asked for one start at a time.

    Raises:
        ConfigError: another process owns the folder, or it holds a run and neither `resume` nor `force` is set.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    with owned(out, "saddlebag collective"):
        require_no_run(out, resume=resume, force=force)
        if force:
            forget_run(out)
        file = out / "job.toml"
        write_atomically(file, recipe.to_toml().encode())
        agent = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(recipe.workers), "--max-restarts", "0"]
        program = ["-m", "saddlebag", "collective", str(file), "--out", str(out), "--timeout", str(timeout_s), "--resume"]
        os.environ.update(lend(out))
        for _ in range(1 + _RESTARTS):
            try:
                torchrun([*agent, *program])
            except ChildFailedError as error:
                if any(failure.exitcode == REFUSED for failure in error.failures.values()):
                    return REFUSED  # the rank itself has said why
            else:
                return 0
    return 1
