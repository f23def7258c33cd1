"""The defaults on five tasks: no group worse off than under one model for all, and nobody beaten by simpler things.

    python benchmarks/study_defaults.py FOLDER

FOLDER holds adult/adult.data, communities_crime/communities.data, german_credit/german.data and medical_cost/insurance.csv
(each also as .xz). A task is its recipe without [learner], [mixer] and [mixing], so that what a recipe leaves out is what is
judged.
Beside ours: the best constant and the best fixed model for all rounds (both known in hindsight only), the single model, and
AdaGrad on the same features, at the best of three rates in hindsight.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import add_output_options, progress, save, show

from saddlebag.launch.groupwise.recipe import groupwise_from_dict, load_groupwise
from saddlebag.launch.groupwise.reports.report import summarise_recipe
from saddlebag.launch.groupwise.study import order_of, stream_study

if TYPE_CHECKING:
    from saddlebag.launch.groupwise.data.stream import RoundStream

INCOME = (
    'features.numeric=["age","education-num","capital-gain","capital-loss","hours-per-week"]',
    "label.column=income",
    'label.positive=">50K"',
    'label.scale="none"',
)
LOG = ('mixing.loss="log"', "mixing.clip=[0.001, 0.999]")
GOOD = ('label.positive="1"', 'label.scale="none"', 'data.text=["class"]')
TASKS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "hours": ("groupwise_adult", "adult/adult.data", ()),
    "income": ("groupwise_adult", "adult/adult.data", INCOME),
    "communities": ("groupwise_communities", "communities_crime/communities.data", ()),
    "medical costs": ("groupwise_medical", "medical_cost/insurance.csv", ()),
    "German credit": ("groupwise_german_credit", "german_credit/german.data", ()),
    "German credit, log loss": ("groupwise_german_credit", "german_credit/german.data", (*GOOD, *LOG)),
}
ORDERS = [473, 503, 623, 550, 692]
RATES = (0.03, 0.1, 0.3)
GOALS = (("single", 1.001), ("constant", 1.0), ("adagrad", 1.0))


def adagrad(stream: RoundStream, rate: float, *, log: bool) -> float:
    """The total loss of one linear model for all, each coordinate with its own step, over one order."""
    theta_D, square_D, total = np.zeros(stream.x_ND.shape[1]), np.full(stream.x_ND.shape[1], 1e-12), 0.0
    for x_D, y in zip(stream.x_ND, stream.y_N.tolist(), strict=True):
        score = float(x_D @ theta_D)
        if log:
            p = min(max(0.5 + 0.5 * np.tanh(0.5 * score), 0.001), 0.999)
            total -= y * np.log(p) + (1.0 - y) * np.log1p(-p)
            slope_D = (p - y) * x_D
        else:
            total += (min(max(score, 0.0), 1.0) - y) ** 2
            slope_D = 2.0 * (score - y) * x_D
        square_D += slope_D * slope_D
        theta_D -= rate * slope_D / np.sqrt(square_D)
    return total


def judged(name: str, folder: Path, orders: list[int], processes: int) -> dict[str, Any]:
    """One task."""
    recipe, data, sets = TASKS[name]
    source = next(path for path in (folder / data, folder / f"{data}.xz") if path.is_file())
    _, table = load_groupwise(Path(recipe), [f'data.source="{source}"'])
    mixing = {key: value for key, value in table.pop("mixing", {}).items() if key == "shadows"}
    table = {**table, "shuffles": orders, **({"mixing": mixing} if mixing else {})}
    for key in ("learner", "mixer", "comparator"):
        table.pop(key, None)
    for assignment in sets:
        key, _, value = assignment.partition("=")
        part, _, field = key.partition(".")
        table.setdefault(part, {})[field] = json.loads(value) if value[0] in '["0123456789' else value
    loaded = groupwise_from_dict(table)
    stream, study = stream_study(loaded, processes=processes)
    values = summarise_recipe(loaded, name, stream, study)
    whole, log = values["groups"][-1], loaded.mixing.loss == "log"
    streams = [stream.reordered(order_of(seed, len(stream.y_N))) for seed in orders]
    totals = [np.mean([adagrad(each, rate, log=log) for each in streams]) for rate in RATES]
    verdicts = [row["verdict"] for row in values["groups"]]
    losses = {key: whole[f"{key}_loss"]["mean"] for key in ("constant", "single", "fixed")}
    return {
        "task": name,
        "rounds": whole["rounds"],
        **losses,
        "adagrad": float(min(totals)),
        "ours": whole["loss"]["mean"],
        **{word: verdicts.count(word) for word in ("better", "no clear difference", "worse")},
        "worse off": [row["group"] for row in values["groups"] if row["verdict"] == "worse"],
    }


def missed(row: dict[str, Any]) -> str:
    """Which goals a task misses."""
    found = [f"above {key}" for key, factor in GOALS if row["ours"] > factor * row[key]]
    return ", ".join(found + [f"worse: {name}" for name in row["worse off"]]) or "met"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--orders", type=int, default=len(ORDERS))
    parser.add_argument("--processes", type=int, default=1)
    add_output_options(parser)
    args = parser.parse_args()
    rows = []
    for name in args.tasks:
        rows.append(judged(name, args.folder, ORDERS[: args.orders], args.processes))
        progress(f"{name}: {missed(rows[-1])}")
    heads = (
        "task",
        "rounds",
        "constant",
        "AdaGrad",
        "best fixed",
        "single model",
        "ours",
        "better / no difference / worse",
        "goals",
    )
    lines = [
        [
            row["task"],
            f"{row['rounds']:,.0f}",
            *(f"{row[key]:.4g}" for key in ("constant", "adagrad", "fixed", "single", "ours")),
            " / ".join(str(row[word]) for word in ("better", "no clear difference", "worse")),
            missed(row),
        ]
        for row in rows
    ]
    show(f"Total losses, mean of {args.orders} orders", heads, lines, markdown=args.markdown)
    save(args.json, rows)


if __name__ == "__main__":
    main()
