"""Local steps, then the average of the workers' points: FedAvg, local SGD.

    z <- z + alpha mean (z_m,H - z),  alpha = 1

McMahan, Moore, Ramage, Hampson, Agüera y Arcas 2017, Algorithm 1, with all workers in every round and equal weights; Stich
2019. Nothing has momentum unless asked for: with H = 1 and plain steps this is the step of data-parallel SGD. Compressed both
ways with memories (`optimizers/local_rounds.py`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Unpack

from saddlebag.algorithms.optimizers.inner import InnerRule, WalkKeys, inner_of
from saddlebag.algorithms.optimizers.narrow_local import Precision, local_rounds

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Problem
    from saddlebag.algorithms.optimizers.local_rounds import LocalRounds
    from saddlebag.compression import Compressor

__all__ = ["local_average"]


def local_average(
    problem: Problem,
    *,
    up: Compressor,
    down: Compressor,
    step_size: float | None = None,
    local_steps: int = 10,
    local_step_size: float = 0.01,
    local_rule: InnerRule = "sgd",
    local_momentum: float | None = None,
    weight_decay: float = 0.0,
    clip_norm: float = math.inf,
    precision: Precision = "float64",
    **walk: Unpack[WalkKeys],
) -> LocalRounds:
    """Average the points to which workers' own steps lead.

    `up` and `down` are contractive compressors of the workers and the server; `step_size` is alpha, 1 without.
    `local_steps` and all after it are those of `Inner` and `Walk`; in a link (`LinkedProgram`) they are the program's.
    `precision` is that of the states: "float64", or "float32" for networks (`narrow.py`).

    Raises:
        ConfigError: a parameter is out of range, or a compressor does not fit.

    Example:
        >>> from saddlebag.algorithms.problems import quadratic
        >>> from saddlebag.compression import Identity
        >>> local_average(quadratic(None, num_workers=2), up=Identity(), down=Identity()).momentum
        0.0
    """
    inner = inner_of(
        problem,
        local_rule,
        steps=local_steps,
        step_size=local_step_size,
        momentum=local_momentum,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        **walk,
    )
    return local_rounds(
        problem, up=up, down=down, step_size=1.0 if step_size is None else step_size, inner=inner, precision=precision
    )
