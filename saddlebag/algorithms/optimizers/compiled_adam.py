"""AdamW's step compiled: one pass over memory where numpy takes fourteen over a block in the cache; the same bits.

Imported by `rules.py` where numba is installed and vectors are long.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from saddlebag.compression.kernels.jit import jit


@jit
def advance(
    z_D: Any,
    first_D: Any,
    second_D: Any,
    gradient_D: Any,
    decays_D: Any,
    new_z_D: Any,
    new_first_D: Any,
    new_second_D: Any,
    betas: Any,
    eps: Any,
    corrections: Any,
    step_size: Any,
    keep: Any,
) -> None:
    """Fill the new vectors from those before and the gradient.

    `decays_D` says what decays, nothing in it that everything does; decaying coordinates are multiplied by `keep`;
    `corrections` are 1 / (1 - beta1^n) and 1 / sqrt(1 - beta2^n) in the n-th step.
    """
    beta1, beta2 = betas
    correct1, correct2 = corrections
    rest1, rest2, all_decay = 1.0 - beta1, 1.0 - beta2, len(decays_D) == 0
    for i in range(len(z_D)):
        g = gradient_D[i]
        first = first_D[i] * beta1 + rest1 * g
        second = second_D[i] * beta2 + g * g * rest2
        change = first / (math.sqrt(second) * correct2 + eps) * correct1 * step_size
        kept = keep if all_decay or decays_D[i] else 1.0
        new_first_D[i] = first
        new_second_D[i] = second
        new_z_D[i] = z_D[i] * kept - change


@jit
def advance_narrow(
    high_B: Any,
    rest_B: Any,
    first_B: Any,
    second_B: Any,
    gradient_B: Any,
    decays_B: Any,
    numbers: Any,
) -> None:
    """The same step of narrow states (`narrow.py`), in place; `numbers` are float32, the last one step times decay."""
    beta1, beta2, rest1, rest2, eps, correct1, correct2, step_size, rate = numbers
    all_decay, zero = len(decays_B) == 0, np.float32(0.0)
    for i in range(len(high_B)):
        g = gradient_B[i]
        first = first_B[i] * beta1 + rest1 * g
        second = second_B[i] * beta2 + g * g * rest2
        change = first / (np.sqrt(second) * correct2 + eps) * correct1 * step_size
        high = high_B[i]
        low = np.uint32(np.uint32(rest_B[i]) << np.uint32(16)).view(np.float32)
        low = low - (change + (rate if all_decay or decays_B[i] else zero) * high)
        after = high + low
        moved = after - high
        bits = np.float32((high - (after - moved)) + (low - moved)).view(np.uint32)
        up = np.uint32(np.uint32(bits + np.uint32(0x7FFF)) + np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1)))
        first_B[i] = first
        second_B[i] = second
        high_B[i] = after
        rest_B[i] = np.uint16(np.uint32(up >> np.uint32(16)))
