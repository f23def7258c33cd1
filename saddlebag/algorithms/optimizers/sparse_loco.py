"""SparseLoCo: local steps, a memory that decays, the largest entries of every chunk in two bits, and no momentum outside.

    c_m = C(0.95 e_m + (z - z_m,H));   z <- z - alpha C_s(e + mean c_m)

Sarfi, Thérien, Lidin, Belilovsky 2025. Differs: theirs gathers all c_m at every peer, so that what comes down grows with their
number; here a server averages, and compresses the mean once more with a memory of its own. alpha is 1 (theirs falls to 0.65 and
0.4 late in long runs). See `optimizers/local_rounds.py` and the compressor `chunk_top_k`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from saddlebag.algorithms.optimizers.inner import InnerRule, WalkKeys, inner_of
from saddlebag.algorithms.optimizers.narrow_local import Precision, local_rounds

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Problem
    from saddlebag.algorithms.optimizers.local_rounds import LocalRounds
    from saddlebag.compression import Compressor

__all__ = ["sparse_loco"]


def sparse_loco(
    problem: Problem,
    *,
    up: Compressor,
    down: Compressor,
    step_size: float | None = None,
    decay: float = 0.95,
    local_steps: int = 30,
    local_step_size: float = 0.001,
    local_rule: InnerRule = "adamw",
    local_momentum: float | None = None,
    weight_decay: float = 0.1,
    clip_norm: float = 1.0,
    precision: Precision = "float64",
    **walk: Unpack[WalkKeys],
) -> LocalRounds:
    """Local steps whose change is sent sparse, in two bits, with a decaying memory.

    `up` and `down` are contractive compressors of the workers and the server, `chunk_top_k` where a recipe names none;
    `step_size` is alpha, 1 without; `decay` is that of the workers' memories.
    `local_steps` and all after it are those of `Inner` and `Walk`; in a link (`LinkedProgram`) they are the program's.
    `precision` is that of the states: "float64", or "float32" for networks (`narrow.py`).

    Raises:
        ConfigError: a parameter is out of range, or a compressor does not fit.

    Example:
        >>> from saddlebag.algorithms.problems import quadratic
        >>> from saddlebag.algorithms.registry import make_method
        >>> make_method("sparse_loco", quadratic(None, num_workers=2)).up
        ChunkTopK(chunk=4096, k=64, group=16)
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
    alpha = 1.0 if step_size is None else step_size
    return local_rounds(problem, up=up, down=down, step_size=alpha, decay=decay, inner=inner, precision=precision)


sparse_loco.compressors = {  # type: ignore[attr-defined]  # where a recipe names none
    "up": {"name": "chunk_top_k"},
    "down": {"name": "chunk_top_k"},
}
