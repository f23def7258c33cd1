"""A job: one method of a recipe, with its problem and the numbers that all machines agree on. The one way to cores and results.

    Job.lead(recipe)            works out the numbers: the server, or whoever is alone
    Job.join(recipe, agreed)    takes them from the one that leads: a worker

    job.judge(), job.server_core(now), job.worker_core(rank), job.result(...)

Every driver carries the same halves; what it cannot keep of a recipe's settings is refused here, by name (`settings.py`).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms import AnyMethod, FiniteSum, Judge, Operator, Problem, Spent, digest
from saddlebag.algorithms.capabilities import LinkedProgram
from saddlebag.algorithms.wrapped import start_of
from saddlebag.client.core import WorkerCore
from saddlebag.client.securing import Securing
from saddlebag.errors import ConfigError
from saddlebag.launch.build import apply_resolved, build_method, build_problem, resolve, resolved_json
from saddlebag.launch.privacy import Privacy
from saddlebag.launch.settings import require_kept
from saddlebag.proto.secure.identity import Identity, read_signers
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings
from saddlebag.server.middle import MiddleCore
from saddlebag.server.quorum.merging import MergingCore
from saddlebag.server.secure.core import SecureCore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.algorithms import ReplicaState, Verdict
    from saddlebag.launch.recipe.recipe import Recipe
    from saddlebag.server.middle import Above

__all__ = ["Job"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What every driver runs.

    Attributes:
        recipe: of one method, as it was written.
        problem: with its data.
        method: with the agreed numbers.
        agreed: these numbers, as JSON, for those who join.
    """

    recipe: Recipe
    problem: Problem
    method: AnyMethod
    agreed: str

    @classmethod
    def lead(cls, recipe: Recipe, driver: str, *, problem: Problem | None = None, out: Path | None = None) -> Job:
        """The job of a recipe's main method, whose numbers are worked out here.

        Args:
            recipe: what to run.
            driver: that will carry it, a key of `saddlebag.launch.settings.DRIVERS`.
            problem: the recipe's, where it has been built.
            out: a folder whose cache keeps what is worked out from the data.

        Raises:
            ConfigError: the recipe does not fit together, or sets what the driver cannot keep.
            DataError: the data are missing or malformed.
        """
        require_kept(recipe, driver)
        problem = problem or build_problem(recipe, out=out)
        resolved = resolve(recipe, problem)
        return cls(recipe=recipe, problem=problem, method=build_method(resolved, problem), agreed=resolved_json(resolved))

    @classmethod
    def join(cls, recipe: Recipe, agreed: str | None = None, *, problem: Problem | None = None, out: Path | None = None) -> Job:
        """The same for one who takes the numbers from the leader; errors as `lead`.

        Args:
            recipe: the leader's.
            agreed: the numbers; None while they are still to come (`agreeing`), with placeholders meanwhile.
            problem: the recipe's, where it has been built.
            out: as in `lead`.

        Raises:
            RemoteProtocolError: `agreed` is no such text.
        """
        problem = problem or build_problem(recipe, out=out)
        if agreed is None:
            return cls(recipe=recipe, problem=problem, method=_provisional(recipe, problem), agreed="")
        method = build_method(apply_resolved(recipe, agreed), problem)
        return cls(recipe=recipe, problem=problem, method=method, agreed=agreed)

    def agreeing(self, agreed: str) -> Job:
        """This job with the leader's numbers; errors as `join`."""
        return Job.join(self.recipe, agreed, problem=self.problem)

    def judge(self, watch: Callable[[int, Any, Verdict], None] = lambda rounds, replica, verdict: None) -> Judge:
        """Who decides when the run ends; `watch` is that of `Judge`."""
        return Judge(self.problem, self.recipe.stop, watch=watch)

    def server_core(
        self,
        now: float,
        *,
        judge: Callable[[int, Any, Any, Spent], Verdict] | None = None,
        token: str = "",
        above: Above | None = None,
        **settings: Any,
    ) -> ServerCore:
        """The server's half at the start, with the recipe's settings; `settings` replace some of `ServerSettings`.

        With `above` it is that of a site below another server.
        """
        chosen = ServerSettings(**{**self._server_settings(), "token": token, **settings})
        if chosen.balance and not isinstance(self.problem, LinkedProgram):
            raise ConfigError(
                "server.balance is for programs with steps of their own; those of a recipe are the same everywhere"
            )
        if self.recipe.server.signers and not chosen.secure:
            raise ConfigError("server.signers is for server.secure, whose keys are signed; set that too, or leave it out")
        if chosen.secure and isinstance(self.problem, LinkedProgram):
            raise ConfigError("server.secure is for the workers of a recipe; linked programs send no whole numbers on one grid")
        half: tuple[Any, ...] = (self.method, judge or self.judge(), start_of(self.method, self.problem), chosen, now)
        if above is not None:
            if chosen.noise:
                raise ConfigError("server.noise is for the server of all workers, not for that of a site below another one")
            return MiddleCore(*half, above=above)
        kind = SecureCore if chosen.secure else MergingCore if chosen.merging else ServerCore
        return kind(*half)

    def _server_settings(self) -> dict[str, Any]:
        """What the recipe says of the fields of `ServerSettings`."""
        recipe, server = self.recipe, self.recipe.server
        return {
            "num_workers": recipe.workers,
            "seed": recipe.seed,
            "recipe": recipe.canonical(),
            "resolved": self.agreed,
            "lease_s": server.lease_s,
            "round_deadline_s": server.round_deadline_s,
            "progress_s": server.progress_s,
            "on_lost": server.on_lost,
            "checkpoint_every": recipe.checkpoint.every,
            "quorum": server.quorum,
            "grace_s": server.grace_s,
            "weights": server.weights,
            "balance": server.balance,
            "mean": server.rule,
            "contributions": server.contributions,
            "secure": server.unmasking(recipe.workers),
            "noise": 0.0 if self.privacy is None else self.privacy.share,
            "shards": server.shards,
        }

    def operator(self, rank: int) -> Operator:
        """What one worker computes.

        Raises:
            ConfigError: there is no such worker.
        """
        if not 0 <= rank < self.recipe.workers:
            raise ConfigError(f"rank must lie in [0, {self.recipe.workers}), got {rank}")
        return self.problem.operator(rank)

    def worker_core(self, rank: int, operator: Operator | None = None) -> WorkerCore:
        """A worker's half at the start; `operator` computes in place of the problem's, for example on several ranks."""
        asked = operator or self.operator(rank)
        start = functools.partial(start_of, self.method, self.problem)
        core = WorkerCore(self.method, asked, start, worker=rank, seed=self.recipe.seed)
        if self.recipe.server.weights == "samples" and not isinstance(self.problem, LinkedProgram):
            samples = _samples(self.problem, rank)
            core.measured = lambda made: (samples, 1)
        return core

    def securing(self, signing_key: bytes = b"") -> Securing | None:
        """How a worker masks what it sends; None where it does not.

        Args:
            signing_key: of the worker, where the recipe says whose keys are signed.

        Raises:
            ConfigError: it is missing, not needed, or none of the signers'.
        """
        recipe = self.recipe
        if bool(recipe.server.signers) != bool(signing_key):
            what = "is missing" if recipe.server.signers else "is given, and the recipe names no signers"
            raise ConfigError(f"the worker's signing key {what}: server.signers and --signing-key go together")
        if not recipe.server.secure:
            return None
        identity = Identity(signing_key, read_signers(recipe.server.signers)) if signing_key else None
        threshold = recipe.server.unmasking(recipe.workers)
        noise = 0.0 if self.privacy is None else self.privacy.share
        ways: dict[str, Any] = {"recipe": recipe.canonical(), "noise": noise, "identity": identity}
        return Securing(threshold=threshold, num_workers=recipe.workers, **ways)

    @functools.cached_property
    def privacy(self) -> Privacy | None:
        """What noise promises; None without."""
        return Privacy.of(self.recipe, self.method, self.problem.start()) if self.recipe.server.noise else None

    def result(
        self,
        *,
        driver: str,
        reason: str | None,
        rounds: int,
        replica: ReplicaState,
        up_bytes: int,
        down_bytes: int,
        **more: Any,
    ) -> dict[str, Any]:
        """What is kept of a run that has ended, for result.json.

        Args:
            driver: that carried it.
            reason: why it ended.
            rounds: exchanges.
            replica: at the end.
            up_bytes: encoded uplinks, of all workers together.
            down_bytes: encoded downlinks, times those who received them.
            **more: what only this driver knows.
        """
        return {
            "label": self.recipe.label,
            "driver": driver,
            "reason": reason,
            "rounds": rounds,
            "iterations": replica.iteration,
            "merits": dict(self.problem.merits(replica.z_D)),
            "up_bytes": up_bytes,
            "down_bytes": down_bytes,
            "workers": self.recipe.workers,
            "digest": f"{digest(replica):016x}",
            "recipe_digest": self.recipe.digest(),
            **more,
        }


def _samples(problem: Problem, rank: int) -> int:
    """Of a worker's share of the data."""
    operator = problem.operator(rank)
    if not isinstance(operator, FiniteSum):
        raise ConfigError(
            f"server.weights = 'samples' cannot be kept: {problem.name} is no sum over samples; leave it at 'equal'"
        )
    return operator.num_samples


def _provisional(recipe: Recipe, problem: Problem) -> AnyMethod:
    """The method with placeholders for the numbers that the leader will send, so that nobody else computes constants."""
    section = recipe.method
    if not isinstance(section.step_size, int | float):
        section = dataclasses.replace(section, step_size="auto from 1.0" if section.step_size.startswith("auto") else 1.0)
    return build_method(dataclasses.replace(recipe, method=section), problem)
