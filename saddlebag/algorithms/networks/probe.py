"""Whether modules compute a function: the same point and key asked twice, with another point in between, give the same bits."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from saddlebag.algorithms.networks.flat import FlatModules


_RUN = 1 << 16  # coordinates


def require_function(game: str, flat: FlatModules, value: Callable[[torch.Tensor, int], torch.Tensor], *, bits: bool) -> None:
    """Evaluate three times and compare; no vector is kept meanwhile.

    Args:
        game: its name.
        flat: its modules, which keep their parameters.
        value: (point, key) -> the gradient there, as the game computes it.
        bits: whether equal work gives equal bits here, as on CPUs; otherwise only buffers are compared.

    Raises:
        ConfigError: forward writes a buffer, which is named, or something else that the modules or the loss remember
            changes the gradient.
    """
    before = flat.buffers()
    kept = {name: buffer.clone() for name, buffer in before.items()}
    first = _fingerprint(value(flat.point, 0), bits)
    with flat.disturbed():
        value(flat.point, 1)
    again = _fingerprint(value(flat.point, 0), bits)
    for name, buffer in flat.buffers().items():
        if name not in kept or not _same(buffer, kept[name]):
            raise ConfigError(f"{game}: {flat.refusal(name)}")
    if first != again:
        raise ConfigError(
            f"{game}: modules and loss must be a function of the point and the round's key, got two gradients for the same; "
            "they keep something between calls, or draw numbers that do not come from chance"
        )


def _fingerprint(value_D: torch.Tensor, bits: bool) -> bytes:
    """The SHA-256 of a gradient; alike for all NaN and for both zeros. Nothing where bits do not count."""
    hasher = hashlib.sha256()
    for start in range(0, len(value_D), _RUN) if bits else ():
        number_B = value_D[start : start + _RUN] + 0.0  # -0 + 0 is 0
        number_B[number_B != number_B] = math.nan
        hasher.update(number_B.numpy().data)
    return hasher.digest()


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal entry by entry, NaN included."""
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())
