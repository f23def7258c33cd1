"""MuLoCo: Muon inside, Nesterov's momentum outside.

Thérien, Huang, Rish, Belilovsky 2025, "MuLoCo: Muon is a practical inner optimizer for DiLoCo": DiLoCo (`diloco.py`) with Muon
(`optimizers/muon.py`) for the matrices of layers and AdamW for everything else, and any contractive compressor both ways. Where
workers are programs, Muon is theirs: then this is `diloco`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Unpack

from saddlebag.algorithms.capabilities import LinkedProgram
from saddlebag.algorithms.optimizers.diloco import outer_defaults
from saddlebag.algorithms.optimizers.inner import WalkKeys, inner_of
from saddlebag.algorithms.optimizers.narrow_local import local_rounds

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Problem
    from saddlebag.algorithms.optimizers.local_rounds import LocalRounds
    from saddlebag.compression import Compressor

__all__ = ["muloco"]


def muloco(
    problem: Problem,
    *,
    up: Compressor,
    down: Compressor,
    step_size: float | None = None,
    momentum: float | None = None,
    rounds: int | None = None,
    local_steps: int = 100,
    local_step_size: float = 0.001,
    local_momentum: float = 0.95,
    weight_decay: float = 0.1,
    clip_norm: float = math.inf,
    **walk: Unpack[WalkKeys],
) -> LocalRounds:
    """Muon's steps inside, Nesterov outside.

    `step_size`, `momentum` and `rounds` are as in `diloco`; `local_steps` and all after it are those of `Inner` and
    `Walk`.

    Raises:
        ConfigError: a parameter is out of range, a compressor does not fit, or the problem has no matrices.

    Example:
        >>> from saddlebag.algorithms.problems.linked import LinkedPrograms
        >>> from saddlebag.compression import Identity, Tensor
        >>> import numpy as np
        >>> programs = LinkedPrograms(origin_D=np.zeros(4), tensors=[Tensor("layer", (2, 2))], num_workers=2)
        >>> muloco(programs, up=Identity(), down=Identity(), rounds=200).momentum
        0.9
    """
    alpha, mu = outer_defaults(problem, up, down, rounds)
    linked = isinstance(problem, LinkedProgram)
    inner = inner_of(
        problem,
        "adamw" if linked else "muon",
        steps=local_steps,
        step_size=local_step_size,
        momentum=None if linked else local_momentum,
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
    )
