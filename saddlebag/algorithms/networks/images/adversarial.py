"""Adversarial training of a network on pictures: min over the weights, max over each sample's perturbation.

    min_theta (1/N) sum_i max_{|rho_i| <= eps} loss(theta; x_i + rho_i, y_i)                       (Madry et al. 2018)

The perturbations are blocks of the game that belong to samples: the worker that holds a sample raises its own by projected
ascent, and F_m is the gradient in theta at what it found (Danskin). Only theta's part travels.

Shapes: N = pictures, H x W = pixels, B = a batch.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.networks.adversary import Norm, advance, ascend, climb
from saddlebag.algorithms.networks.chance import Chance
from saddlebag.algorithms.networks.game import ModuleGame
from saddlebag.algorithms.networks.local import LocalBlock
from saddlebag.algorithms.networks.training import Training, TrainingKeys
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import nn

    from saddlebag.algorithms.networks.images.pictures import Images
    from saddlebag.compression.payload import Vector

Attack = Literal["none", "fgsm", "pgd", "freelb", "free"]
_STRIDES = 2.5  # radii of all steps of an ascent together, in training and for the judge (Madry et al. 2018)
_FREE_STRIDE = 1.0  # Shafahi et al. 2019
_FGSM_STRIDE = 1.25  # from a random start (Wong, Rice, Kolter 2020)
_SHOWN = 16
_AT_ONCE = 1000  # pictures that the judge attacks together


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Ball:
    """What perturbations of pixels may do.

    Attributes:
        eps: radius around a picture; pixels stay in [0, 1].
        norm: of the radius.
    """

    eps: float
    norm: Norm

    def attack(self, steps: int, stride: float, start: torch.Tensor) -> dict[str, Any]:
        """The keys of `climb` for steps of `stride` radii."""
        step_size = stride * self.eps
        return {**dataclasses.asdict(self), "steps": steps, "step_size": step_size, "start": start, "low": 0.0, "high": 1.0}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Robust(ModuleGame):
    """With pictures of what the attack does to held-out samples."""

    judge: _Judge

    def pictures(self, z_D: Vector) -> dict[str, npt.NDArray[np.float64]]:
        """Held-out pictures, and the same ones attacked."""
        with self.evaluation.at(z_D) as players:
            clean, attacked = self.judge.attacked(players["model"], _SHOWN)
        return {"clean": clean, "attacked": attacked}


@dataclasses.dataclass(frozen=True, eq=False)
class _Judge:
    """Clean and robust error on held-out pictures, under PGD of so many steps from a fixed random start."""

    images: Images
    ball: _Ball
    steps: int
    dtype: str
    device: str

    def __call__(self, players: Mapping[str, nn.Module]) -> dict[str, float]:
        count = len(self.images.labels_N)
        parts = [slice(begin, min(begin + _AT_ONCE, count)) for begin in range(0, count, _AT_ONCE)]
        sums_3 = np.sum([self._judged(players["model"], part) for part in parts], axis=0)
        robust, clean, loss = (float(value) for value in sums_3 / count)
        return {"robust_error": robust, "clean_error": clean, "loss": loss}

    def _judged(self, model: nn.Module, part: slice) -> tuple[float, float, float]:
        """Sums over some pictures: errors under attack, errors, losses."""
        import torch
        from torch.nn import functional

        x, y = self._samples(part)
        worst = self._worst(model, x, y, part)
        with torch.no_grad():
            clean, robust = model(x), model(worst)
        errors = [float((scores.argmax(1) != y).double().sum()) for scores in (robust, clean)]
        return errors[0], errors[1], len(y) * float(functional.cross_entropy(clean, y))

    def attacked(self, model: nn.Module, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Some pictures before and after."""
        part = slice(min(count, len(self.images.labels_N)))
        x, y = self._samples(part)
        worst = self._worst(model, x, y, part)
        return x.double().cpu().numpy(), worst.double().cpu().numpy()

    def _samples(self, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        x = torch.from_numpy(self.images.images_NHW[part]).to(self.device, getattr(torch, self.dtype))
        return x, torch.from_numpy(self.images.labels_N[part]).to(self.device)

    def _worst(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, part: slice) -> torch.Tensor:
        from torch.nn import functional

        chance = Chance(0, len(self.images.labels_N), part)
        keys = self.ball.attack(self.steps, _STRIDES / self.steps, chance.uniform(*x.shape[1:]))
        return ascend(lambda point: functional.cross_entropy(model(point), y, reduction="sum"), x, **keys)


def _loss(
    players: Mapping[str, nn.Module],
    batch: tuple[torch.Tensor, ...],
    chance: Chance,
    *,
    attack: Attack,
    ball: _Ball,
    steps: int,
    warmup: int,
) -> torch.Tensor:
    """The mean loss at the worst perturbations found; for "freelb" its mean over the points on the way (Zhu et al. 2020)."""
    import torch
    from torch.nn import functional

    model, (x, y) = players["model"], batch[:2]

    def loss(point: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(model(point), y)

    if attack == "none":
        return loss(x)
    if attack == "free":
        return loss(x + batch[2])
    start = chance.uniform(*x.shape[1:])
    ball = dataclasses.replace(ball, eps=ball.eps * min(1.0, (chance.round + 1) / max(warmup, 1)))
    if attack == "fgsm":
        return loss(ascend(loss, x, **ball.attack(1, _FGSM_STRIDE, start)))
    keys = ball.attack(steps, _STRIDES / steps, start)
    if attack == "pgd":
        return loss(ascend(loss, x, **keys))
    return torch.stack([value for value, _ in climb(loss, x, **keys)]).mean()


def _kept(ball: _Ball, stride: float) -> LocalBlock:
    """Perturbations that workers keep, each moved once in a round that has its picture."""

    def move(delta: torch.Tensor, slope: torch.Tensor, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        x = batch[0]
        after = advance(delta, slope, eps=ball.eps, step_size=stride * ball.eps, norm=ball.norm)
        return (x + after).clamp(0.0, 1.0) - x

    return LocalBlock(shape=lambda arrays: tuple(arrays[0].shape[1:]), move=move)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialTraining(Training):
    """Keys of a recipe, with their defaults.

    Attributes:
        attack: "none", "fgsm", "pgd", "freelb" (the mean over the ascent's points), or "free": every picture's perturbation is
            kept by its worker as a block of the game, and moved once in each round that has the picture.
        eps: radius of the perturbation of a picture, pixels in [0, 1]; also of the attack that judges.
        norm: of the radius, "linf" (each pixel) or "l2" (the picture).
        attack_steps: of "pgd" and "freelb".
        eps_warmup: rounds in which the radius of training grows to `eps`: from random weights a large one can end training at
            scores that do not depend on the picture.
        replays: rounds that a batch is kept for (Shafahi et al. 2019, for "free").
        judge_steps: of PGD from a random start, which judges whatever training did.
        judged: held-out pictures that judge, at most.
    """

    attack: Attack = "pgd"
    eps: float = 0.1
    norm: Norm = "linf"
    attack_steps: int = 5
    eps_warmup: int = 0
    replays: int = 1
    judge_steps: int = 20
    judged: int = 1000

    def __post_init__(self) -> None:
        check_choice("attack", self.attack, get_args(Attack))
        check_choice("norm", self.norm, get_args(Norm))
        if not 0 < self.eps < np.inf:
            raise ConfigError(f"eps must be positive and finite, got {self.eps}")
        for name in ("attack_steps", "judge_steps", "judged"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")

        if self.eps_warmup < 0 or (self.eps_warmup and self.attack in ("none", "free")):
            raise ConfigError(
                f"eps_warmup must be at least 0, and is for attacks that begin anew in every round, got {self.eps_warmup}"
            )

    def game(self, name: str, model: Callable[[], nn.Module], data: Images, *, num_workers: int) -> ModuleGame:
        """The problem; held-out pictures give its merits: robust_error, clean_error, loss.

        Args:
            name: for people.
            model: makes the network, (B, H, W) in [0, 1] to scores (B, classes).
            data: pictures with labels.
            num_workers: among whom those that do not judge are divided.
        """
        judging, rows = data.shares(num_workers, split=self.split, seed=self.seed, judged=self.judged)
        ball = _Ball(eps=self.eps, norm=self.norm)
        judge = _Judge(judging, ball, self.judge_steps, self.dtype, self.device)
        return _Robust(
            build=lambda: {"model": model()},
            loss=functools.partial(_loss, attack=self.attack, ball=ball, steps=self.attack_steps, warmup=self.eps_warmup),
            data=tuple((data.images_NHW[index].astype(self.dtype), data.labels_N[index]) for index in rows),
            local=_kept(ball, _FREE_STRIDE) if self.attack == "free" else None,
            replays=self.replays,
            **self.computing,
            evaluate=judge,
            judge=judge,
            name=f"{name} on {data.name}",
        )


class AdversarialKeys(TrainingKeys, total=False):
    """`AdversarialTraining` as keys."""

    attack: Annotated[Attack, AdversarialTraining]
    eps: Annotated[float, AdversarialTraining]
    norm: Annotated[Norm, AdversarialTraining]
    attack_steps: Annotated[int, AdversarialTraining]
    eps_warmup: Annotated[int, AdversarialTraining]
    replays: Annotated[int, AdversarialTraining]
    judge_steps: Annotated[int, AdversarialTraining]
    judged: Annotated[int, AdversarialTraining]
