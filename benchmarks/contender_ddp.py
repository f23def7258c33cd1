"""Plain DistributedDataParallel on the game of a recipe: start, batches, random numbers, step sizes and judge are its workers'.

    torchrun ... contender_ddp.py RECIPE --out FILE [--hook fp16|power_sgd] [--set KEY=VALUE]

Rank m computes what worker m of the recipe would; AdamW is torch's, with the recipe's numbers. Rank 0 judges the model with its
clock stopped, and writes the history, the seconds by phase and the bytes that crossed the interface.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

from saddlebag.algorithms.networks.chance import Chance, seed_of
from saddlebag.compression import Draws
from saddlebag.launch.build import build_method, build_problem
from saddlebag.launch.recipe.recipe import load_recipe

if TYPE_CHECKING:
    from saddlebag.algorithms.networks.game import ModuleGame

HOOKS = ("fp16", "power_sgd")  # the bfloat16 one wants NCCL
_RANK, _ONE_BUCKET_MB = 4, 1024
_ALONE = 5  # steps without communication, to know what computing takes
_COUNTERS = Path("/sys/class/net")


class Loss(nn.Module):
    """A game's loss as a module, for DDP listens to what its own `forward` leads to."""

    def __init__(self, game: ModuleGame) -> None:
        super().__init__()
        self.players = nn.ModuleDict(game.build())
        self._game = game

    def forward(self, worker: int, draws: Draws) -> torch.Tensor:
        """The loss on the batch that the worker has in this round: as in `ModuleGame`, rows, seed and all."""
        game, row_B, seed = self._game, self._game.evaluation.rows(worker, draws), seed_of(draws)
        torch.manual_seed(seed)
        batch = tuple(game.evaluation.tensor(array[row_B]) for array in game.data[worker])
        loss: torch.Tensor = game.loss(self.players, batch, Chance(seed, len(row_B), slice(0, None)))
        return loss


def interface_bytes() -> dict[str, int]:
    """Bytes sent and received by the interface that gloo uses; none on a machine without such counters."""
    folder = _COUNTERS / os.environ.get("GLOO_SOCKET_IFNAME", "lo") / "statistics"
    return {name: int((folder / f"{name}_bytes").read_text()) for name in ("tx", "rx")} if folder.exists() else {}


class Trainer:
    """One rank's model, optimizer and clocks."""

    def __init__(self, game: ModuleGame, method: Any, hook: str, seed: int) -> None:
        self.rank, self._method, self._seed = dist.get_rank(), method, seed
        self.loss = Loss(game)
        # the PowerSGD hook's collectives of several buckets pass each other on gloo, in another order on each rank
        cap_mb = _ONE_BUCKET_MB if hook == "power_sgd" else None
        self.model = nn.parallel.DistributedDataParallel(self.loss, gradient_as_bucket_view=True, bucket_cap_mb=cap_mb)
        if hook == "fp16":
            self.model.register_comm_hook(None, default_hooks.fp16_compress_hook)
        elif hook == "power_sgd":  # two steps uncompressed are the fewest it takes
            numbers = {"matrix_approximation_rank": _RANK, "start_powerSGD_iter": 2}
            self.model.register_comm_hook(powerSGD_hook.PowerSGDState(None, **numbers), powerSGD_hook.powerSGD_hook)
        rule, parameters = method.rule, list(self.loss.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": rule.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        numbers = {"betas": (rule.beta1, rule.beta2), "eps": rule.eps, "fused": True}
        self.optimizer = torch.optim.AdamW(groups, lr=method._pace(0), **numbers)
        self.seconds = {"forward_s": 0.0, "backward_s": 0.0, "optimizer_s": 0.0}

    def step(self, iteration: int, *, alone: bool = False) -> None:
        """One iteration; `alone` leaves out communication and the optimizer."""
        draws = Draws(self._seed, iteration, self.rank)
        begin = time.perf_counter()
        loss = (self.loss if alone else self.model)(self.rank, draws)
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        if not alone:
            for group in self.optimizer.param_groups:
                group["lr"] = self._method._pace(iteration)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)  # the gradients are views of buckets
        end = time.perf_counter()
        for name, spent_s in zip(self.seconds, (forward - begin, backward - forward, end - backward), strict=True):
            self.seconds[name] += spent_s

    def compute_s(self) -> float:
        """What forward and backward take without communication, of the fastest of a few."""
        best = float("inf")
        for iteration in range(_ALONE):
            begin = time.perf_counter()
            self.step(iteration, alone=True)
            best = min(best, time.perf_counter() - begin)
        return best


def run(options: argparse.Namespace) -> dict[str, Any]:
    recipe = load_recipe(options.recipe, options.sets)
    game: Any = build_problem(recipe)
    trainer = Trainer(game, build_method(recipe, game), options.hook, recipe.seed)
    compute_s = trainer.compute_s()
    steps = recipe.stop.max_iterations
    assert steps is not None, "the recipe must bound the iterations"
    assert game.evaluate is not None, "the game must have a judge"
    history: list[dict[str, Any]] = []
    judged_s, begin, before = 0.0, 0.0, {}
    for iteration in range(steps):
        trainer.step(iteration)
        done = iteration + 1
        if done == 1:  # the first step makes the connection, and DDP's buckets
            dist.barrier()
            trainer.seconds = dict.fromkeys(trainer.seconds, 0.0)
            begin, before = time.perf_counter(), interface_bytes()
        elif done % recipe.stop.every == 0 or done == steps:
            stopped = time.perf_counter()
            now = interface_bytes()
            if trainer.rank == 0:
                sent = {name: now[name] - before[name] for name in now}
                trainer.loss.eval()
                merits = dict(game.evaluate(trainer.loss.players))
                trainer.loss.train()
                history.append({"iteration": done, "seconds": stopped - begin - judged_s, "merits": merits, **sent})
            dist.barrier()
            judged_s += time.perf_counter() - stopped
    seconds = {name: spent_s / (steps - 1) for name, spent_s in trainer.seconds.items()}
    return {"history": history, "steps": steps, "compute_s": compute_s, **seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--hook", choices=["none", *HOOKS], default="none")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    result = run(options)
    if dist.get_rank() == 0:
        options.out.write_text(json.dumps(result))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
