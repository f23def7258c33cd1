"""Adversarial training of a vision transformer on pictures: min over the weights, max over each sample's perturbation.

    min_theta (1/N) sum_i max_{|rho_i| <= eps} loss(theta; x_i + rho_i, y_i)                       (Madry et al. 2018)

The perturbations are blocks of the game that belong to samples: the worker that holds a sample raises its own by projected
ascent, and F_m is the gradient in theta at what it found (Danskin). Only theta's part travels.

Shapes: N = pictures, H x W = pixels, B = a batch.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Literal, Unpack, get_args

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.networks.adversary import Norm, advance, ascend, climb
from saddlebag.algorithms.networks.chance import Chance
from saddlebag.algorithms.networks.game import ModuleGame
from saddlebag.algorithms.networks.local import LocalBlock
from saddlebag.algorithms.networks.training import Training, TrainingKeys
from saddlebag.algorithms.problems.data.shards import split_rows
from saddlebag.compression.draws import Draws
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from saddlebag.compression.payload import Vector

__all__ = ["Attack", "Images", "digits_transformer"]

Attack = Literal["none", "fgsm", "pgd", "freelb", "free"]
_HELD_OUT = 5  # every fifth picture judges
_MOST_JUDGED = 1000
_JUDGE_STEPS, _JUDGE_STRIDE = 20, 0.125  # radii a step: 2.5 in all, as for training (Madry et al. 2018)
_TRAINING_STRIDES = 2.5
_FREE_STRIDE = 1.0  # Shafahi et al. 2019
_FGSM_STRIDE = 1.25  # from a random start (Wong, Rice, Kolter 2020)
_SHOWN = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Grey pictures with labels: (N, H, W) in [0, 1] and int64 (N,); the last `held_out` are published for judging."""

    name: str
    images_NHW: npt.NDArray[np.float64]
    labels_N: npt.NDArray[np.int64]
    held_out: int = 0

    def divide(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rows that judge, at most 1000 of them, and rows to train on: in an order of their own that never changes."""
        count = len(self.labels_N)
        order_N = np.argsort(Draws(0, 0).common(Purpose.SAMPLE).words(count), kind="stable")
        if self.held_out:
            judges_N = order_N >= count - self.held_out
            return order_N[judges_N][:_MOST_JUDGED], order_N[~judges_N]
        return order_N[::_HELD_OUT][:_MOST_JUDGED], np.delete(order_N, slice(None, None, _HELD_OUT))

    def shares(self, num_workers: int, *, split: str, seed: int) -> tuple[Images, list[npt.NDArray[np.int64]]]:
        """The pictures that judge, and the rows of each worker among the others; see `split_rows`."""
        held_N, kept_N = self.divide()
        shards = split_rows(self.labels_N[kept_N].astype(np.float64), num_workers, split=split, seed=seed)
        return Images(self.name, self.images_NHW[held_N], self.labels_N[held_N]), [kept_N[shard] for shard in shards]


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
    """Clean and robust error on held-out pictures, under PGD-20 from a fixed random start."""

    images: Images
    ball: _Ball
    dtype: str
    device: str

    def __call__(self, players: Mapping[str, nn.Module]) -> dict[str, float]:
        import torch
        from torch.nn import functional

        model, (x, y) = players["model"], self._samples(len(self.images.labels_N))
        worst = self._worst(model, x, y)
        with torch.no_grad():
            clean, robust = model(x), model(worst)
        errors = [float((scores.argmax(1) != y).double().mean()) for scores in (robust, clean)]
        return {"robust_error": errors[0], "clean_error": errors[1], "loss": float(functional.cross_entropy(clean, y))}

    def attacked(self, model: nn.Module, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Some pictures before and after."""
        x, y = self._samples(count)
        worst = self._worst(model, x, y)
        return x.double().cpu().numpy(), worst.double().cpu().numpy()

    def _samples(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        x = torch.from_numpy(self.images.images_NHW[:count]).to(self.device, getattr(torch, self.dtype))
        return x, torch.from_numpy(self.images.labels_N[:count]).to(self.device)

    def _worst(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        keys = self.ball.attack(_JUDGE_STEPS, _JUDGE_STRIDE, Chance(0, len(x), slice(None)).uniform(*x.shape[1:]))
        return ascend(lambda point: functional.cross_entropy(model(point), y, reduction="sum"), x, **keys)


def _loss(
    players: Mapping[str, nn.Module],
    batch: tuple[torch.Tensor, ...],
    chance: Chance,
    *,
    attack: Attack,
    ball: _Ball,
    steps: int,
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
    if attack == "fgsm":
        return loss(ascend(loss, x, **ball.attack(1, _FGSM_STRIDE, start)))
    keys = ball.attack(steps, _TRAINING_STRIDES / steps, start)
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


def _check(attack: Attack, norm: Norm, eps: float, steps: int, dropout: float) -> None:
    check_choice("attack", attack, get_args(Attack))
    check_choice("norm", norm, get_args(Norm))
    if not 0 < eps < np.inf or steps < 1 or not 0 <= dropout < 1:
        raise ConfigError(
            f"eps must be positive, attack_steps at least 1 and dropout lie in [0, 1), got {eps}, {steps} and {dropout}"
        )


def _sides(data: Images, patch: int) -> tuple[int, int]:
    """Of a picture, and of a patch."""
    high, wide = data.images_NHW.shape[1:]
    side = patch or max(high // 7, 2)
    if high != wide or high % side:
        raise ConfigError(f"patch must divide the side of square pictures, got {side} for {(high, wide)}")
    return high, side


def digits_transformer(
    data: Images | None,
    *,
    num_workers: int,
    size: str = "tiny",
    patch: int = 0,
    attack: Attack = "pgd",
    eps: float = 0.1,
    norm: Norm = "linf",
    attack_steps: int = 5,
    replays: int = 1,
    batch_size: int = 64,
    dropout: float = 0.0,
    **keys: Unpack[TrainingKeys],
) -> ModuleGame:
    """The problem; a fifth of the pictures is held out for its merits: robust_error (PGD-20), clean_error, loss.

    Args:
        data: pictures with labels.
        num_workers: among whom the others are divided.
        size: of the network, see `vision.SHAPES`.
        patch: side of a patch; 0 for a quarter (8 pixels) to a seventh (28) of the picture's.
        attack: "none", "fgsm", "pgd", "freelb" (the mean over the ascent's points), or "free": every picture's perturbation is
            kept by its worker as a block of the game, and moved once in each round that has the picture.
        eps: radius of the perturbation of a picture, pixels in [0, 1]; also of the attack that judges.
        norm: of the radius, "linf" (each pixel) or "l2" (the picture).
        attack_steps: of "pgd" and "freelb".
        replays: rounds that a batch is kept for (Shafahi et al. 2019, for "free").
        batch_size: of a worker in a round, see `ModuleGame`.
        dropout: after the embedding.
        **keys: see `Training`.

    Raises:
        ConfigError: there are no pictures, or a parameter is out of range.
    """
    from saddlebag.algorithms.networks.images.vision import SHAPES, VisionTransformer

    if data is None:
        raise ConfigError("digits_transformer needs pictures; add a data section, for example source = 'digits'")
    check_choice("size", size, SHAPES)
    _check(attack, norm, eps, attack_steps, dropout)
    pixels, side = _sides(data, patch)
    training = Training(**keys)
    judging, rows = data.shares(num_workers, split=training.split, seed=training.seed)
    ball = _Ball(eps=eps, norm=norm)
    judge = _Judge(judging, ball, training.dtype, training.device)
    return _Robust(
        build=lambda: {"model": VisionTransformer(pixels, patch=side, shape=SHAPES[size], dropout=dropout, seed=training.seed)},
        loss=functools.partial(_loss, attack=attack, ball=ball, steps=attack_steps),
        data=tuple((data.images_NHW[index].astype(training.dtype), data.labels_N[index]) for index in rows),
        batch_size=batch_size,
        local=_kept(ball, _FREE_STRIDE) if attack == "free" else None,
        replays=replays,
        **training.computing,
        evaluate=judge,
        judge=judge,
        name=f"digits_transformer on {data.name}",
    )


digits_transformer.reads = "images"  # type: ignore[attr-defined]
