"""A GAN on pictures of digits: a generator and a critic, two players with losses of their own; workers hold the pictures.

    F_m = (grad_G loss_G, grad_C loss_C)          (`gan.py`; Goodfellow et al. 2014, as a game Gidel et al. 2019)

Latent noise and the points of the gradient penalty come from the round's key, as the batch does, so F_m is a function. The
game is not zero-sum, for the penalty is the critic's alone, and not monotone: no rate is promised.

Shapes: N = pictures, H x W = P pixels, B = a batch, L = latent coordinates.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Literal, Unpack, get_args

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.networks.chance import Chance
from saddlebag.algorithms.networks.game import ModuleGame
from saddlebag.algorithms.networks.images.frechet import Frechet
from saddlebag.algorithms.networks.training import Training, TrainingKeys
from saddlebag.algorithms.problems.data.given import require_pictures
from saddlebag.compression.draws import Draws
from saddlebag.errors import ConfigError, NotFiniteError, check_choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from saddlebag.algorithms.networks.images.pictures import Images
    from saddlebag.compression.payload import Vector

__all__ = ["digits_gan"]

Loss = Literal["hinge", "wgan_gp"]

_SAMPLES = 2000  # that the merit takes
_SHOWN = 64


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class DigitsGan(ModuleGame):
    """With samples as pictures, and merits on noise that is the same for all runs.

    Attributes:
        judge: of the generator.
    """

    judge: Judge

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """frechet, critic_gap (see `Judge`), and natural_residual: |F| on one fixed batch of every worker."""
        try:
            values = [self.operator(worker)(z_D, Draws(0, 0, worker)) for worker in range(self.num_workers)]
            residual = float(np.linalg.norm(np.mean(values, axis=0)))
        except NotFiniteError:
            residual = float("nan")
        return {**super().merits(z_D), "natural_residual": residual}

    def pictures(self, z_D: Vector) -> dict[str, npt.NDArray[np.float64]]:
        """Samples, of the same noise at every z, and real pictures beside them."""
        real_NHW = self.judge.held_NHW[:_SHOWN]
        with self.evaluation.at(z_D) as players:
            return {"samples": self.judge.samples(players, _SHOWN).reshape(-1, *real_NHW.shape[1:]), "real": real_NHW}


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """Merits of the players: "frechet", the distance of 2000 samples from held-out pictures in 64 random features
    (`frechet.py`; smaller is better), and "critic_gap", mean C(held-out) - mean C(samples), which is 0 for a lost critic.

    Attributes:
        held_NHW: the held-out pictures.
        latent: L.
        dtype, device: of the networks.
    """  # noqa: D205 (two merits, one sentence)

    held_NHW: npt.NDArray[np.float64]
    latent: int
    dtype: str
    device: str

    @functools.cached_property
    def frechet(self) -> Frechet:
        """The distance of pictures (N, P) from the held-out ones."""
        return Frechet.of(self.held_NHW.reshape(len(self.held_NHW), -1))

    def __call__(self, players: Mapping[str, nn.Module]) -> dict[str, float]:
        import torch

        samples_NP, held_NP = self.samples(players, _SAMPLES), self.held_NHW.reshape(len(self.held_NHW), -1)
        with torch.no_grad():
            on_real, on_fake = (float(players["critic"](self._tensor(x_NP)).mean()) for x_NP in (held_NP, samples_NP))
        return {"frechet": self.frechet(samples_NP), "critic_gap": on_real - on_fake}

    def samples(self, players: Mapping[str, nn.Module], count: int) -> npt.NDArray[np.float64]:
        """Samples (count, P) of fixed noise, the first of which do not depend on the count."""
        import torch

        noise_NL = Chance(0, _SAMPLES, slice(count)).normal(self.latent)
        with torch.no_grad():
            made: npt.NDArray[np.float64] = players["generator"](self._tensor(noise_NL)).double().cpu().numpy()
        return made

    def _tensor(self, x: npt.NDArray[np.float64] | torch.Tensor) -> torch.Tensor:
        import torch

        return torch.as_tensor(x).to(self.device, getattr(torch, self.dtype))


def _losses(
    players: Mapping[str, nn.Module],
    batch: tuple[torch.Tensor, ...],
    chance: Chance,
    *,
    loss: Loss,
    penalty: float,
    latent: int,
) -> dict[str, torch.Tensor]:
    """Each player's own loss on a batch (B, P)."""
    from saddlebag.algorithms.networks.images.gan import critic_loss, generator_loss

    (real_BP,), judge = batch, players["critic"]
    fake_BP = players["generator"](chance.normal(latent).to(real_BP))
    mix_B1 = chance.uniform(1).to(real_BP)
    on_critic = critic_loss(judge, real_BP, fake_BP, mix_B1, loss=loss, penalty=penalty)
    return {"generator": generator_loss(judge, fake_BP), "critic": on_critic}


def digits_gan(
    data: Images | None,
    *,
    num_workers: int,
    size: str = "tiny",
    loss: Loss = "hinge",
    penalty: float = 10.0,
    **keys: Unpack[TrainingKeys],
) -> DigitsGan:
    """The problem; a fifth of the pictures is held out for its merits: frechet, critic_gap, natural_residual.

    Args:
        data: pictures; their labels serve to divide them only.
        num_workers: among whom the others are divided.
        size: of either network, see `gan.SHAPES`.
        loss: "hinge" with R1, or "wgan_gp"; see `critic_loss`.
        penalty: weight of the gradient penalty, 0 for none.
        **keys: see `Training`.

    Raises:
        ConfigError: there are no pictures, or a parameter is out of range.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("digits_gan", data="digits", workers=2, batch_size=8)
        >>> game.tensors[0].name, sorted(game.evaluation.build())
        ('generator.0.weight', ['critic', 'generator'])
    """
    from saddlebag.algorithms.networks.images.gan import SHAPES, players

    data = require_pictures("digits_gan", data)
    check_choice("size", size, SHAPES)
    check_choice("loss", loss, get_args(Loss))
    if not 0 <= penalty < np.inf:
        raise ConfigError(f"penalty must be finite and at least 0, got {penalty}")
    training, shape = Training(**keys), SHAPES[size]
    judging, rows = data.shares(num_workers, split=training.split, seed=training.seed)
    flat_NP = data.images_NHW.reshape(len(data.images_NHW), -1).astype(training.dtype)
    judge = Judge(judging.images_NHW, shape.latent, training.dtype, training.device)
    return DigitsGan(
        build=lambda: players(shape, flat_NP.shape[1], training.seed),
        loss=functools.partial(_losses, loss=loss, penalty=penalty, latent=shape.latent),
        data=tuple((flat_NP[index],) for index in rows),
        **training.computing,
        evaluate=judge,
        judge=judge,
        name=f"digits_gan on {data.name}",
    )


digits_gan.reads = "images"  # type: ignore[attr-defined]
