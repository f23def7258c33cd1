"""Experts by themselves, and in a new order: groups that come while shadows are on, after the groups, then all the shadows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array

S = TypeVar("S")


def grown_order(groups: int, extra: int) -> npt.NDArray[np.int64]:
    """Groups and their shadows, then new groups and theirs, as all groups, then all shadows.

    Example:
        >>> grown_order(2, 1).tolist()  # of group 0, the always-on group 1, shadow 0; then group 2 and its shadow
        [0, 1, 3, 2, 4]
    """
    E = 2 * groups - 1
    parts = ((0, groups), (E, E + extra), (groups, E), (E + extra, E + 2 * extra))
    return np.concatenate([np.arange(*part) for part in parts])


def reordered(state: S, order_E: Any) -> S:
    """A state whose arrays have experts as their last axis, with experts in another order."""
    values = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}  # type: ignore[arg-type]
    moved = {name: value[..., order_E] for name, value in values.items() if isinstance(value, np.ndarray) and value.ndim}
    return type(state)(**{**values, **moved})


class Separate:
    """`SeparateExperts`, for mixers whose states hold numbers of each expert alone."""

    def among(self, state: S, expert_K: Any) -> S:
        """The state of some experts by themselves."""
        return reordered(state, expert_K)


def widened(value_E: Array, num_groups: int, num_experts: int, *, shadows: bool) -> Array:
    """Values of the experts of before, among those of now; 0 for those that came later. Shape (E, ...)."""
    before = len(value_E)
    wide_E = np.concatenate((value_E, np.zeros((num_experts - before, *value_E.shape[1:]))))
    if not shadows:
        return wide_E
    groups = (before + 1) // 2
    moved_E: Array = wide_E[grown_order(groups, num_groups - groups)]
    return moved_E
