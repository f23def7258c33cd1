"""Perceptrons on pictures: with a factor for each hidden neuron, and with a mask over frozen weights.

Shapes: B = a batch, P = pixels, F = features, N = hidden neurons of all layers.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence


class Perceptron(nn.Module):
    """Pictures (B, H, W) in [0, 1] to scores (B, classes): linear layers with ReLU between them.

    Args:
        widths: P, the hidden layers', the number of classes.
        seed: of the starting weights, He's (2015).
    """

    def __init__(self, widths: Sequence[int], *, seed: int) -> None:
        super().__init__()
        self.stack = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        generator = torch.Generator().manual_seed(seed)
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=(2.0 / layer.in_features) ** 0.5, generator=generator)
            nn.init.zeros_(layer.bias)

    @property
    def layers(self) -> list[nn.Linear]:
        """From the pictures on."""
        return cast("list[nn.Linear]", list(self.stack))

    def forward(self, x_BHW: torch.Tensor, factor_N: torch.Tensor | None = None) -> torch.Tensor:
        """Scores; `factor_N`, (N,) or (B, N), multiplies the hidden neurons' outputs."""
        x_BF, begin = x_BHW.flatten(1), 0
        for layer in self.layers[:-1]:
            x_BF = functional.relu(layer(x_BF))
            width = x_BF.shape[1]
            if factor_N is not None:
                x_BF = x_BF * factor_N[..., begin : begin + width]
            begin += width
        scores: torch.Tensor = self.layers[-1](x_BF)
        return scores

    def rows(self) -> list[torch.Tensor]:
        """The incoming weights of the hidden layers, (width, fan-in) each."""
        return [layer.weight for layer in self.layers[:-1]]


class MaskedPerceptron(nn.Module):
    """Layers without biases, whose weights are frozen; its parameters are the log-odds.

    Args:
        widths: of the pictures, the hidden layers, the number of classes.
        seed: of the weights.
    """

    def __init__(self, widths: Sequence[int], *, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.odds = nn.ParameterList(nn.Parameter(torch.zeros(b, a)) for a, b in itertools.pairwise(widths))
        for number, (a, b) in enumerate(itertools.pairwise(widths)):
            sign = torch.randint(0, 2, (b, a), generator=generator) * 2.0 - 1.0
            self.register_buffer(f"weight{number}", sign * (4.0 / a) ** 0.5)

    def forward(self, x_BHW: torch.Tensor, *, drawn: bool = False) -> torch.Tensor:
        """Scores, under a mask that is drawn from torch's global generator, or under the one that is likelier than not."""
        x_BF = x_BHW.flatten(1)
        for number, odds in enumerate(self.odds):
            chance = odds.sigmoid()
            bit = (torch.rand_like(chance) < chance if drawn else chance > 0.5).to(chance)
            kept = self.get_buffer(f"weight{number}") * (bit + chance - chance.detach())
            x_BF = functional.linear(x_BF if number == 0 else functional.relu(x_BF), kept)
        return x_BF
