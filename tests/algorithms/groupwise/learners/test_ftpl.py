from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import (
    AdaNormalHedge,
    Groupwise,
    LinearLoss,
    PerturbedLeader,
    ShortestPath,
    check_learner,
    grid_graph,
)
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

GRID = grid_graph(4, 4)
ONE = np.zeros(1, np.int64)


def paths(graph: ShortestPath) -> Iterator[np.ndarray]:
    """All paths, by brute force."""

    def extend(node: int, taken: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if node == graph.num_nodes - 1:
            yield taken
        for e, (tail, head) in enumerate(graph.edges):
            if tail == node:
                yield from extend(head, (*taken, e))

    for taken in extend(0, ()):
        path = np.zeros(graph.dimension)
        path[list(taken)] = 1.0
        yield path


def test_a_grid_has_its_paths() -> None:
    found = np.array(list(paths(GRID)))
    assert len(found) == 20  # 6 over 3
    assert GRID.dimension == 24
    assert GRID.longest == 6
    assert max(np.abs(a - b).sum() for a, b in itertools.combinations(found, 2)) <= GRID.diameter


@pytest.mark.parametrize("graph", [GRID, grid_graph(1, 5), ShortestPath(((0, 1), (0, 1), (0, 3), (1, 2), (1, 3)), 4)], ids=str)
def test_the_oracle_finds_the_enumerated_minimum(graph: ShortestPath) -> None:
    rng = np.random.default_rng(0)
    cost_KN = rng.uniform(-1, 2, (200, graph.dimension))
    every_PN = np.array(list(paths(graph)))
    best_KN = graph.best(cost_KN)
    assert np.allclose((best_KN * cost_KN).sum(axis=1), (cost_KN @ every_PN.T).min(axis=1))
    assert all((row == every_PN).all(axis=1).any() for row in best_KN)


def test_laws() -> None:
    rng = np.random.default_rng(1)
    check_learner(PerturbedLeader(oracle=GRID), np.zeros((40, 0)), rng.random((40, 24)))


def test_noise_is_fresh_and_the_groups_own() -> None:
    learner = PerturbedLeader(oracle=GRID)
    state, both = learner.init(2), np.array([0, 1])
    chosen = [learner.predict(state, None, both, Draws(0, t)) for t in range(50)]
    assert len({paths.tobytes() for paths in chosen}) > 25
    assert sum(np.array_equal(pair[0], pair[1]) for pair in chosen) < 25
    assert np.array_equal(chosen[3][1:], learner.predict(state, None, np.array([1]), Draws(0, 3)))


@pytest.mark.parametrize("hostile", [False, True], ids=["random", "adversary"])
def test_mean_regret_is_below_the_bound(hostile: bool) -> None:
    """20 runs of 300 rounds; the adversary raises the cost of the edges the leader without noise would take."""
    learner, every_PN, regrets = PerturbedLeader(oracle=GRID), np.array(list(paths(GRID))), []
    for seed in range(20):
        rng, state, cost = np.random.default_rng(seed), learner.init(1), 0.0
        for t in range(300):
            path_N = learner.predict(state, None, ONE, Draws(seed, t))[0]
            cost_N = rng.random(24) * np.linspace(0.5, 1, 24)
            if hostile:
                cost_N = GRID.best(state.cost_GN)[0]
            cost += path_N @ cost_N
            learner.advance(state, None, cost_N, ONE)
        regrets.append(cost - (every_PN @ state.cost_GN[0]).min())
    bound = learner.expected_regret_bound(300)
    assert np.mean(regrets) <= bound
    assert bound == pytest.approx(2 * np.sqrt(2 * 12 * 6 * 24 * 300))


def test_groupwise_paths_sample_a_groups_path() -> None:
    """In a sampled round the decision is a path; as a mixture it is a flow with the same expected cost."""
    learner = PerturbedLeader(oracle=GRID)
    loss = LinearLoss(largest=6.0)
    sampled = Groupwise(
        learner=learner, mixer=AdaNormalHedge(loss_range=6.0), loss=loss, output="sample", charge="expected", always_on=2
    )
    state, rng, every = sampled.init(3), np.random.default_rng(2), {path.tobytes() for path in paths(GRID)}
    for t in range(60):
        awake_G = np.array([t % 2, t % 3 == 0, 1.0])
        prediction = sampled.predict(state, None, awake_G, Draws(5, t))
        assert prediction.value.tobytes() in every
        cost_N = rng.random(24)
        flow_N = prediction.p_E @ prediction.z_E
        state = sampled.learn(state, None, cost_N, prediction)
        assert sampled.outcome(prediction, cost_N).expected == pytest.approx(flow_N @ cost_N)
    assert sampled.alarms(state) == ()


@pytest.mark.parametrize(
    ("edges", "nodes", "message"),
    [(((1, 0),), 2, "from a smaller to a larger node"), (((0, 1),), 3, "no path leads"), (((0, 5),), 3, "below 3, got 0 -> 5")],
)
def test_graphs_are_checked(edges: tuple[tuple[int, int], ...], nodes: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ShortestPath(edges, nodes)


def test_grids_are_checked() -> None:
    with pytest.raises(ConfigError, match="a grid needs two nodes"):
        grid_graph(1, 1)
