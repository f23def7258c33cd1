"""Pruning as a game: every hidden neuron takes part with a probability of its own, and leaves when it does not pay.

The players are the weights theta and the neurons, of which each chooses s_i in [0, 1], the chance to take part in a sample:

    weights      min over theta   L(theta, s) = E loss(theta; x, b),   b_i = 1 with probability s_i, else 0
    neuron i     min over s_i     L(theta, s) + price w_i s_i + redundancy / N sum over j != i in its layer of s_i s_j r_ij^2

w_i is the neuron's share of the weights, so `price` is what the whole network costs, in units of the loss; r_ij is the cosine
of two neurons' incoming weights, for which the weights do not pay. The mean over b makes L linear in each s_i, and there is no
way round the price: larger weights would make up for a factor s_i, not for a chance. Slopes in s are those of the
straight-through estimate (Bengio, Leonard, Courville 2013), exact where the loss is linear in b.

F = (grad_theta L, the neurons' slopes), and the prox is the projection of s on the box. Who is at s_i = 0 has left: it is
asked no more, so its slope is 0, and so are its weights'. `active` gives the coordinates of those that are there; under the
method `active_set` nothing else travels.

Source: "Pruning as a Game" (arXiv 2512.22106, 2025), neurons as players who pay for size and redundancy and leave at the
equilibrium. The payoffs, chances instead of factors among them, are ours; no equilibrium is proven to be reached.

Shapes: N = hidden neurons, D = weights, biases and chances, B = a batch, P = pixels.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from saddlebag.algorithms.networks.game import ModuleGame
from saddlebag.algorithms.networks.pruning.judge import Judge, Owners, check_hidden
from saddlebag.algorithms.networks.training import Training, TrainingKeys
from saddlebag.algorithms.problems.data.given import require_pictures
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import nn

    from saddlebag.algorithms.networks.chance import Chance
    from saddlebag.algorithms.networks.images.pictures import Images
    from saddlebag.compression.payload import Index, Vector

__all__ = ["pruning_game"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PruningGame(ModuleGame):
    """The game; its vector is (theta, s).

    Attributes:
        owners: which weights are whose neurons'.
        speed: of the chances, which stand in z divided by it.
    """

    owners: Owners
    speed: float

    @property
    def unconstrained(self) -> bool:
        return False

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        """The projection of the chances on [0, 1]."""
        del step_size
        z_D = v_D.copy()
        np.clip(z_D[self.owners.num_weights :], 0.0, 1.0 / self.speed, out=z_D[self.owners.num_weights :])
        return z_D

    def active(self, z_D: Vector) -> Index:
        """Chances of the neurons that have not left, and the weights between such."""
        return np.flatnonzero(self.owners.present(z_D[self.owners.num_weights :] > 0.0))

    def merits(self, z_D: Vector) -> dict[str, float]:
        """Error and loss on held-out pictures with chances as factors, the share of weights that left, neurons that stay."""
        here_N = z_D[self.owners.num_weights :] > 0.0
        gone = 1.0 - float(self.owners.present(here_N)[: self.owners.num_weights].mean())
        return {**super().merits(z_D), "sparsity": gone, "neurons": float(here_N.sum())}


def _loss(
    players: Mapping[str, nn.Module],
    batch: tuple[torch.Tensor, ...],
    chance: Chance,
    *,
    owners: Owners,
    speed: float,
    price: float,
    redundancy: float,
) -> torch.Tensor:
    """One number whose slopes are everybody's: theta has no part in the neurons' costs."""
    import torch
    from torch.nn import functional

    network: Any = players["network"]
    (parameter,), (x, y) = players["neurons"].parameters(), batch
    share_N = speed * torch.where(parameter > 0, parameter, parameter.detach())  # who has left is asked no more
    taking_BN = (chance.uniform(len(share_N)).to(share_N) < share_N).to(share_N) + share_N - share_N.detach()
    loss: torch.Tensor = functional.cross_entropy(network(x, taking_BN), y)
    loss = loss + price * (torch.from_numpy(owners.share_N).to(share_N) * share_N).sum()
    begin = 0
    for row_NF in network.rows() if redundancy else ():
        own_N = share_N[begin : begin + len(row_NF)]
        begin += len(row_NF)
        unit_NF = functional.normalize(row_NF.detach(), dim=1)
        alike_NN = (unit_NF @ unit_NF.T).square().fill_diagonal_(0.0)
        loss = loss + 0.5 * redundancy / len(share_N) * (own_N @ (alike_NN @ own_N))
    return loss


def _build(widths: Sequence[int], speed: float, seed: int) -> dict[str, nn.Module]:
    import torch
    from torch import nn

    from saddlebag.algorithms.networks.pruning.perceptron import Perceptron

    neurons = nn.ParameterList([torch.full((sum(widths[1:-1]),), 1.0 / speed)])
    return {"network": Perceptron(widths, seed=seed), "neurons": neurons}


def _scores(players: Mapping[str, nn.Module], x: torch.Tensor, *, speed: float) -> torch.Tensor:
    (share_N,) = players["neurons"].parameters()
    scores: torch.Tensor = players["network"](x, speed * share_N)
    return scores


def pruning_game(
    data: Images | None,
    *,
    num_workers: int,
    hidden: Sequence[int] = (64, 32),
    price: float = 1.0,
    redundancy: float = 0.0,
    speed: float = 3.0,
    **keys: Unpack[TrainingKeys],
) -> PruningGame:
    """The problem; a fifth of the pictures is held out for its merits: error, loss, sparsity, neurons.

    Args:
        data: pictures with labels.
        num_workers: among whom the others are divided.
        hidden: neurons of each hidden layer.
        price: what the whole network costs, in units of the loss; 0 prunes nothing but what hurts.
        redundancy: what a neuron pays for being like others of its layer.
        speed: how many times faster chances move than weights, under a rule such as Adam's.
        **keys: see `Training`.

    Raises:
        ConfigError: there are no pictures, or a parameter is out of range.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("pruning_game", data="digits", workers=2, hidden=[16, 8])
        >>> game.merits(game.start())["neurons"]
        24.0
    """
    data = require_pictures("pruning_game", data)
    for name, value in (("price", price), ("redundancy", redundancy)):
        if not 0 <= value < np.inf:
            raise ConfigError(f"{name} must be finite and at least 0, got {value}")
    if not 0 < speed < np.inf:
        raise ConfigError(f"speed must be a positive number, got {speed}")
    check_hidden(hidden)
    training = Training(**keys)
    judging, rows = data.shares(num_workers, split=training.split, seed=training.seed)
    widths = (data.images_NHW[0].size, *hidden, int(data.labels_N.max()) + 1)
    owners = Owners.of(widths)
    return PruningGame(
        build=functools.partial(_build, widths, speed, training.seed),
        loss=functools.partial(_loss, owners=owners, speed=speed, price=price, redundancy=redundancy),
        data=tuple((data.images_NHW[index].astype(training.dtype), data.labels_N[index]) for index in rows),
        **training.computing,
        evaluate=Judge(judging, functools.partial(_scores, speed=speed), training.dtype, training.device),
        owners=owners,
        speed=speed,
        name=f"pruning_game on {data.name}",
    )


pruning_game.reads = "images"  # type: ignore[attr-defined]
