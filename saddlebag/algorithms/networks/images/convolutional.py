"""A small convolutional network (Wong, Rice, Kolter 2020, for MNIST): two convolutions of stride 2, two dense layers.

Shapes: B = a batch, H x W = pixels, C = channels.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn


@dataclasses.dataclass(frozen=True)
class ConvolutionalShape:
    """Channels of the first convolution, of which the second has twice as many, and units of the dense layer."""

    channels: int
    units: int


SHAPES = {"tiny": ConvolutionalShape(4, 32), "small": ConvolutionalShape(16, 100), "base": ConvolutionalShape(32, 512)}
"""By the key `size`: on 28 x 28 pixels 13, 166 and 1,645 thousand parameters."""
_SIDE, _STRIDE = 4, 2  # of a convolution, which halves the pixels


class _Channel(nn.Module):
    """(B, H, W) -> (B, 1, H, W)."""

    def forward(self, x_BHW: torch.Tensor) -> torch.Tensor:
        return x_BHW.unsqueeze(1)


def convolutional(high: int, wide: int, *, classes: int = 10, shape: ConvolutionalShape, seed: int = 0) -> nn.Sequential:
    """Grey pictures (B, H, W) in [0, 1] to scores (B, classes).

    Weights are normal with variance 2 / inputs (He et al. 2015), biases 0.

    Args:
        high: H, at least 4.
        wide: W, at least 4.
        classes: number of scores.
        shape: channels and units.
        seed: of the starting weights.

    Example:
        >>> convolutional(28, 28, shape=SHAPES["tiny"])(torch.zeros(2, 28, 28)).shape
        torch.Size([2, 10])
    """
    first, second = shape.channels, 2 * shape.channels
    network = nn.Sequential(
        _Channel(),
        nn.Conv2d(1, first, _SIDE, stride=_STRIDE, padding=1),
        nn.ReLU(),
        nn.Conv2d(first, second, _SIDE, stride=_STRIDE, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * (high // 2 // 2) * (wide // 2 // 2), shape.units),
        nn.ReLU(),
        nn.Linear(shape.units, classes),
    )
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5, generator=generator)
        else:
            nn.init.zeros_(parameter)
    return network
