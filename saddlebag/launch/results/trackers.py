"""Trackers of experiments, W&B and MLflow (extra `trackers`): the curves of a run, to where their own settings say.

    [output]
    trackers = ["wandb", "mlflow"]

Where they write, and as whom, is theirs: WANDB_MODE, WANDB_PROJECT, MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and their other
variables. A thread feeds them, so that a slow service holds up no round; one that fails is given up with a warning, and the run
goes on.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import queue
import threading
from typing import TYPE_CHECKING, Any, Protocol

from saddlebag.errors import ConfigError
from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

__all__ = ["TRACKERS", "Tracker", "Trackers", "require_trackers"]

_FILE = "trackers.json"  # the runs' names there, for a resumed run
_PROJECT = "saddlebag"
_END_S = 60.0  # for a service to take the last values
_LOG = logging.getLogger("saddlebag.trackers")


class Tracker(Protocol):
    """A run at a service.

    Attributes:
        run_id: its name there.
    """

    run_id: str

    def log(self, values: Mapping[str, float], round_: int) -> None:
        """Append values."""

    def end(self, *, failed: bool) -> None:
        """The run is over."""


class _WandB:
    """A run of W&B."""

    def __init__(self, module: Any, label: str, folder: Path, config: Mapping[str, Any], run_id: str | None) -> None:
        ways: dict[str, Any] = {"id": run_id, "resume": "allow"} if run_id else {}
        project = os.environ.get("WANDB_PROJECT", _PROJECT)
        self._run = module.init(project=project, name=label, dir=str(folder), config=dict(config), **ways)
        self.run_id = str(self._run.id)

    def log(self, values: Mapping[str, float], round_: int) -> None:
        self._run.log(dict(values), step=round_)

    def end(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class _MLflow:
    """A run of MLflow."""

    def __init__(self, module: Any, label: str, folder: Path, config: Mapping[str, Any], run_id: str | None) -> None:
        del folder
        self._client, self._metric = module.MlflowClient(), module.entities.Metric
        if run_id is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
            known = self._client.get_experiment_by_name(name)
            number = self._client.create_experiment(name) if known is None else known.experiment_id
            run_id = self._client.create_run(number, run_name=label).info.run_id
            for key, value in _flat(config).items():
                self._client.log_param(run_id, key, value)
        else:
            self._client.update_run(run_id, status="RUNNING")
        self.run_id = str(run_id)

    def log(self, values: Mapping[str, float], round_: int) -> None:
        metrics = [self._metric(name, float(value), 0, round_) for name, value in values.items()]
        self._client.log_batch(self.run_id, metrics)

    def end(self, *, failed: bool) -> None:
        self._client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")


TRACKERS: dict[str, Any] = {"wandb": _WandB, "mlflow": _MLflow}
"""Name of the package -> its tracker."""


def _flat(table: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """The values of nested tables by dotted keys, as text."""
    found: dict[str, str] = {}
    for key, value in table.items():
        found |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": str(value)[:500]}
    return found


def require_trackers(names: Sequence[str]) -> list[Any]:
    """The packages of these trackers.

    Raises:
        ConfigError: one is not installed.
    """
    found = []
    for name in names:
        try:
            found.append(importlib.import_module(name))
        except ImportError as error:
            raise ConfigError(f"output.trackers has {name!r}, which is not installed: pip install {name} ({error})") from error
    return found


class Trackers:
    """Feeds the trackers of one run.

    Args:
        names: keys of `TRACKERS`.
        folder: of the run; a resumed one goes on with the names that lie there.
        label: of the run, for people.
        config: the recipe.
        resumed: whether the run goes on.

    Raises:
        ConfigError: a package is not installed, or a tracker does not begin.
    """

    def __init__(self, names: Sequence[str], folder: Path, label: str, config: Mapping[str, Any], *, resumed: bool) -> None:
        known = _known(folder / _FILE) if resumed else {}
        self._trackers: dict[str, Tracker] = {}
        for name, module in zip(names, require_trackers(names), strict=True):
            try:
                self._trackers[name] = TRACKERS[name](module, label, folder, config, known.get(name))
            except Exception as error:  # whatever a service says
                raise ConfigError(f"output.trackers: {name} does not begin: {type(error).__name__}: {error}") from error
        runs = {name: tracker.run_id for name, tracker in self._trackers.items()}
        write_atomically(folder / _FILE, (json.dumps(runs) + "\n").encode())
        self._values: queue.SimpleQueue[tuple[Mapping[str, float], int] | None] = queue.SimpleQueue()
        self._failed = False
        self._thread = threading.Thread(target=self._feed, name="saddlebag-trackers", daemon=True)
        self._thread.start()

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(failed=error is not None)

    def log(self, values: Mapping[str, float], round_: int) -> None:
        """Hand over the values of a round."""
        self._values.put((values, round_))

    def close(self, *, failed: bool = False) -> None:
        """End the runs; waits for what was handed over, but not for ever."""
        self._failed = failed
        self._values.put(None)
        self._thread.join(_END_S)
        if self._thread.is_alive():
            _LOG.warning("%s did not take the end of the run within %g s", ", ".join(self._trackers), _END_S)

    def _feed(self) -> None:
        while (said := self._values.get()) is not None:
            for name in list(self._trackers):
                with self._warned(name):
                    self._trackers[name].log(*said)
        for name in list(self._trackers):
            with self._warned(name):
                self._trackers[name].end(failed=self._failed)

    @contextlib.contextmanager
    def _warned(self, name: str) -> Any:
        try:
            yield
        except Exception as error:  # a service's trouble is not the run's
            _LOG.warning("%s is given up: %s: %s", name, type(error).__name__, error)
            del self._trackers[name]


def _known(path: Path) -> dict[str, str]:
    """The names of an earlier process's runs; none where there is no such file."""
    try:
        table = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {name: run for name, run in table.items() if isinstance(run, str)} if isinstance(table, dict) else {}
