"""Group-robust training on Adult over gRPC, beside plain training and beside solvers that see all the data.

    python benchmarks/study_group_robust.py PATH/adult.data [--test PATH/adult.test] [--out FOLDER]

Four models of one form (logistic, the features of launch/recipes/group_robust_adult.toml):

    robust, 8 workers      the recipe: innovations over gRPC
    plain, 8 workers       the mean loss of all rows, by the same method over gRPC
    robust, pooled         scipy's SLSQP: min t such that every group's loss + (lam/2)|x|^2 <= t, no penalty of the weights
    plain, pooled          scikit-learn's LogisticRegression

and for each the loss and the error of its worst group, on the rows of training and on those of the test file.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression as PooledLogistic

from saddlebag.algorithms.problems import GroupRobust, LogisticRegression
from saddlebag.algorithms.problems.data.groups import Groups
from saddlebag.algorithms.problems.data.rows import prepare
from saddlebag.algorithms.problems.robust.robust_primal import logistic
from saddlebag.launch.build import build_problem
from saddlebag.launch.data.tables import Encoding, Table, read_table_file
from saddlebag.launch.recipe.recipe import Recipe, load_recipe, recipe_from_dict
from saddlebag.launch.results.table import Board
from saddlebag.launch.results.units import format_bytes
from saddlebag.launch.running import run
from saddlebag.proto.checkpoint import CheckpointStore

RECIPE = Path(__file__).parents[1] / "launch" / "recipes" / "group_robust_adult.toml"


def distributed(recipe: Recipe, out: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The iterate at the end of a run over gRPC, and the run's result."""
    board = Board([recipe.label], stop=recipe.stop, workers=recipe.workers, title=recipe.title, quiet=True)
    values = run(recipe, out, board, force=True)
    result = values["jobs"][0]
    store = CheckpointStore(out / recipe.label / "checkpoints", "server")
    arrays, _ = store.load(store.rounds()[-1])
    return np.asarray(arrays["replica.z_D"]), result


def plain_recipe(robust: Recipe) -> Recipe:
    """The same data, workers and method on the mean loss."""
    table = robust.to_dict()
    table["title"] = "Plain training on Adult, 8 workers"
    table["problem"] = {"name": "logistic_regression", "regularisation": table["problem"]["regularisation"]}
    table["method"]["step_size"] = "0.5/L"  # its constant is tighter than that of the robust problem
    return recipe_from_dict(table, stem="plain")


def robust_pooled(problem: GroupRobust) -> np.ndarray:
    """min over (x, t) of t such that l_g(x) + (lam/2)|x|^2 <= t: the worst group's loss by sequential quadratic programming."""
    signed, mean_GN, lam = problem.rows.scaled(problem.labels_N), problem.groups.mean_GN, problem.regularisation

    def slack(v: np.ndarray) -> np.ndarray:
        loss_N, _ = logistic(signed.times(v[:-1]))
        return v[-1] - mean_GN @ loss_N - 0.5 * lam * v[:-1] @ v[:-1]

    def slope(v: np.ndarray) -> np.ndarray:
        _, slope_N = logistic(signed.times(v[:-1]))
        rows = [signed.transposed_times(own_N * slope_N) - lam * v[:-1] for own_N in mean_GN]
        return np.column_stack((np.array(rows), np.ones(len(rows))))

    num_features = problem.rows.shape[1]
    first = np.append(np.zeros(num_features), 1.0)
    unit = np.append(np.zeros(num_features), 1.0)
    found = minimize(
        lambda v: v[-1],
        first,
        jac=lambda v: unit,
        constraints={"type": "ineq", "fun": slack, "jac": slope},
        method="SLSQP",
        options={"maxiter": 300, "ftol": 1e-9},
    )
    if not found.success:
        print(f"SLSQP stopped early: {found.message}")
    return np.asarray(found.x[:-1])


def plain_pooled(problem: LogisticRegression) -> np.ndarray:
    rows = problem.rows.dense()  # type: ignore[attr-defined]
    solver = PooledLogistic(C=1 / (problem.regularisation * len(rows)), fit_intercept=False, tol=1e-8, max_iter=2000)
    return np.asarray(solver.fit(rows, problem.labels_N).coef_[0])


