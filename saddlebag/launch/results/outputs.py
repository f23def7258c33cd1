"""What one process keeps of a run while it goes: history, pictures, texts, plain modules; TensorBoard and trackers where asked.

Every driver has one such object in the process that evaluates merits; none of them knows what it holds.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.capabilities import HasModules, HasTexts, ShowsPictures
from saddlebag.launch.results.history import History
from saddlebag.launch.results.progress import Progress
from saddlebag.launch.results.results import METRICS
from saddlebag.launch.results.scalars import Scalars
from saddlebag.launch.results.shown import draw_pictures, write_modules, write_pictures, write_texts
from saddlebag.launch.results.tensorboard import Events
from saddlebag.launch.results.trackers import Trackers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from saddlebag.algorithms.base import Problem, ReplicaState
    from saddlebag.algorithms.simulate import Record, Verdict
    from saddlebag.launch.recipe.recipe import Recipe

__all__ = ["EVENTS", "PICTURES", "TEXTS", "Outputs"]

EVENTS, PICTURES, TEXTS = "tensorboard", "pictures", "texts"
"""Folders beside metrics.jsonl."""


class Outputs:
    """Writes under `folder`; on resuming after `upto_round`, what came later is dropped. `progress` hears of every round.

    Raises:
        ConfigError: TensorBoard or a tracker is asked for and not installed.
    """

    def __init__(
        self,
        recipe: Recipe,
        problem: Problem,
        folder: Path,
        *,
        upto_round: int = 0,
        progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._problem, self._folder, self._every, self._progress = problem, folder, recipe.output.pictures, progress
        self._evaluations = 0
        with contextlib.ExitStack() as stack:
            self._history = stack.enter_context(History(folder / METRICS, upto_round=upto_round))
            self._events: Events | None = None
            if recipe.output.tensorboard:
                numbers = {"dimension": problem.dimension, "workers": recipe.workers, "upto_round": upto_round}
                self._events = stack.enter_context(Events(folder / EVENTS, **numbers))
            self._trackers: Trackers | None = None
            if recipe.output.trackers:
                about = (recipe.output.trackers, folder, recipe.label, recipe.to_dict())
                self._trackers = stack.enter_context(Trackers(*about, resumed=upto_round > 0))
                self._scalars = Scalars(dimension=problem.dimension, workers=recipe.workers, upto_round=upto_round)
            self._stack = stack.pop_all()

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    def record(self, record: Record, *, evaluate_s: float | None = None) -> None:
        """Keep a record; `evaluate_s` of the seconds of this process were spent on evaluating merits."""
        elapsed_s = self._history.write(record, evaluate_s)
        if self._events is not None:
            self._events.record(record, elapsed_s)
        if self._trackers is not None:
            self._trackers.log(self._scalars.of(record, elapsed_s), record.round)

    def watch(self, rounds: int, replica: ReplicaState, verdict: Verdict) -> None:
        """See a round's end, as `Judge` does: modules and texts at the last one, pictures there and at some evaluations."""
        self._progress(Progress(rounds, replica.iteration))
        if verdict.merits is None or not np.isfinite(replica.z_D).all():
            return
        if verdict.reason and isinstance(self._problem, HasModules):
            write_modules(self._problem, replica.z_D, self._folder)
        if verdict.reason and isinstance(self._problem, HasTexts):
            tables = write_texts(self._problem, replica.z_D, self._folder / TEXTS)
            if self._events is not None:
                self._events.texts(tables, rounds)
        if isinstance(self._problem, ShowsPictures):
            self._show(self._problem, rounds, replica, last=bool(verdict.reason))

    def _show(self, problem: ShowsPictures, rounds: int, replica: ReplicaState, *, last: bool) -> None:
        """Pictures at the last round, and at every so many evaluations where asked."""
        self._evaluations += 1
        due = self._every > 0 and self._evaluations % self._every == 0
        if not (due or last):
            return
        grids, folder = draw_pictures(problem, replica.z_D), self._folder / PICTURES
        if due:
            write_pictures(grids, folder, f"-{rounds:08d}")
        pngs = write_pictures(grids, folder)
        if self._events is not None:
            self._events.pictures(pngs, rounds)
