"""The driver without a server: every rank of a torch.distributed job is a worker, rank 0 computes the server's half, too.

    torchrun --nproc-per-node 4 -m saddlebag collective RECIPE --out DIR

The halves of the method are those of every other driver, and their messages the same bytes: uplinks go to rank 0, which adds
them up in worker order and broadcasts the downlink. For clusters with a fast network; there is no port, no lease and no quorum.
All ranks keep checkpoints, and come back to the newest that they have in common.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms import DIVERGED, Judge, Message, Record, Spent, Verdict, form_means, pack, participants, unpack
from saddlebag.algorithms.wrapped import sum_dtype
from saddlebag.compression import SERVER, Draws
from saddlebag.errors import ConfigError, NotFiniteError
from saddlebag.launch.build import build_problem
from saddlebag.launch.drivers.place import Place, end_with_agent, here
from saddlebag.launch.drivers.talk import GO_ON, NOT_FINITE, STOP, Talk
from saddlebag.launch.job import Job
from saddlebag.launch.ownership import FOLDER, owned, require_no_run
from saddlebag.launch.results.outputs import Outputs
from saddlebag.launch.results.progress import PROGRESS, throttled, write_progress
from saddlebag.launch.results.results import RESULT, write_json
from saddlebag.proto.checkpoint import WORKER_KEEPS, CheckpointStore, count, restoring, seconds, write_atomically
from saddlebag.proto.codec import decode, encode, max_message_bytes
from saddlebag.proto.handshake import require_same_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from saddlebag.algorithms import Problem
    from saddlebag.launch.recipe.recipe import Recipe

__all__ = ["run_rank", "take_part"]

_LONGEST_RECIPE = 1 << 24
_JOB = "job-of-rank-{}"


def run_rank(
    recipe: Recipe,
    out: Path,
    *,
    timeout_s: float = 600.0,
    resume: bool = False,
    force: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any] | None:
    """Take part as one rank of torchrun's job until the end of the run; on rank 0 returns the result that is in `out`, too.

    Raises:
        ConfigError: torchrun did not start this, the ranks are not as many as the workers, or their recipes differ; another job
            owns `out`, or it holds a run and neither `resume` nor `force` is set (what torchrun starts again resumes).
        PeerLost: a rank is gone.
    """
    place = here()
    if place.ranks != recipe.workers:
        raise ConfigError(f"the recipe has {recipe.workers} workers and torchrun started {place.ranks} ranks; each is a worker")
    end_with_agent()
    if place.nodes == 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    with owned(out, "saddlebag collective", name=f"rank-{place.rank}" if place.rank else FOLDER):
        _begin(place, out, resume=resume, force=force)
        problem = build_problem(recipe, out=out)

        from saddlebag.client.group import process_group  # here, for torch

        with process_group(place.job_store(timeout_s), rank=place.rank, ranks=place.ranks, timeout_s=timeout_s) as group:
            return take_part(recipe, problem, Talk(group), out, note)


def _begin(place: Place, out: Path, *, resume: bool, force: bool) -> None:
    """Refuse a folder with another job's run; what torchrun starts again, in the same job, goes on."""
    mark = out / "checkpoints" / _JOB.format(place.rank)
    with contextlib.suppress(OSError):
        if mark.read_text() == place.job:
            return
    if place.rank == 0:
        require_no_run(out, resume=resume, force=force)
    if force:
        CheckpointStore(out / "checkpoints", f"rank-{place.rank}").forget_after(-1)
    mark.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(mark, place.job.encode())


def take_part(
    recipe: Recipe, problem: Problem, talk: Talk, out: Path, note: Callable[[str], None] = lambda text: None
) -> dict[str, Any] | None:
    """The run of one rank that has met the others; errors as `run_rank`."""
    job = _agreed(recipe, problem, talk)
    store = CheckpointStore(out / "checkpoints", f"rank-{talk.rank}", keep=WORKER_KEEPS)
    if talk.rank:
        _Rank(job, talk, store, note).run()
        return None
    return _lead(_First(job, talk, store, note), out, note)


