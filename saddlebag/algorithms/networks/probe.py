"""Whether modules compute a function: the same point and key asked twice, with another point in between, give the same bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from saddlebag.algorithms.networks.flat import FlatModules


def require_function(game: str, flat: FlatModules, value: Callable[[torch.Tensor, int], torch.Tensor], *, bits: bool) -> None:
    """Evaluate three times and compare.

    Args:
        game: its name.
        flat: its modules, which keep their parameters.
        value: (point, key) -> the gradient there, as the game computes it.
        bits: whether equal work gives equal bits here, as on CPUs; otherwise only buffers are compared.

    Raises:
        ConfigError: forward writes a buffer, which is named, or something else that the modules or the loss remember
            changes the gradient.
    """
    start_D, before = flat.point(), flat.buffers()
    kept = {name: buffer.clone() for name, buffer in before.items()}
    first_D = value(start_D, 0)
    value(start_D + 0.01, 1)
    again_D = value(start_D, 0)
    flat.load(start_D)
    for name, buffer in flat.buffers().items():
        if name not in kept or not _same(buffer, kept[name]):
            raise ConfigError(f"{game}: {flat.refusal(name)}")
    if bits and not _same(first_D, again_D):
        raise ConfigError(
            f"{game}: modules and loss must be a function of the point and the round's key, got two gradients for the same; "
            "they keep something between calls, or draw numbers that do not come from chance"
        )


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal entry by entry, NaN included."""
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())
