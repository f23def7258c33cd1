"""Shortest paths in a directed acyclic graph, for many cost vectors at once: the oracle of online shortest path."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["ShortestPath", "grid_graph"]


@dataclasses.dataclass(frozen=True)
class ShortestPath:
    """Paths from the first node to the last, as 0/1 vectors over edges; costs may be negative.

    Attributes:
        edges: (tail, head) with tail < head, so the numbers of the nodes are a topological order.
        num_nodes: nodes are 0 to num_nodes - 1; 0 is the source, the last one the sink.

    Example:
        >>> graph = ShortestPath(edges=((0, 1), (0, 2), (1, 3), (2, 3)), num_nodes=4)
        >>> graph.best(np.array([[1.0, 1.0, 5.0, 1.0], [0.0, 9.0, 0.0, 9.0]])).tolist()
        [[0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]]
    """

    edges: tuple[tuple[int, int], ...]
    num_nodes: int

    def __post_init__(self) -> None:
        for tail, head in self.edges:
            if not 0 <= tail < head < self.num_nodes:
                raise ConfigError(f"edges lead from a smaller to a larger node below {self.num_nodes}, got {tail} -> {head}")
        reached = {0}
        for tail, head in sorted(self.edges):
            reached |= {head} if tail in reached else set()
        if self.num_nodes - 1 not in reached or self.num_nodes < 2:
            raise ConfigError(f"no path leads from node 0 to node {self.num_nodes - 1}")

    @property
    def dimension(self) -> int:
        return len(self.edges)

    @functools.cached_property
    def longest(self) -> int:
        """Edges of the longest path."""
        length = [-1] * self.num_nodes
        length[0] = 0
        for tail, head in sorted(self.edges):
            if length[tail] >= 0:
                length[head] = max(length[head], length[tail] + 1)
        return length[-1]

    @property
    def diameter(self) -> float:
        return 2.0 * self.longest

    @property
    def largest(self) -> float:
        return float(self.longest)

    @functools.cached_property
    def _incoming(self) -> tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]:
        """For each node but the source: its edges, and their tails."""
        rows = []
        for node in range(1, self.num_nodes):
            edges = tuple(e for e, (_, head) in enumerate(self.edges) if head == node)
            if edges:
                rows.append((node, edges, tuple(self.edges[e][0] for e in edges)))
        return tuple(rows)

    def best(self, cost_KN: Array) -> Array:
        """The cheapest path for each row of edge costs, by dynamic programming over the nodes; shape (K, n)."""
        K = len(cost_KN)
        value_VK = np.full((self.num_nodes, K), np.inf)
        value_VK[0] = 0.0
        choice_VK = np.zeros((self.num_nodes, K), np.int64)
        for node, edges, tails in self._incoming:
            through_EK = value_VK[list(tails)] + cost_KN[:, list(edges)].T
            least_K = through_EK.argmin(axis=0)
            value_VK[node] = through_EK[least_K, np.arange(K)]
            choice_VK[node] = np.array(edges)[least_K]
        tail_E = np.array([tail for tail, _ in self.edges])
        path_KN, node_K, row_K = np.zeros(cost_KN.shape), np.full(K, self.num_nodes - 1), np.arange(K)
        for _ in range(self.longest):
            moving = node_K > 0
            edge_K = choice_VK[node_K, row_K]
            path_KN[row_K[moving], edge_K[moving]] = 1.0
            node_K = np.where(moving, tail_E[edge_K], 0)
        return path_KN


def grid_graph(rows: int, columns: int) -> ShortestPath:
    """A grid whose edges lead right and down, from the upper left to the lower right corner.

    Example:
        >>> graph = grid_graph(2, 3)
        >>> graph.dimension, graph.longest
        (7, 3)
    """
    if rows < 1 or columns < 1 or rows * columns < 2:
        raise ConfigError(f"a grid needs two nodes at least, got {rows} x {columns}")
    edges = []
    for r in range(rows):
        for c in range(columns):
            node = r * columns + c
            edges += [(node, node + 1)] if c + 1 < columns else []
            edges += [(node, node + columns)] if r + 1 < rows else []
    return ShortestPath(tuple(edges), rows * columns)