def _agreed(recipe: Recipe, problem: Problem, talk: Talk) -> Job:
    """The job with the numbers that rank 0 found, after everybody has compared recipes."""
    if talk.rank == 0:
        job = Job.lead(recipe, "collective", problem=problem)
        talk.announce(json.dumps([recipe.canonical(), job.agreed]).encode())
        return job
    theirs, numbers = json.loads(talk.hear(_LONGEST_RECIPE)[0])
    require_same_recipe(theirs, recipe.canonical())
    return Job.join(recipe, numbers, problem=problem)


class _Rank:
    """A worker: its half of every round, and its checkpoints."""

    def __init__(self, job: Job, talk: Talk, store: CheckpointStore, note: Callable[[str], None]) -> None:
        self.job, self.method, self.talk, self._store, self._note = job, job.method, talk, store, note
        self._recipe, self.core = job.recipe, job.worker_core(talk.rank)
        self.core.members = tuple(range(talk.ranks))

    def resume(self) -> None:
        """Go to the newest boundary of which all ranks hold a sound checkpoint, or to the start."""
        round_ = self.talk.newest_common(self._store.sound_rounds(self._note))
        self._store.forget_after(-1 if round_ is None else round_)
        if round_ is not None:
            arrays, meta = self._store.load(round_)
            require_same_recipe(meta.get("recipe"), self._recipe.canonical())
            self.restore(arrays, meta)

    def run(self) -> None:
        """Every round until rank 0 ends the run."""
        self.resume()
        kind = self.talk.hear(0)[1]  # the run may have been over already
        while kind == GO_ON:
            idle, data = self.core.idle, self.step()
            if not idle:
                self.talk.send(data)
            sizes = self.core.downlink_sizes()
            data, kind = self.talk.hear(max_message_bytes(sizes))
            if kind != NOT_FINITE:
                self.core.apply(decode(data, sizes, self._draws))
                self.save(final=kind == STOP)

    def step(self) -> bytes | None:
        """The uplink of this round; None when it is not finite. An idle worker has none, and an empty one here."""
        if self.core.idle:
            self.core.ensure_stepped()
            return b""
        try:
            return b"".join(self.core.step()[0])
        except NotFiniteError:
            return None

    @property
    def _draws(self) -> Draws:
        """The server's draws in this round."""
        return self.core.draws.of(SERVER)

    def save(self, *, final: bool) -> None:
        """Keep a checkpoint where one is due."""
        every = self._recipe.checkpoint.every
        if every and (self.core.round % every == 0 or final):
            self._store.save(self.core.round, *self.capture())

    def capture(self) -> tuple[dict[str, Any], dict[str, Any]]:
        arrays, meta = self.core.capture()
        return arrays, {**meta, "recipe": self._recipe.canonical()}

    def restore(self, arrays: dict[str, Any], meta: dict[str, Any]) -> None:
        self.core.restore(arrays, meta)


