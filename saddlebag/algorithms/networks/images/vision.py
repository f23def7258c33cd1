"""A small vision transformer (Dosovitskiy et al. 2021): patches, pre-norm blocks, mean pooling; no state but its weights.

Shapes: B = a batch, H x W = pixels, T = patches, C = width.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class VisionShape:
    """Width, number of blocks and attention heads."""

    width: int
    depth: int
    heads: int


SHAPES = {"tiny": VisionShape(32, 2, 4), "small": VisionShape(64, 4, 4), "base": VisionShape(192, 6, 6)}
"""By the key `size`: about 18 thousand, 200 thousand and 2.7 million parameters."""


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mix_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.attention_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mix_in, self.mix_out = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        batch, patches, width = x_BTC.shape
        packed = self.query_key_value(self.attention_norm(x_BTC))
        query, key, value = packed.view(batch, patches, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        x_BTC = x_BTC + self.attention_out(mixed.transpose(1, 2).reshape(batch, patches, width))
        change: torch.Tensor = self.mix_out(functional.gelu(self.mix_in(self.mix_norm(x_BTC))))
        return x_BTC + change


class VisionTransformer(nn.Module):
    """Grey pictures (B, H, W) in [0, 1] to scores (B, classes).

    Args:
        pixels: H = W, a multiple of `patch`.
        patch: its side.
        classes: number of scores.
        shape: width, depth, heads.
        dropout: after the embedding, probability.
        seed: of the starting weights.
    """

    def __init__(
        self, pixels: int, *, patch: int, classes: int = 10, shape: VisionShape, dropout: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(patch * patch, shape.width)
        self.position = nn.Parameter(torch.zeros((pixels // patch) ** 2, shape.width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(shape.width, shape.heads) for _ in range(shape.depth))
        self.norm, self.head = nn.LayerNorm(shape.width), nn.Linear(shape.width, classes)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                scale = 0.02 if name == "position" else parameter.shape[1] ** -0.5
                nn.init.normal_(parameter, std=scale, generator=generator)
            elif not name.endswith("norm.weight"):
                nn.init.zeros_(parameter)

    def forward(self, x_BHW: torch.Tensor) -> torch.Tensor:
        patches_BTP = functional.unfold(x_BHW.unsqueeze(1), self.patch, stride=self.patch).transpose(1, 2)
        x_BTC = self.dropout(self.embed(2.0 * patches_BTP - 1.0) + self.position)
        for block in self.blocks:
            x_BTC = block(x_BTC)
        scores: torch.Tensor = self.head(self.norm(x_BTC).mean(1))
        return scores
