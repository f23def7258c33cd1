"""Groupwise learning by several processes: blocks of rows are divided among ranks, and only sums per group travel.

    torchrun --nproc-per-node 2 -m saddlebag groupwise blocks RECIPE [--block 512] [--json]

Every rank holds the whole state and a share of each block's rows. In a block the state is frozen: each rank predicts its
rows, one all-reduce adds the sums, and all merge the same block, so their states stay equal bit for bit. Blocks grow with
the rows seen; the mixer's range is that of the loss times the longest block, as its theory wants.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from saddlebag.algorithms.groupwise import BlockSums, block_length, block_sums, from_vector, merge_block, to_vector
from saddlebag.algorithms.groupwise.ledger import declared_range
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError
from saddlebag.launch.groupwise.recipe import load_groupwise, make_algorithm
from saddlebag.launch.groupwise.stream import build_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from saddlebag.algorithms.groupwise import Groupwise, GroupwiseState
    from saddlebag.launch.groupwise.stream import RoundStream

__all__ = ["learn_in_blocks", "learn_recipe", "print_blocks"]


def learn_in_blocks(
    algorithm: Groupwise,
    stream: RoundStream,
    longest: int,
    *,
    rank: int = 0,
    ranks: int = 1,
    reduce: Callable[[Any, float], tuple[Any, float]] = lambda vector, largest: (vector, largest),
) -> GroupwiseState:
    """Learn a stream in frozen blocks, this rank's share of each.

    Args:
        algorithm: its mixer declares the range of the loss times `longest`.
        stream: all rounds, the same on every rank.
        longest: rows of the longest block.
        rank: which share this is: row i of a block belongs to rank i mod `ranks`.
        ranks: how many there are.
        reduce: adds a vector, and takes the maximum of a number, over the ranks.
    """
    state, at = algorithm.init(len(stream.groups)), 0
    while at < len(stream.y_N):
        stop = min(len(stream.y_N), at + block_length(at, longest))
        row_N = np.arange(at + rank, stop, ranks)
        mine = block_sums(
            algorithm,
            state,
            stream.x_ND[row_N],
            stream.y_N[row_N],
            stream.awake_NG[row_N],
            lambda row, row_N=row_N: Draws(0, int(row_N[row])),  # type: ignore[misc]
        )
        vector, largest = reduce(to_vector(mine), mine.outcome.largest)
        total: BlockSums = from_vector(vector, mine, largest)
        state, at = merge_block(algorithm, state, total), stop
    return state


def _all_reduce(vector: Any, largest: float) -> tuple[Any, float]:
    import torch
    import torch.distributed as dist

    total, most = torch.from_numpy(vector.copy()), torch.tensor([largest], dtype=torch.float64)
    dist.all_reduce(total)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    return total.numpy(), float(most)


def learn_recipe(path: Path, sets: Sequence[str], *, longest: int) -> dict[str, Any] | None:
    """Learn a recipe's stream in blocks, on the ranks of torchrun or alone; what the first rank tells, None for the others.

    Raises:
        ConfigError: the recipe is wrong, or its mixer declares no range of losses.
        DataError: a file cannot be read.
    """
    loaded, _ = load_groupwise(path, list(sets))
    stream = build_stream(loaded)
    algorithm = make_algorithm(loaded, len(stream.features), len(stream.groups), divided=True)
    mixer: Any = algorithm.mixer
    if (largest := declared_range(mixer)) is None:
        raise ConfigError(f"blocks need a mixer with a declared range (ada_normal_hedge), got {mixer}")
    algorithm = dataclasses.replace(algorithm, mixer=dataclasses.replace(mixer, loss_range=largest * longest))
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        state, rank = learn_in_blocks(algorithm, stream, longest), 0
    else:
        import torch.distributed as dist

        dist.init_process_group("gloo")
        try:
            rank = dist.get_rank()
            state = learn_in_blocks(algorithm, stream, longest, rank=rank, ranks=ranks, reduce=_all_reduce)
        finally:
            dist.destroy_process_group()
    return _told(algorithm, stream, state) if rank == 0 else None


def _told(algorithm: Groupwise, stream: RoundStream, state: GroupwiseState) -> dict[str, Any]:
    bound_E = algorithm.mixer.bound(state.mixer)
    ledger = state.ledger
    rows = [
        {
            "group": name,
            "rounds": float(ledger.count_E[g]),
            "loss": float(ledger.charged_E[g]),
            "own_loss": float(ledger.loss_E[g]),
            "bound": float(bound_E[g]),
        }
        for g, name in enumerate(stream.groups)
    ]
    return {"played": ledger.played, "groups": rows, "alarms": [alarm.message for alarm in algorithm.alarms(state)]}


def print_blocks(values: Mapping[str, Any]) -> None:
    """A line for each group, and the alarms."""
    click.echo(f"{'group':20} {'rounds':>9} {'our loss':>12} {'own model':>12} {'bound':>10}")
    for row in values["groups"]:
        click.echo(f"{row['group']:20} {row['rounds']:9,.0f} {row['loss']:12.4f} {row['own_loss']:12.4f} {row['bound']:10.2f}")
    for alarm in values["alarms"]:
        click.echo(f"alarm: {alarm}")
