"""Memberships of rounds in groups of which most are none: what is stored and done is for those that are awake.

A round's memberships stand together, groups ascending; `by_group` goes through the same memberships group by group.

Shapes: N = rounds, G = groups, M = memberships in all, K = those of one group or one round.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array, Index

__all__ = ["Members"]


@dataclasses.dataclass(frozen=True, eq=False)
class Members:
    """Who is awake when.

    Attributes:
        num_groups: G.
        start_N: where each round's memberships begin, and the last ones end; int64 (N + 1,).
        group_M: int64, ascending within a round.
        weight_M: confidences in (0, 1].

    Example:
        >>> members = Members.of(np.array([[1.0, 0.0, 1.0], [0.0, 0.5, 0.0]]))
        >>> members.group_M.tolist(), members.totals(np.array([10.0, 20.0])).tolist()
        ([0, 2, 1], [10.0, 10.0, 10.0])
    """

    num_groups: int
    start_N: Index
    group_M: Index
    weight_M: Array

    @classmethod
    def of(cls, awake_NG: Array | npt.NDArray[np.bool_]) -> Members:
        """From a table of all rounds and groups."""
        round_M, group_M = np.nonzero(awake_NG)
        weight_M = np.asarray(awake_NG[round_M, group_M], np.float64)
        return cls(awake_NG.shape[1], _starts(round_M, len(awake_NG)), group_M, weight_M)

    @classmethod
    def of_groups(cls, rounds: int, row_GK: Sequence[Index], weight_GK: Sequence[Array]) -> Members:
        """From each group's rounds, ascending, and its confidences in them."""
        group_M = np.repeat(np.arange(len(row_GK)), [len(row_K) for row_K in row_GK])
        round_M = np.concatenate([*row_GK, np.empty(0, np.int64)])
        order_M = np.argsort(round_M, kind="stable")
        weight_M = np.concatenate([*weight_GK, np.empty(0)])[order_M]
        return cls(len(row_GK), _starts(round_M, rounds), group_M[order_M], weight_M)

    def __len__(self) -> int:
        return len(self.start_N) - 1

    @functools.cached_property
    def round_M(self) -> Index:
        """The round of each membership."""
        return np.repeat(np.arange(len(self)), np.diff(self.start_N))

    def by_group(self) -> Iterator[tuple[int, Index, Index]]:
        """Each group that is ever awake: its number, its places among the memberships, and its rounds, ascending."""
        order_M = np.argsort(self.group_M, kind="stable")
        ends = np.cumsum(np.bincount(self.group_M, minlength=self.num_groups)).tolist()
        for group, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            if end > begin:
                place_K = order_M[begin:end]
                yield group, place_K, self.round_M[place_K]

    def reordered(self, order_N: Index) -> Members:
        """The rounds in another order."""
        count_N = np.diff(self.start_N)[order_N]
        start_N = np.concatenate(([0], np.cumsum(count_N)))
        place_M = np.repeat(self.start_N[:-1][order_N] - start_N[:-1], count_N) + np.arange(len(self.group_M))
        return Members(self.num_groups, start_N, self.group_M[place_M], self.weight_M[place_M])

    def totals(self, value_N: Array) -> Array:
        """Each group's sum of its rounds' values, times its confidences; shape (G,)."""
        return self.sums(self.weight_M * value_N[self.round_M])

    def sums(self, value_M: Array) -> Array:
        """Each group's sum over its memberships; shape (G,)."""
        total_G: Array = np.bincount(self.group_M, weights=value_M, minlength=self.num_groups).astype(np.float64)
        return total_G

    def column(self, group: int) -> Array:
        """A group's confidences in all rounds, 0 where it sleeps; shape (N,)."""
        awake_N, place_K = np.zeros(len(self)), self.group_M == group
        awake_N[self.round_M[place_K]] = self.weight_M[place_K]
        return awake_N

    def table(self) -> Array:
        """As a table of all rounds and groups, 0 for sleepers."""
        awake_NG = np.zeros((len(self), self.num_groups))
        awake_NG[self.round_M, self.group_M] = self.weight_M
        return awake_NG


def _starts(round_M: Index, rounds: int) -> Index:
    return np.concatenate(([0], np.cumsum(np.bincount(round_M, minlength=rounds))))
