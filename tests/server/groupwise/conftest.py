from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import AdaNormalHedge, Groupwise, Ridge, SquaredLoss
from saddlebag.server.groupwise.core import GroupwiseCore, ServiceSettings

FEATURES, GROUPS = 3, 5


def algorithm(**changes: Any) -> Groupwise:
    params: dict[str, Any] = {"interval": (0.0, 1.0), "always_on": 0} | changes
    return Groupwise(learner=Ridge(dimension=FEATURES), mixer=AdaNormalHedge(), loss=SquaredLoss(), **params)


@pytest.fixture
def make_core() -> Any:
    def make(max_pending: int = 1000, **changes: Any) -> GroupwiseCore:
        names = tuple(f"g{g}" for g in range(GROUPS))
        settings = ServiceSettings(features=("a", "b", "c"), groups=names, max_pending=max_pending, max_rows=64)
        return GroupwiseCore(algorithm(**changes), settings)

    return make


@pytest.fixture
def rows() -> Any:
    """Makes (features, memberships, labels) of some rows."""

    def make(rng: np.random.Generator, count: int) -> tuple[Any, Any, Any]:
        x_ND = rng.random((count, FEATURES))
        member_NG = rng.random((count, GROUPS)) < 0.4
        member_NG[:, 0] = True
        label_N = np.clip(x_ND @ [0.5, 0.2, 0.1] + 0.2 * member_NG[:, 1] + 0.05 * rng.standard_normal(count), 0, 1)
        return x_ND, member_NG, label_N

    return make
