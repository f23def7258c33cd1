"""The server: a recipe from the run's configuration, run through Flower's messages or in a session, and what came of it."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.serverapp import ServerApp

from saddlebag.errors import ConfigError
from saddlebag.flower import MethodStrategy, RecordLines, run_session
from saddlebag.flower.progress import log_and_file
from saddlebag.launch.build import build_problem
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flwr.app import Context
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Result

    from saddlebag.algorithms import Record

app = ServerApp()
log = logging.getLogger("flwr")

DATA, SPLIT = "breast_cancer", "label_skew"  # bundled with scikit-learn; most clients have patients of one diagnosis only
PROBLEMS = {"worst-client": {"name": "worker_robust"}, "mean": {"name": "logistic_regression"}}


def recipe_of(config: Mapping[str, Any]) -> Recipe:
    """What to run.

    Raises:
        ConfigError: a value is not one of those that `pyproject.toml` names.
    """
    if config["objective"] not in PROBLEMS:
        raise ConfigError(f"objective must be one of {', '.join(PROBLEMS)}, got {config['objective']!r}")
    return recipe_from_dict(
        {
            "workers": config["clients"],
            "seed": config["seed"],
            "problem": PROBLEMS[config["objective"]],
            "data": {"source": DATA, "split": SPLIT},
            "method": {
                "name": "innovations",
                "step_size": "8/L",  # of a proven bound, which is several times the constant on the way
                "up": {"name": "grid", "step": 1.0},
                "down": {"name": "grid", "step": 0.5},
            },
            "stop": {"max_rounds": config["max-rounds"], "merit": config["merit"], "every": config["every"]},
        }
    )


def run(grid: Grid, config: Mapping[str, Any]) -> tuple[Result, list[float]]:
    """Train; returns Flower's result and the seconds since the start at each record of the history.

    Raises:
        ConfigError: a value of the run's configuration is not allowed.
        PeerLost: too few clients came, or one gave up.
    """
    recipe, begin_s, at_s = recipe_of(config), time.monotonic(), list[float]()
    tell = RecordLines(recipe.stop, recipe.workers, write=log_and_file(str(config["lines"])))

    def observe(record: Record) -> None:
        at_s.append(time.monotonic() - begin_s)
        tell(record)
        if config["progress"]:
            with Path(str(config["progress"])).open("a") as file:
                file.write(json.dumps({"round": record.round, **record.merits}) + "\n")

    if config["mode"] == "messages":
        return MethodStrategy(recipe, observe=observe, note=log.info).start(grid=grid), at_s
    if config["mode"] != "session":
        raise ConfigError(f"mode must be 'session' or 'messages', got {config['mode']!r}")
    paths: dict[str, Any] = {
        name: Path(str(config[f"session-{name}"])) for name in ("certificate", "key", "ca") if config[f"session-{name}"]
    }
    address = str(config["session-address"])
    return run_session(grid, recipe, address=address, observe=observe, note=log.info, **paths), at_s


def judge(config: Mapping[str, Any], result: Result) -> dict[str, float]:
    """Loss and error of the model for the worst client and in the mean."""
    problem: Any = build_problem(recipe_of({**config, "objective": "worst-client"}))
    loss_M, error_M = problem.losses(result.arrays["z"].numpy()[: problem.rows.shape[1]])
    names = ("worst_loss", "mean_loss", "worst_error", "mean_error")
    return dict(zip(names, map(float, (loss_M.max(), loss_M.mean(), error_M.max(), error_M.mean())), strict=True))


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train and report."""
    config = context.run_config
    result, at_s = run(grid, config)
    rounds = list(result.train_metrics_clientapp)
    last = result.train_metrics_clientapp[rounds[-1]]
    facts = {
        "rounds": rounds[-1],
        "ms_per_round": 1e3 * (at_s[-1] - at_s[0]) / (rounds[-1] - rounds[0]) if len(rounds) > 1 else None,
        "up_bytes": last["up-bytes"],
        "down_bytes": last["down-bytes"],
        **judge(config, result),
    }
    log.info("%s by %s: %s", config["objective"], config["mode"], json.dumps(facts))
    if config["output"]:
        Path(str(config["output"])).write_text(json.dumps({**facts, "z": result.arrays["z"].numpy().tolist()}))