def on_test(problem: GroupRobust, train: Table, test: Table) -> GroupRobust:
    """The test rows with the features and the groups of training."""
    data = Encoding.fit(train, drop=["fnlwgt"]).apply(test)
    members = []
    for name in problem.groups.names:
        member_N = np.ones(len(data.labels_N), np.bool_)
        for part in name.split(", "):
            member_N &= _member(part, data.columns)
        members.append(member_N)
    groups = Groups(problem.groups.names, np.array(members))
    everything = (np.arange(len(data.labels_N)),)
    return dataclasses.replace(problem, rows=prepare(data.rows), labels_N=data.labels_N, groups=groups, shards=everything)


def _member(part: str, columns: Any) -> np.ndarray:
    if "<=" in part:
        low, rest = part.split("<=")
        name, high = rest.split("<")
        return np.asarray((columns[name] >= float(low)) & (columns[name] < float(high)))
    for sign, compare in ((">=", np.greater_equal), ("<", np.less), ("=", np.equal)):
        name, found, value = part.partition(sign)
        if found:
            return np.asarray(compare(columns[name], value if sign == "=" else float(value)))
    raise ValueError(part)


def measured(problem: GroupRobust, x_F: np.ndarray) -> dict[str, Any]:
    loss_G, error_G = problem.losses(x_F)
    loss_N, _ = logistic(problem.labels_N * problem.rows.times(x_F))
    wrong = float(np.mean(problem.labels_N * problem.rows.times(x_F) <= 0))
    names = problem.groups.names
    return {
        "worst_loss": float(loss_G.max()),
        "worst_loss_group": names[int(loss_G.argmax())],
        "worst_error": float(error_G.max()),
        "worst_error_group": names[int(error_G.argmax())],
        "mean_loss": float(loss_N.mean()),
        "error": wrong,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/group_robust_study"))
    parser.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="override a key of every run"
    )
    options = parser.parse_args()
    loaded = load_recipe(RECIPE, [f"data.source={json.dumps(str(options.data.resolve()))}", *options.sets])
    recipe = dataclasses.replace(loaded, baselines=())
    problem = build_problem(recipe)
    plain = plain_recipe(recipe)
    mean_problem = build_problem(plain)
    assert isinstance(problem, GroupRobust)
    assert isinstance(mean_problem, LogisticRegression)
    test = on_test(problem, read_table_file(options.data), read_table_file(options.test)) if options.test else None
    num_features = problem.rows.shape[1]
    models: dict[str, tuple[np.ndarray, dict[str, Any]]] = {}
    for label, job in (("robust, 8 workers", recipe), ("plain, 8 workers", plain)):
        begin = time.monotonic()
        z_D, result = distributed(job, options.out / label.replace(", ", "_").replace(" ", "_"))
        numbers = {key: result[key] for key in ("reason", "iterations", "rounds", "up_bytes", "down_bytes")}
        models[label] = (z_D[:num_features], {**numbers, "seconds": time.monotonic() - begin})
    for label, solve in (
        ("robust, pooled", lambda: robust_pooled(problem)),
        ("plain, pooled", lambda: plain_pooled(mean_problem)),
    ):
        begin = time.monotonic()
        models[label] = (solve(), {"seconds": time.monotonic() - begin})
    report(models, problem, test, options.out)


def report(
    models: dict[str, tuple[np.ndarray, dict[str, Any]]], problem: GroupRobust, test: GroupRobust | None, out: Path
) -> None:
    rows = {}
    heads = ("worst loss", "worst error", "mean loss", "error", "worst loss, test", "worst error, test", "error, test")
    print(f"| model | {' | '.join((*heads, 'up', 'down', 'time'))} |")
    print("|:---" + "|---:" * (len(heads) + 3) + "|")
    for label, (x_F, facts) in models.items():
        here = measured(problem, x_F)
        there = measured(test, x_F) if test is not None else None
        rows[label] = {"train": here, "test": there, **facts}
        cells = [f"{here[key]:.4f}" for key in ("worst_loss", "worst_error", "mean_loss", "error")]
        cells += [f"{there[key]:.4f}" if there else "" for key in ("worst_loss", "worst_error", "error")]
        cells += [format_bytes(facts[key] / problem.num_workers) if key in facts else "" for key in ("up_bytes", "down_bytes")]
        print(f"| {label} | {' | '.join(cells)} | {facts['seconds']:.0f} s |")
    out.mkdir(parents=True, exist_ok=True)
    groups = dict(zip(problem.groups.names, map(int, problem.groups.sizes_G), strict=True))
    (out / "study.json").write_text(json.dumps({"groups": groups, "models": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
