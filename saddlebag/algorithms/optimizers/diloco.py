"""DiLoCo: AdamW inside, Nesterov's momentum outside.

    Delta = mean_m (z - z_m,H);   m <- mu m + Delta;   z <- z - alpha (Delta + mu m)

Douillard et al. 2023, Algorithm 1. Its alpha = 0.7 and mu = 0.9 are for hundreds of rounds. Where no numbers are given,
`outer_defaults` takes what was measured to be sound: momentum needs rounds to pay, and on top of a memory that holds most of
what was computed it diverges. Compressed both ways with memories (`optimizers/local_rounds.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from saddlebag.algorithms.optimizers.inner import InnerRule, WalkKeys, inner_of
from saddlebag.algorithms.optimizers.narrow_local import Precision, local_rounds
from saddlebag.compression import Contractive
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Problem
    from saddlebag.algorithms.optimizers.local_rounds import LocalRounds
    from saddlebag.compression import Compressor

__all__ = ["diloco"]

_SPARSE = 0.2  # alpha of a compressor that leaves most of a vector to its memory
_FEW, _MANY = 16, 100  # rounds


def outer_defaults(problem: Problem, up: Compressor, down: Compressor, rounds: int | None) -> tuple[float, float]:
    """(alpha, mu) that are sound for a number of rounds and these compressors.

    With a sparse compressor, or below 16 rounds, (1, 0); below 100, and where nobody says how many, (0.7, 0.6); from there on
    the paper's (0.7, 0.9).
    """
    if rounds is not None and rounds < 1:
        raise ConfigError(f"rounds must be at least 1, got {rounds}")
    p = problem.dimension
    sparse = any(isinstance(each, Contractive) and each.alpha(p) < _SPARSE for each in (up, down))
    if sparse or (rounds is not None and rounds < _FEW):
        return 1.0, 0.0
    return 0.7, 0.9 if rounds is not None and rounds >= _MANY else 0.6


def diloco(
    problem: Problem,
    *,
    up: Compressor,
    down: Compressor,
    step_size: float | None = None,
    momentum: float | None = None,
    rounds: int | None = None,
    local_steps: int = 100,
    local_step_size: float = 0.001,
    local_rule: InnerRule = "adamw",
    local_momentum: float | None = None,
    weight_decay: float = 0.1,
    clip_norm: float = 1.0,
    precision: Precision = "float64",
    **walk: Unpack[WalkKeys],
) -> LocalRounds:
    """Local steps inside, Nesterov outside.

    `up` and `down` are contractive compressors of the workers and the server; `step_size` and `momentum` are alpha and mu, as
    `outer_defaults` has them for about so many `rounds`; given numbers are obeyed.
    `local_steps` and all after it are those of `Inner` and `Walk`; in a link (`LinkedProgram`) they are the program's.
    `precision` is that of the states: "float64", or "float32" for networks (`narrow.py`).

    Raises:
        ConfigError: a parameter is out of range, or a compressor does not fit.

    Example:
        >>> from saddlebag.algorithms.problems import quadratic
        >>> from saddlebag.compression import Identity, TopK
        >>> problem, full, few = quadratic(None, num_workers=2), Identity(), TopK(k=1)
        >>> method = diloco(problem, up=full, down=full, rounds=500)
        >>> method.step_size, method.momentum
        (0.7, 0.9)
        >>> diloco(problem, up=few, down=few, rounds=500).momentum
        0.0
    """
    alpha, mu = outer_defaults(problem, up, down, rounds)
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
        problem,
        up=up,
        down=down,
        step_size=alpha if step_size is None else step_size,
        momentum=mu if momentum is None else momentum,
        inner=inner,
        precision=precision,
    )
