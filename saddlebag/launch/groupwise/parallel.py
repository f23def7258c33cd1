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
from saddlebag.launch.groupwise.data.stream import build_stream
from saddlebag.launch.groupwise.intervals import intervals_of
from saddlebag.launch.groupwise.recipe import load_groupwise, make_algorithm, prior_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from saddlebag.algorithms.groupwise import Calibration, Groupwise, GroupwiseState, Intervals
    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.algorithms.groupwise.coverage.calibration import CalibrationState
    from saddlebag.algorithms.groupwise.coverage.offered import IntervalsState
    from saddlebag.launch.groupwise.data.stream import RoundStream

__all__ = ["learn_in_blocks", "learn_recipe", "print_blocks"]


def learn_in_blocks(
    algorithm: Groupwise,
    stream: RoundStream,
    longest: int,
    *,
    rank: int = 0,
    ranks: int = 1,
    reduce: Callable[[Any, float], tuple[Any, float]] = lambda vector, largest: (vector, largest),
    intervals: Intervals | None = None,
    calibration: Calibration | None = None,
    prior_G: Array | None = None,
) -> tuple[GroupwiseState, IntervalsState | None, CalibrationState | None]:
    """Learn a stream in frozen blocks, this rank's share of each; returns the states at the end.

    Args:
        algorithm: its mixer declares the range of the loss times `longest`.
        stream: all rounds, the same on every rank.
        longest: rows of the longest block.
        rank: which share this is: row i of a block belongs to rank i mod `ranks`.
        ranks: how many there are.
        reduce: adds a vector, and takes the maximum of a number, over the ranks.
        intervals: to give out with the predictions.
        calibration: to give out with the predictions.
        prior_G: of the groups; uniform by default.
    """
    state, at = algorithm.init(len(stream.groups), prior_G), 0
    covered = None if intervals is None else intervals.init(len(stream.groups))
    cells = None if calibration is None else calibration.init(len(stream.groups))
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
            intervals=None if intervals is None or covered is None else (intervals, covered),
            calibration=None if calibration is None or cells is None else (calibration, cells),
        )
        vector, largest = reduce(to_vector(mine), mine.outcome.largest)
        total: BlockSums = from_vector(vector, mine, largest)
        state, at = merge_block(algorithm, state, total), stop
        if intervals is not None and covered is not None:
            covered = intervals.merge(covered, total.intervals)
        if calibration is not None and cells is not None:
            cells = calibration.merge(cells, total.calibration)
    return state, covered, cells


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
    if stream.given_N is not None:
        raise ConfigError("blocks give out intervals around our predictions: leave out intervals.prediction")
    if loaded.alarms is not None:
        raise ConfigError("blocks know no [alarms], which look at each round: leave them out, or run the study")
    intervals, calibration = intervals_of(loaded, stream), None if loaded.calibration is None else loaded.calibration.rule()
    more: Any = {"intervals": intervals, "calibration": calibration, "prior_G": prior_of(loaded, stream.groups)}
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        (state, covered, cells), rank = learn_in_blocks(algorithm, stream, longest, **more), 0
    else:
        import torch.distributed as dist

        dist.init_process_group("gloo")
        try:
            rank = dist.get_rank()
            told = learn_in_blocks(algorithm, stream, longest, rank=rank, ranks=ranks, reduce=_all_reduce, **more)
            state, covered, cells = told
        finally:
            dist.destroy_process_group()
    if rank != 0:
        return None
    values = _told(algorithm, stream, state)
    if intervals is not None and covered is not None:
        values["coverage"] = _coverage(intervals, covered, stream)
    if calibration is not None and cells is not None:
        values["calibration"] = _calibrated(calibration, cells, stream)
    return values


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


def _coverage(intervals: Intervals, covered: IntervalsState, stream: RoundStream) -> list[dict[str, Any]]:
    """Shares of labels held, and mean widths; no bound, which is proven for labels that come before the next prediction."""
    error_MG, rounds_G = intervals.rule.error(covered.thresholds), covered.thresholds.awake_G
    return [
        {
            "group": name,
            "target": target,
            "held": float(target - error_MG[m, g]),
            "width": float(covered.width_MG[m, g] / max(rounds_G[g], 1e-300)),
        }
        for m, target in enumerate(intervals.rule.targets)
        for g, name in enumerate(stream.groups)
    ]


def _calibrated(calibration: Calibration, cells: CalibrationState, stream: RoundStream) -> list[dict[str, Any]]:
    """Mean |mean of label - probability| of each group's cells, by their rounds; no bound, as of coverage."""
    rounds_G = cells.count_GB.sum(axis=1)
    error_G = np.abs(cells.excess_GB).sum(axis=1) / np.maximum(rounds_G, 1e-300)
    levels_GB = calibration.error(cells)
    return [
        {"group": name, "error": float(error_G[g]), "rounds": cells.count_GB[g].tolist(), "levels": levels_GB[g].tolist()}
        for g, name in enumerate(stream.groups)
    ]


def print_blocks(values: Mapping[str, Any]) -> None:
    """A line for each group, and the alarms."""
    click.echo(f"{'group':20} {'rounds':>9} {'our loss':>12} {'own model':>12} {'bound':>10}")
    for row in values["groups"]:
        click.echo(f"{row['group']:20} {row['rounds']:9,.0f} {row['loss']:12.4f} {row['own_loss']:12.4f} {row['bound']:10.2f}")
    for row in values.get("coverage", ()):
        click.echo(f"{row['group']:20} intervals held {row['held']:.4f} of {row['target']:.4g}, mean width {row['width']:.4f}")
    for row in values.get("calibration", ()):
        click.echo(f"{row['group']:20} calibrated to {row['error']:.4f} a label")
    for alarm in values["alarms"]:
        click.echo(f"alarm: {alarm}")
