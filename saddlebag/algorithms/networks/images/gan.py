"""A generator and a critic of small pictures, and the losses of their game: hinge and Wasserstein, with gradient penalties.

Shapes: N = pictures, P = pixels, L = latent coordinates.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class GanShape:
    """Latent coordinates; width and number of the hidden layers of either network."""

    latent: int
    width: int
    depth: int


SHAPES = {"tiny": GanShape(16, 128, 2), "small": GanShape(32, 256, 3), "large": GanShape(128, 1024, 4)}
"""By the key `size`: on 8 x 8 pixels 52 thousand, 315 thousand and 6.6 million parameters, on 28 x 28 more."""

_TINY = 1e-12  # under the root, whose derivative at 0 does not exist


def _layers(sizes: list[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.SiLU()] if number else []
        layers.append(nn.Linear(inputs, outputs))
    return layers


def players(shape: GanShape, pixels: int, seed: int) -> dict[str, nn.Module]:
    """Both networks; weights normal with variance 1 / inputs, biases 0, from the seed."""
    made: dict[str, nn.Module] = {"generator": generator(shape, pixels), "critic": critic(shape, pixels)}
    chance = torch.Generator().manual_seed(seed)
    for module in made.values():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5, generator=chance)
            else:
                nn.init.zeros_(parameter)
    return made


def generator(shape: GanShape, pixels: int) -> nn.Sequential:
    """(N, L) -> (N, P) in (0, 1): hidden layers with SiLU, which is smooth, as extragradient methods ask."""
    return nn.Sequential(*_layers([shape.latent, *[shape.width] * shape.depth, pixels]), nn.Sigmoid())


def critic(shape: GanShape, pixels: int) -> nn.Sequential:
    """(N, P) in [0, 1] -> (N, 1): pixels shifted to [-1/2, 1/2] go through hidden layers with SiLU."""
    return nn.Sequential(_Shift(), *_layers([pixels, *[shape.width] * shape.depth, 1]))


class _Shift(nn.Module):
    """x - 1/2."""

    def forward(self, x_NP: torch.Tensor) -> torch.Tensor:
        """Centre the pixels."""
        return x_NP - 0.5


def gradient_norms(judge: Callable[[torch.Tensor], torch.Tensor], x_NP: torch.Tensor) -> torch.Tensor:
    """|grad_x D(x)| of each picture, (N,), differentiable with respect to the critic's parameters."""
    x_NP = x_NP.detach().requires_grad_()
    (slope_NP,) = torch.autograd.grad(judge(x_NP).sum(), x_NP, create_graph=True)
    return (slope_NP.square().sum(1) + _TINY).sqrt()


def critic_loss(
    judge: Callable[[torch.Tensor], torch.Tensor],
    real_NP: torch.Tensor,
    fake_NP: torch.Tensor,
    mix_N1: torch.Tensor,
    *,
    loss: str,
    penalty: float,
) -> torch.Tensor:
    """What the critic minimises; no gradient flows to the generator.

    "wgan_gp": mean D(G) - mean D(x) + penalty mean (|grad D(u)| - 1)^2, with u on the segments between pictures and samples
    that `mix_N1` in [0, 1] picks (Gulrajani et al. 2017). "hinge": mean (1 - D(x))_+ + mean (1 + D(G))_+ (Lim and Ye 2017)
    + penalty / 2 mean |grad D(x)|^2 at the pictures (R1, Mescheder et al. 2018, without which simultaneous steps orbit).
    """
    fake_NP = fake_NP.detach()
    on_real_N1, on_fake_N1 = judge(real_NP), judge(fake_NP)
    if loss == "wgan_gp":
        value = on_fake_N1.mean() - on_real_N1.mean()
        if penalty:
            between_NP = real_NP + mix_N1 * (fake_NP - real_NP)
            value = value + penalty * (gradient_norms(judge, between_NP) - 1.0).square().mean()
        return value
    value = torch.relu(1.0 - on_real_N1).mean() + torch.relu(1.0 + on_fake_N1).mean()
    if penalty:
        value = value + 0.5 * penalty * gradient_norms(judge, real_NP).square().mean()
    return value


def generator_loss(judge: Callable[[torch.Tensor], torch.Tensor], fake_NP: torch.Tensor) -> torch.Tensor:
    """What the generator minimises, for either loss: - mean D(G)."""
    return -judge(fake_NP).mean()
