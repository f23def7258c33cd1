"""A game's modules and batches for a program that trains by itself, for example under DistributedDataParallel.

What baselines need: the same weights at the start, the same batches, masks and attacks in the same rounds, and no code of ours
between backward and the optimizer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from saddlebag.algorithms.networks.chance import Chance, seed_of, seeded
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.networks.game import ModuleGame
    from saddlebag.compression import Draws


class PlainTraining(nn.Module):
    """The loss of a worker's batch as a module, whose parameters are the players'.

    Args:
        game: where modules, data and loss come from; it keeps its own copy of the modules.

    Raises:
        ConfigError: the game's samples have variables of their own, which only its methods keep.

    Example:
        loss = DistributedDataParallel(PlainTraining(problem))
        loss(rank, Draws(seed, round, rank)).backward()
    """

    def __init__(self, game: ModuleGame) -> None:
        super().__init__()
        if game.local is not None:
            raise ConfigError(f"{game.name}: local blocks are for the problem's own methods; choose another attack")
        dtype = torch.float64 if game.precision == "float64" else torch.float32
        self.game = game
        self.players = nn.ModuleDict(dict(game.build())).to(game.device, dtype)

    def forward(self, worker: int, draws: Draws) -> Any:
        """The mean loss of the batch that `game.operator(worker)` takes with these draws, or a loss by player.

        Dropout is seeded from the key, as there; torch's generator goes on afterwards as before.
        """
        evaluation = self.game.evaluation
        row_B, seed = evaluation.rows(worker, draws), seed_of(draws)
        batch = tuple(evaluation.tensor(array[row_B]) for array in self.game.data[worker])
        with seeded(seed, self.game.device), evaluation.autocast():
            return self.game.loss(dict(self.players.items()), batch, Chance(seed, len(row_B), slice(None), round_=draws.round))
