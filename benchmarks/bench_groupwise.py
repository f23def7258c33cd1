"""Rounds per second of groupwise regret: batched learners against the obvious loop over one object for each expert.

Every contender predicts and learns the same stream: ridge regression for each group, AdaNormalHedge over the groups awake, the
mixture's loss charged. Group 0 is awake in every round, the others with probability 1/4. Contenders:

* objects: a class per expert in plain numpy (Sherman-Morrison, in place), mixing in Python numbers: the obvious loop;
* river: the same loop with `BayesianLinearRegression` (the same quadratic update) for each expert, where river is installed;
* rounds: `Groupwise.predict` and `learn`, round by round, as a service without batches has it;
* single: the same with `compiled=True`, which needs numba;
* stream: `run_rounds`, many rounds in one call, each predicted before its label (compiled where numba is installed);
* recorded: `replay_groups` and `mix_recorded`, the same for several orders of a recorded stream; here one.

All but river, whose prior is another one, agree on every prediction to 1e-8; the script fails otherwise.
"""

from __future__ import annotations

import argparse
import math
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import Row, add_output_options, column, interleaved, progress, ratios, save, show, spread, verdict

from saddlebag.algorithms.groupwise import (
    AdaNormalHedge,
    Groupwise,
    Ridge,
    SquaredLoss,
    mix_recorded,
    replay_groups,
    run_rounds,
)
from saddlebag.compression import Draws

try:
    from river.linear_model import BayesianLinearRegression
except ImportError:
    BayesianLinearRegression = None

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = tuple((groups, d) for d in (25, 100) for groups in (12, 100, 1000))
GOALS = {"single": 5.0, "stream": 15.0}  # at 100 groups
OURS = ("rounds", "single", "stream", "recorded")
ROUNDS = {12: 4000, 100: 1500, 1000: 600}
LOOP_ROUNDS = {12: 1500, 100: 300, 1000: 60}  # enough for a rate; the loops are slow
RIVER_ROUNDS = {12: 150, 100: 30, 1000: 6}

Stream = tuple[np.ndarray, np.ndarray, np.ndarray]


def stream(groups: int, d: int, seed: int) -> Stream:
    rng = np.random.default_rng(seed)
    x_ND = rng.random((ROUNDS[groups], d)) / math.sqrt(d)
    member_NG = rng.random((len(x_ND), groups)) < 0.25
    member_NG[:, 0] = True
    return x_ND, np.clip(x_ND @ rng.random(d) / 3 + 0.1 * rng.standard_normal(len(x_ND)), 0, 1), member_NG


class Expert:
    """Ridge regression as one would write it, with AdaNormalHedge's two numbers."""

    def __init__(self, d: int) -> None:
        self.inverse, self.theta, self.R, self.C = np.eye(d), np.zeros(d), 0.0, 0.0

    def predict(self, x: np.ndarray) -> float:
        return float(self.theta @ x)

    def update(self, x: np.ndarray, y: float) -> None:
        u = self.inverse @ x
        s = 1.0 + x @ u
        self.theta += u * ((y - self.theta @ x) / s)
        u /= math.sqrt(s)
        self.inverse -= np.outer(u, u)


class RiverExpert:
    """The same with river's object."""

    def __init__(self, d: int) -> None:
        del d
        self.model, self.R, self.C = BayesianLinearRegression(), 0.0, 0.0

    def predict(self, x: dict[int, float]) -> float:
        return float(self.model.predict_one(x))

    def update(self, x: dict[int, float], y: float) -> None:
        self.model.learn_one(x, y)


def weight(R: float, C: float) -> float:
    up, down = max(R + 1.0, 0.0), max(R - 1.0, 0.0)
    return math.exp(up * up / (3.0 * (C + 1.0))) - math.exp(down * down / (3.0 * (C + 1.0)))


def loop(make: Callable[[int], Any], data: Stream, rounds: int, *, as_dict: bool) -> tuple[float, np.ndarray]:
    x_ND, y_N, member_NG = data
    experts = [make(x_ND.shape[1]) for _ in range(member_NG.shape[1])]
    rows = [dict(enumerate(x.tolist())) for x in x_ND[:rounds]] if as_dict else x_ND
    values = np.empty(rounds)
    begin = time.perf_counter()
    for t in range(rounds):
        x, y = rows[t], float(y_N[t])
        awake = [experts[g] for g in np.flatnonzero(member_NG[t])]
        z = [expert.predict(x) for expert in awake]
        w = [weight(expert.R, expert.C) for expert in awake]
        total = sum(w) or 1.0
        values[t] = sum(wi * zi for wi, zi in zip(w, z, strict=True)) / total if any(w) else sum(z) / len(z)
        played = (values[t] - y) ** 2
        for expert, zi in zip(awake, z, strict=True):
            r = played - (zi - y) ** 2
            expert.R, expert.C = expert.R + r, expert.C + abs(r)
            expert.update(x, y)
    return rounds / (time.perf_counter() - begin), values


def objects(data: Stream) -> tuple[float, np.ndarray]:
    return loop(Expert, data, LOOP_ROUNDS[data[2].shape[1]], as_dict=False)


