"""A network of frozen random weights under a mask: what is trained is the odds of the mask's bits.

    min over z   E loss(w * b; x),   b_j = 1 with probability 1 / (1 + exp(-z_j)), else 0

w is drawn from the seed, +-sqrt(4 / fan-in), of which a half is there at the start, and never sent. A batch has one mask;
slopes are those of the straight-through estimate. At the end the mask is what is more likely than not: a bit for each weight.

Sources: Zhou, Lan, Liu, Yosinski 2019 (drawn masks); Ramanujan et al. 2020 (weights of one size).

Shapes: D = weights = bits, B = a batch.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from saddlebag.algorithms.networks.game import ModuleGame
from saddlebag.algorithms.networks.pruning.judge import Judge, check_hidden
from saddlebag.algorithms.networks.training import Training, TrainingKeys
from saddlebag.algorithms.problems.data.given import require_pictures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import torch
    from torch import nn

    from saddlebag.algorithms.networks.chance import Chance
    from saddlebag.algorithms.networks.images.pictures import Images
    from saddlebag.compression.payload import Vector

__all__ = ["masked_network"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MaskedNetwork(ModuleGame):
    """The problem; z are log-odds."""

    def mask(self, z_D: Vector) -> npt.NDArray[np.bool_]:
        """The bits that are likelier than not."""
        return np.asarray(z_D > 0.0)

    def merits(self, z_D: Vector) -> dict[str, float]:
        """Error and loss on held-out pictures, the share of weights that the mask takes away, bits that a drawn mask needs."""
        chance_D = np.clip(1.0 / (1.0 + np.exp(-z_D)), 1e-12, 1.0 - 1e-12)
        bits = -(chance_D * np.log2(chance_D) + (1.0 - chance_D) * np.log2(1.0 - chance_D)).mean()
        gone = 1.0 - float(self.mask(z_D).mean())
        return {**super().merits(z_D), "sparsity": gone, "bits": float(bits)}


def _loss(players: Mapping[str, nn.Module], batch: tuple[torch.Tensor, ...], chance: Chance) -> torch.Tensor:
    from torch.nn import functional

    del chance  # masks are of a batch, not of a sample: torch's generator is seeded from the key
    x, y = batch
    return functional.cross_entropy(players["network"](x, drawn=True), y)


def _scores(players: Mapping[str, nn.Module], x: torch.Tensor) -> torch.Tensor:
    scores: torch.Tensor = players["network"](x)
    return scores


def masked_network(
    data: Images | None,
    *,
    num_workers: int,
    hidden: Sequence[int] = (64, 32),
    **keys: Unpack[TrainingKeys],
) -> MaskedNetwork:
    """The problem; a fifth of the pictures is held out for its merits: error, loss, sparsity, bits.

    Args:
        data: pictures with labels.
        num_workers: among whom the others are divided.
        hidden: neurons of each hidden layer.
        **keys: see `Training`.

    Raises:
        ConfigError: there are no pictures, or a parameter is out of range.

    Example:
        >>> import saddlebag as sb
        >>> sb.make_problem("masked_network", data="digits", workers=2, hidden=[16]).dimension
        1184
    """
    data = require_pictures("masked_network", data)
    check_hidden(hidden)
    training: Any = Training(**keys)
    judging, rows = data.shares(num_workers, split=training.split, seed=training.seed)
    widths = (data.images_NHW[0].size, *hidden, int(data.labels_N.max()) + 1)
    return MaskedNetwork(
        build=functools.partial(_build, widths, training.seed),
        loss=_loss,
        data=tuple((data.images_NHW[index].astype(training.dtype), data.labels_N[index]) for index in rows),
        **training.computing,
        evaluate=Judge(judging, _scores, training.dtype, training.device),
        name=f"masked_network on {data.name}",
    )


def _build(widths: Sequence[int], seed: int) -> dict[str, nn.Module]:
    from saddlebag.algorithms.networks.pruning.perceptron import MaskedPerceptron

    return {"network": MaskedPerceptron(widths, seed=seed)}


masked_network.reads = "images"  # type: ignore[attr-defined]
