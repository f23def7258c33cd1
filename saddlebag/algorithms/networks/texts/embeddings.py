"""Adversarial training where pixels are missing: perturbations of the embeddings that a text enters a network by.

    min_theta mean_i max_{|rho_i| <= eps} loss(theta; E_theta(x_i) + rho_i)          (Miyato et al. 2017, Zhu et al. 2020)

rho_i belongs to a sample and stays with it. theta moves the embeddings E too, so its gradient flows through E + rho, with rho
held.

Shapes: B = a batch, T = tokens, E = coordinates of an embedding.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from saddlebag.algorithms.networks.adversary import Norm, advance, ascend, climb
from saddlebag.algorithms.networks.local import LocalBlock
from saddlebag.algorithms.networks.texts.vocabulary import PAD
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

TextAttack = Literal["none", "pgd", "freelb", "free"]
_STRIDES = 1.5  # radii that all steps of an ascent together can go, in training
_JUDGE_STEPS, _JUDGE_STRIDES = 10, 2.5  # as for pictures (Madry et al. 2018): from any start to any other point of the ball
_FREE_STRIDE = 1.0  # radii of the one step in a round (Shafahi et al. 2019)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingAttack:
    """What is done to the embeddings of a text.

    Attributes:
        attack: "none"; "pgd", the gradient at the last point of an ascent; "freelb", the mean of those on the way;
            "free", a perturbation for each place of a batch that the worker keeps and moves once in each round.
        eps: radius around the embeddings; 0 for no attack.
        norm: of the radius: "l2" of all embeddings of a text together, or "linf".
        steps: of the ascent.
        strides: radii that they go together.
        pad: the number of padding in rows.
    """

    attack: TextAttack = "none"
    eps: float = 0.0
    norm: Norm = "l2"
    steps: int = 3
    strides: float = _STRIDES
    pad: int = PAD

    def __post_init__(self) -> None:
        check_choice("attack", self.attack, get_args(TextAttack))
        check_choice("norm", self.norm, get_args(Norm))
        if not 0 <= self.eps < np.inf or self.steps < 1:
            raise ConfigError(f"eps must be 0 or more and attack_steps at least 1, got {self.eps} and {self.steps}")
        if self.attack != "none" and not self.eps:
            raise ConfigError(f"attack {self.attack!r} needs a radius; set eps above 0")

    def judging(self) -> EmbeddingAttack:
        """PGD-10 within the same ball, whatever training did."""
        return dataclasses.replace(self, attack="pgd", steps=_JUDGE_STEPS, strides=_JUDGE_STRIDES)

    def local(self, length: int, embedding: int) -> LocalBlock | None:
        """The variables that a worker keeps, for "free"."""
        if self.attack != "free":
            return None

        def move(delta: torch.Tensor, slope: torch.Tensor, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
            shown = (batch[0] != self.pad).unsqueeze(-1)  # what a longer text left behind would fill the radius with nothing
            return advance(delta * shown, slope, eps=self.eps, step_size=_FREE_STRIDE * self.eps, norm=self.norm)

        return LocalBlock(shape=lambda arrays: (length, embedding), move=move, by_place=True)

    def loss(
        self,
        value: Callable[[torch.Tensor], torch.Tensor],
        e_BTE: torch.Tensor,
        start: Callable[[], torch.Tensor],
        kept_BTE: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss to differentiate in theta.

        Args:
            value: embeddings (B, T, E) -> mean loss.
            e_BTE: the embeddings, with their dependence on theta.
            start: uniform numbers in [0, 1) of that shape for a random start, 0.5 at places that do not count.
            kept_BTE: of "free", what the worker keeps.
        """
        import torch

        if kept_BTE is not None:
            return value(e_BTE + kept_BTE[:, : e_BTE.shape[1]])
        if self.attack == "none":
            return value(e_BTE)
        if self.attack == "pgd":
            return value(e_BTE + (self.worst(value, e_BTE, start()) - e_BTE).detach())
        fixed_BTE = e_BTE.detach()
        way = climb(lambda point: value(e_BTE + (point - fixed_BTE)), fixed_BTE, **self._keys(start()))
        return torch.stack([loss for loss, _ in way]).mean()

    def worst(self, value: Callable[[torch.Tensor], torch.Tensor], e_BTE: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """The embeddings at the end of the ascent."""
        return ascend(value, e_BTE.detach(), **self._keys(start))

    def _keys(self, start: torch.Tensor) -> dict[str, Any]:
        return {
            "eps": self.eps,
            "norm": self.norm,
            "steps": self.steps,
            "step_size": self.strides * self.eps / self.steps,
            "start": start,
        }