def river(data: Stream) -> tuple[float, np.ndarray]:
    return loop(RiverExpert, data, RIVER_ROUNDS[data[2].shape[1]], as_dict=True)


def rounds(data: Stream, *, compiled: bool = False) -> tuple[float, np.ndarray]:
    x_ND, y_N, member_NG = data
    awake_NG, count = member_NG.astype(float), LOOP_ROUNDS[member_NG.shape[1]]
    learner = Ridge(dimension=x_ND.shape[1])
    algorithm = Groupwise(learner=learner, mixer=AdaNormalHedge(), loss=SquaredLoss(), always_on=0, compiled=compiled)
    assert (algorithm.single is not None) is compiled  # made here, and compiled, before the clock starts
    state, values, draws = algorithm.init(member_NG.shape[1]), np.empty(count), Draws(0, 0)
    begin = time.perf_counter()
    for t in range(count):
        prediction = algorithm.predict(state, x_ND[t], awake_NG[t], draws)
        values[t] = prediction.value
        state = algorithm.learn(state, x_ND[t], float(y_N[t]), prediction, owned=True)
    return count / (time.perf_counter() - begin), values


def single(data: Stream) -> tuple[float, np.ndarray]:
    return rounds(data, compiled=True)


def in_one_call(data: Stream) -> tuple[float, np.ndarray]:
    x_ND, y_N, member_NG = data
    algorithm = Groupwise(learner=Ridge(dimension=x_ND.shape[1]), mixer=AdaNormalHedge(), loss=SquaredLoss(), always_on=0)
    state, awake_NG = algorithm.init(member_NG.shape[1]), member_NG.astype(float)
    run_rounds(algorithm, state, x_ND[:2], y_N[:2], awake_NG[:2])  # load what was compiled
    begin = time.perf_counter()
    _, values = run_rounds(algorithm, state, x_ND, y_N, awake_NG)
    return len(y_N) / (time.perf_counter() - begin), values


def recorded(data: Stream) -> tuple[float, np.ndarray]:
    x_ND, y_N, member_NG = data
    G = member_NG.shape[1]
    begin = time.perf_counter()
    z_NG = replay_groups(Ridge(dimension=x_ND.shape[1]), x_ND, y_N, member_NG)
    awake_NSG = member_NG[:, None].astype(float)
    mixed = mix_recorded(AdaNormalHedge(), np.full(G, 1 / G), z_NG[:, None], y_N[:, None], awake_NSG, SquaredLoss())
    return len(y_N) / (time.perf_counter() - begin), mixed.value_NS[:, 0]


CONTENDERS: dict[str, Callable[[Stream], tuple[float, np.ndarray]]] = {
    "objects": objects,
    **({"river": river} if BayesianLinearRegression else {}),
    "rounds": rounds,
    **({"single": single} if find_spec("numba") else {}),
    "stream": in_one_call,
    "recorded": recorded,
}


def check(values: dict[str, np.ndarray]) -> None:
    """Rounds and recorded predict what the loop predicts."""
    base = values["objects"]
    for name in (name for name in OURS if name in CONTENDERS):
        gap = float(np.abs(values[name][: len(base)] - base).max())
        if gap > 1e-8:
            raise SystemExit(f"{name} differs from the loop of objects by {gap:.3g}")


def measure(sizes: list[tuple[int, int]], repetitions: int) -> list[Row]:
    rows: list[Row] = []
    for groups, d in sizes:
        data = stream(groups, d, seed=groups + d)
        found: dict[str, np.ndarray] = {}
        for repetition, name in interleaved(list(CONTENDERS), repetitions):
            rate, found[name] = CONTENDERS[name](data)
            rows.append({"groups": groups, "d": d, "contender": name, "repetition": repetition, "rounds_per_s": rate})
            progress(f"{groups} groups, d = {d}, {name}: {rate:.0f} rounds/s")
        check(found)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--groups", type=int, nargs="*", default=[12, 100, 1000], choices=[12, 100, 1000])
    parser.add_argument("--dimensions", type=int, nargs="*", default=[25, 100])
    add_output_options(parser)
    options = parser.parse_args()
    sizes = [(groups, d) for groups, d in SIZES if groups in options.groups and d in options.dimensions]
    rows = measure(sizes, options.repetitions)
    lines, judged = [], []
    for groups, d in sizes:
        mine = [row for row in rows if (row["groups"], row["d"]) == (groups, d)]
        lines.append([str(groups), str(d), *(spread(column(mine, name, "rounds_per_s"), 0) for name in CONTENDERS)])
        for name in (name for name in OURS if name in CONTENDERS):
            values = ratios(mine, "rounds_per_s", name, "objects")
            goal = GOALS.get(name) if groups == 100 else None
            judged.append(
                [
                    f"{groups} groups, d = {d}: {name} : objects",
                    spread(values, 1),
                    f">= {goal:g}" if goal else "-",
                    verdict(values, goal, at_least=True) if goal else "no goal",
                ]
            )
    show("Rounds per second", ["groups", "d", *CONTENDERS], lines, markdown=options.markdown)
    show("Ratios", ["quantity", "median (range)", "goal", ""], judged, markdown=options.markdown)
    save(options.json, rows)


if __name__ == "__main__":
    main()
