"""Fairness between clients: group-robust training in which each worker is a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.problems.data.given import require_data
from saddlebag.algorithms.problems.data.groups import Groups
from saddlebag.algorithms.problems.data.rows import prepare
from saddlebag.algorithms.problems.data.shards import shards_of
from saddlebag.algorithms.problems.robust.group_robust import GroupRobust

if TYPE_CHECKING:
    from saddlebag.algorithms.problems.data.rows import Dataset

__all__ = ["worker_robust"]


def worker_robust(
    data: Dataset | None,
    *,
    num_workers: int,
    split: str = "label_skew",
    seed: int = 0,
    regularisation: float = 1e-3,
    group_regularisation: float = 0.05,
) -> GroupRobust:
    """One classifier for all workers that serves the worst-served of them best.

    min over x, max over p on the simplex of sum_m p_m l_m(x) + (lam/2)|x|^2 - (nu/2)|p - 1/M|^2, l_m the mean logistic loss
    of worker m's samples (agnostic federated learning: Mohri, Sivek, Suresh 2019). See `GroupRobust`.

    Args:
        data: labelled rows.
        num_workers: M, the number of groups as well.
        split: see `shards_of`; workers should differ.
        seed: of the split.
        regularisation: lam >= 0.
        group_regularisation: nu >= 0.

    Raises:
        ConfigError: there is no data set, or a parameter is out of range.

    Example:
        >>> import numpy as np
        >>> import saddlebag as sb
        >>> rows_NF = np.random.default_rng(0).standard_normal((30, 3))
        >>> sb.make_problem("worker_robust", data=(rows_NF, rows_NF[:, 0] > 0), workers=2).dimension
        6
    """
    data = require_data("worker_robust", data, "breast_cancer")
    shards = shards_of(data, num_workers, split=split, seed=seed)
    member_GN = np.zeros((num_workers, len(data.labels_N)), np.bool_)
    for worker, shard in enumerate(shards):
        member_GN[worker, shard] = True
    return GroupRobust(
        prepare(data.rows),
        data.labels_N,
        Groups(tuple(f"worker {worker}" for worker in range(num_workers)), member_GN),
        shards,
        regularisation=regularisation,
        group_regularisation=group_regularisation,
        name=f"worker_robust on {data.name}",
    )
