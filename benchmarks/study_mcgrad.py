"""Calibration for every group on the census: corrected online, against MCGrad refitted every 1,000 rows, and against nothing.

    python benchmarks/study_mcgrad.py write PATH/adult.data predictions.npz     # with Saddlebag
    python benchmarks/study_mcgrad.py judge predictions.npz                     # with mcgrad (pip install mcgrad), apart or not

The task is income above 50K, the recipe's groups, the defaults of mixer and calibration, one order of the rows. MCGrad
(gradient boosting of the logits until the held-out loss rises) is fitted on all rows so far, with the columns that the groups
are made of as its segments, and corrects the next 1,000; before the first fit it leaves predictions as they are. The error of a
group is the mean distance of labels from predictions over ten levels of what was given out, weighted by rounds.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import show

ORDER = 473
SEGMENTS = ("age", "education-num", "sex", "race")
SETS = (
    "label.column=income",
    'label.positive=">50K"',
    'features.numeric=["age","education-num","capital-gain","capital-loss","hours-per-week"]',
    "mixer.name=specialists",
)
SHOWN = ("always_on", "young", "women with a degree", "black women", "asian", "native", "other race")


def write(data: Path, out: Path) -> None:
    """Predictions of the single model, ours, and ours calibrated, each before its label, with labels, groups and segments."""
    from saddlebag.algorithms.groupwise import Calibration, calibrate_recorded, mix_members, replay_members
    from saddlebag.launch.groupwise.data.columns import read_columns
    from saddlebag.launch.groupwise.data.stream import build_stream
    from saddlebag.launch.groupwise.recipe import load_groupwise, make_algorithm
    from saddlebag.launch.groupwise.study import order_of

    recipe, _ = load_groupwise(Path("groupwise_adult"), [f'data.source="{data}"', *SETS])
    whole = build_stream(recipe)
    order_N = order_of(ORDER, len(whole.y_N))
    stream = whole.reordered(order_N)
    algorithm = make_algorithm(recipe, stream.x_ND.shape[1], len(stream.groups))
    z_M = np.clip(replay_members(algorithm.learner, stream.x_ND, stream.y_N, stream.members), 0.0, 1.0)
    prior_E = algorithm.prior(len(stream.groups))
    mixed = mix_members(algorithm.mixer, prior_E, stream.members, z_M, stream.y_N, algorithm.loss)
    ours_N, single_N = mixed.value_NS[:, 0], z_M[stream.members.start_N[1:] - 1]
    begin = time.perf_counter()
    calibrated_N, _ = calibrate_recorded(Calibration(), np.clip(ours_N, 0.0, 1.0), stream.y_N, stream.awake_NG)
    print(f"calibrated online in {time.perf_counter() - begin:.1f} s")
    columns = read_columns(Path(recipe.data.source), recipe.data)
    segments = {f"segment {name}": columns.values[name][order_N] for name in SEGMENTS}
    kinds = {"single": single_N, "ours": ours_N, "calibrated": calibrated_N, "y": stream.y_N, "awake": stream.awake_NG > 0}
    np.savez_compressed(out, groups=np.array(stream.groups), **kinds, **segments)  # type: ignore[arg-type]


def refitted(found: Any, kind: str, every: int) -> tuple[np.ndarray, float]:
    """What MCGrad makes of predictions, and the seconds it took."""
    pandas, methods = importlib.import_module("pandas"), importlib.import_module("mcgrad.methods")
    base_N = np.clip(found[kind], 1e-4, 1.0 - 1e-4)
    table = pandas.DataFrame(
        {name: found[f"segment {name}"] for name in SEGMENTS} | {"base": base_N, "y": found["y"].astype(int)}
    )
    words = {"categorical_feature_column_names": ["sex", "race"], "numerical_feature_column_names": ["age", "education-num"]}
    p_N, begin = base_N.copy(), time.perf_counter()
    for at in range(every, len(table), every):
        model = methods.MCGrad(random_state=0)
        model.fit(table[:at], "base", "y", **words)
        p_N[at : at + every] = model.predict(table[at : at + every], "base", **words)
    return p_N, time.perf_counter() - begin


def errors(p_N: Any, found: Any, bins: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Each group's calibration error, and mean squared loss."""
    y_N, awake_NG = found["y"], found["awake"].astype(float)
    level_N = np.clip((p_N * bins + 1e-9).astype(int), 0, bins - 1)
    gap_GB = awake_NG.T @ (np.eye(bins)[level_N] * (y_N - p_N)[:, None])
    count_G = awake_NG.sum(axis=0)
    return np.abs(gap_GB).sum(axis=1) / count_G, (p_N - y_N) ** 2 @ awake_NG / count_G


def judge(path: Path, every: int, *, markdown: bool) -> None:
    """The table."""
    found = dict(np.load(path))
    kinds = {name: found[name] for name in ("single", "ours", "calibrated")}
    for name in ("single", "ours"):
        kinds[f"{name}, MCGrad"], took = refitted(found, name, every)
        print(f"MCGrad on {name}: {took:.0f} s")
    judged = {name: errors(p_N, found) for name, p_N in kinds.items()}
    groups = found["groups"].tolist()
    lines = []
    for name in SHOWN:
        g = groups.index(name)
        lines.append([name, f"{int(found['awake'][:, g].sum()):,}", *(f"{error[g]:.4f}" for error, _ in judged.values())])
    lines.append(["mean of groups", "", *(f"{error.mean():.4f}" for error, _ in judged.values())])
    lines.append(["worst group", "", *(f"{error.max():.4f}" for error, _ in judged.values())])
    lines.append(["squared loss a round", "", *(f"{loss[-1]:.5f}" for _, loss in judged.values())])
    show("Calibration error", ("group", "rounds", *judged), lines, markdown=markdown)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "judge"))
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--every", type=int, default=1000, help="rows between two fits of MCGrad")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    if args.what == "write":
        write(*args.paths)
    else:
        judge(args.paths[0], args.every, markdown=args.markdown)


if __name__ == "__main__":
    main()
