"""Online shortest path for groups: the worked case of a combinatorial learner behind an offline oracle.

A grid whose edges lead right and down; every round has a shape and a colour, as in the synthetic study, and the costs of its
edges are the mean of two groups' own, plus noise. Each group follows its perturbed leader; a group's path is drawn by the
mixer's weights, and what is counted is the expected cost. The single model is the leader of all rounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import AdaNormalHedge, Groupwise, LinearLoss, PerturbedLeader, grid_graph
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError
from saddlebag.launch.groupwise.data.synthetic import COLOURS, SHAPES
from saddlebag.launch.groupwise.recipe import ALWAYS_ON
from saddlebag.launch.groupwise.reports.report import summarise
from saddlebag.launch.groupwise.study import POINTS, Study

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise import ShortestPath
    from saddlebag.algorithms.groupwise.base import Array

GROUPS = (*SHAPES, *COLOURS, ALWAYS_ON)
_CHANCES = ((0.5, 0.3, 0.2), (0.6, 0.4))
_NOISE = 0.1


def paths_study(*, side: int = 4, rounds: int = 3000, seeds: int = 10) -> tuple[dict[str, Any], Study]:
    """Run the study with seeds 0, 1, ...: other costs, other rounds, other perturbations.

    Raises:
        ConfigError: an argument is out of range.
    """
    for name, value, low, high in (("side", side, 2, 20), ("rounds", rounds, 2, 10**6), ("seeds", seeds, 1, 1000)):
        if not low <= value <= high:
            raise ConfigError(f"{name} must lie in {low}..{high}, got {value}")
    graph = grid_graph(side, side)
    rows = [_run(graph, rounds, seed) for seed in range(seeds)]
    arrays: dict[str, Any] = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    study = Study(**arrays)
    title = f"Groupwise regret, shortest paths on a {side} x {side} grid, {rounds:,} rounds"
    return summarise(title, GROUPS, study, charge="expected"), study


def _stream(graph: ShortestPath, rounds: int, seed: int) -> tuple[Array, Array]:
    """Costs in [0, 1] and memberships."""
    rng, G = np.random.default_rng(seed), len(GROUPS)
    own_GE = rng.random((G - 1, graph.dimension))
    shape_N = rng.choice(len(SHAPES), rounds, p=_CHANCES[0])
    colour_N = len(SHAPES) + rng.choice(len(COLOURS), rounds, p=_CHANCES[1])
    noise_NE = rng.uniform(-_NOISE, _NOISE, (rounds, graph.dimension))
    awake_NG = np.zeros((rounds, G))
    awake_NG[np.arange(rounds), shape_N] = awake_NG[np.arange(rounds), colour_N] = awake_NG[:, -1] = 1.0
    return np.clip((own_GE[shape_N] + own_GE[colour_N]) / 2.0 + noise_NE, 0.0, 1.0), awake_NG


def _run(graph: ShortestPath, rounds: int, seed: int) -> dict[str, Array]:
    cost_NE, awake_NG = _stream(graph, rounds, seed)
    G, learner = len(GROUPS), PerturbedLeader(oracle=graph)
    mixer, loss = AdaNormalHedge(loss_range=graph.largest), LinearLoss(largest=graph.largest)
    algorithm = Groupwise(learner=learner, mixer=mixer, loss=loss, output="sample", charge="expected", always_on=G - 1)
    state, single_N, ours_N, played = algorithm.init(G), np.empty(rounds), np.empty(rounds), 0.0
    for t in range(rounds):
        prediction = algorithm.predict(state, None, awake_NG[t], Draws(seed, t))
        outcome = algorithm.outcome(prediction, cost_NE[t])
        single_N[t], ours_N[t], played = outcome.loss_E[-1], outcome.expected, played + outcome.played
        state = algorithm.learn(state, None, cost_NE[t], prediction, owned=True)
    members = [awake_NG[:, g] > 0 for g in range(G)]
    per_group = [_group(graph, cost_NE[member_N], single_N[member_N], ours_N[member_N]) for member_N in members]
    values = {name: np.array([row[name] for row in per_group]) for name in per_group[0]}
    values["learner_bound_SG"] = np.array([learner.expected_regret_bound(int(count)) for count in state.ledger.count_E])
    values["learner_excess_SG"] = np.full(G, -np.inf)  # its bound is one on the expected cost
    slack = float(algorithm.mixer.slack(state.mixer).max())
    scalars = {"played_S": played, "expected_S": ours_N.sum(), "fell_back_S": state.ledger.fell_back, "slack": slack}
    return {
        **values,
        **{name: np.asarray(value, np.float64) for name, value in scalars.items()},
        "own_SG": state.ledger.loss_E,
        "absolute_SG": state.ledger.absolute_E,
        "meta_bound_SG": algorithm.mixer.bound(state.mixer),
        "largest": np.asarray(state.ledger.largest),
        "declared": np.asarray(mixer.loss_range),
    }


def _group(graph: ShortestPath, cost_KE: Array, single_K: Array, ours_K: Array) -> dict[str, Any]:
    """Totals and curves of a group: regret to the best path for its rounds so far."""
    clock_P = np.linspace(1, len(cost_KE), POINTS).round().astype(int)
    sums_PE = np.cumsum(cost_KE, axis=0)[clock_P - 1]
    best_P = (graph.best(sums_PE) * sums_PE).sum(axis=1)
    single_P, ours_P = np.cumsum(single_K)[clock_P - 1], np.cumsum(ours_K)[clock_P - 1]
    return {
        "rounds_SG": float(len(cost_KE)),
        "single_SG": single_P[-1],
        "ours_SG": ours_P[-1],
        "best_SG": best_P[-1],
        "clock_SGP": clock_P.astype(np.float64),
        "single_curve_SGP": single_P - best_P,
        "ours_curve_SGP": ours_P - best_P,
    }
