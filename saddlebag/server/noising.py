"""Noise of the server's own on a round's sum: for whoever sees the downlinks, and not for the server, who sees every uplink."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.agreed.common_grid import require_shared
from saddlebag.algorithms.discrete_gaussian import discrete_gaussian
from saddlebag.compression import Mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms import AnyMethod
    from saddlebag.algorithms.base import ReplicaState

__all__ = ["noised"]


def noised(
    means: tuple[Mean, ...],
    method: AnyMethod,
    replica: ReplicaState,
    sigma: float,
    count: int,
    entropy: Callable[[int], bytes] = os.urandom,
) -> tuple[Mean, ...]:
    """The means with whole numbers of Gaussian shape added to the sum of the levels of `count` workers.

    Args:
        means: of the round; the first is of values on the workers' common grid.
        method: with a common grid and a clip.
        replica: of the round.
        sigma: of the sum's noise, in levels.
        count: workers.
        entropy: so many bytes that nobody else can know.
    """
    scale, mean_D = require_shared(method, replica).scale, means[0].dense()
    size = len(mean_D)
    noise_D = discrete_gaussian(sigma, np.frombuffer(entropy(8 * size), np.uint64))
    return (Mean(size, mean_D + noise_D * (scale / count)), *means[1:])