class _First(_Rank):
    """Rank 0: a worker, and the server's half.

    Attributes:
        up_bytes: encoded uplinks of all workers, as every driver counts them.
        down_bytes: encoded downlinks times the workers: a broadcast reaches idle ones, too.
        spent_s: seconds of all rounds, those before a resumption included.
        reason: why the run ended.
    """

    def __init__(self, job: Job, talk: Talk, store: CheckpointStore, note: Callable[[str], None]) -> None:
        super().__init__(job, talk, store, note)
        self._own = job.method.init_server(self.core.replica)
        self.up_bytes = self.down_bytes = 0
        self.spent_s = 0.0
        self.reason: str | None = None

    def rounds(self, judge: Judge) -> Iterator[Verdict]:
        """The verdicts of all rounds to the end; the caller has resumed."""
        self.talk.announce(b"", GO_ON if self.reason is None else STOP)
        counted_s = time.monotonic()
        while self.reason is None:
            before = self.core.replica
            try:
                sent = self._serve()
            except NotFiniteError:
                self.reason = DIVERGED
                self.talk.announce(b"", NOT_FINITE)
                yield judge.overflow(self.core.round, self.core.replica)
                return
            self.core.apply(decode(sent, self.core.downlink_sizes(), self._draws))
            self.down_bytes += len(sent) * self.talk.ranks
            self.spent_s += time.monotonic() - counted_s
            counted_s = time.monotonic()
            spent = Spent(self.up_bytes + self.down_bytes, self.spent_s)
            verdict = judge(self.core.round, before, self.core.replica, spent)
            self.reason = verdict.reason
            self.talk.announce(sent, GO_ON if self.reason is None else STOP)
            self.save(final=self.reason is not None)
            yield verdict

    def _serve(self) -> bytes:
        """Both halves of a round; the downlink.

        Raises:
            NotFiniteError: a message cannot be sent.
        """
        core, draws = self.core, self._draws
        sizes = self.method.uplink_sizes(core.replica, draws)
        active = participants(self.method, core.replica, draws, core.members)
        own = self.step()
        received = self.talk.collect([worker for worker in active if worker], max_message_bytes(sizes)) | {0: own}
        messages: list[Message] = []
        up_bytes = 0
        for worker in active:
            data = received[worker]
            if data is None:
                raise NotFiniteError(f"worker {worker} has no finite message at round {core.round}")
            messages.append(decode(data, sizes, draws.of(worker)))
            up_bytes += len(data)
        rule = self._recipe.server.rule
        means = form_means(sizes, iter(messages), len(active), sum_dtype(self.method), rule=rule)
        self._own, down = self.method.server_step(core.replica, self._own, means, draws)
        sent = b"".join(encode(down))
        self.up_bytes += up_bytes  # of a round that cannot be completed nothing counts
        return sent

    def capture(self) -> tuple[dict[str, Any], dict[str, Any]]:
        arrays, meta = super().capture()
        counts = {key: getattr(self, key) for key in ("up_bytes", "down_bytes", "spent_s", "reason")}
        talk = {"up": self.talk.up_bytes, "down": self.talk.down_bytes}
        return arrays | pack(self._own, "server."), {**meta, **counts, "transport": talk}

    def restore(self, arrays: dict[str, Any], meta: dict[str, Any]) -> None:
        super().restore(arrays, meta)
        self._own = unpack(self.method.init_server(self.core.replica), arrays, "server.")
        with restoring(f"rank 0's checkpoint of round {self.core.round}"):
            self.up_bytes, self.down_bytes = count(meta, "up_bytes"), count(meta, "down_bytes")
            self.spent_s = seconds(meta, "spent_s")
            self.reason = None if meta["reason"] is None else str(meta["reason"])
            self.talk.up_bytes, self.talk.down_bytes = (count(meta["transport"], way) for way in ("up", "down"))


def _lead(first: _First, out: Path, note: Callable[[str], None]) -> dict[str, Any]:
    """Rank 0's run, with everything that is kept of it."""
    begin = time.monotonic()
    first.resume()
    core, job = first.core, first.job
    note(f"{first.talk.ranks} ranks begin at round {core.round:,}; results in {out}")
    tell = throttled(lambda progress: write_progress(out / PROGRESS, progress))
    with Outputs(job.recipe, job.problem, out, upto_round=core.round, progress=tell) as outputs:
        for verdict in first.rounds(job.judge(watch=outputs.watch)):
            if verdict.merits is not None:
                iteration = core.replica.iteration
                outputs.record(Record(core.round, iteration, verdict.merits, first.up_bytes, first.down_bytes))
    result = job.result(
        driver="collective",
        reason=first.reason,
        rounds=core.round,
        replica=core.replica,
        up_bytes=first.up_bytes,
        down_bytes=first.down_bytes,
        elapsed_s=time.monotonic() - begin,
        transport={"up": first.talk.up_bytes, "down": first.talk.down_bytes},
    )
    write_json(out / RESULT, result)
    return result
