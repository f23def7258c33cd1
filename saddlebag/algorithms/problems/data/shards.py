"""Who holds which rows: the split of a data set over the workers, the same on every machine.

Shapes: N = rows.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, TypedDict, Unpack

import numpy as np

from saddlebag.compression.draws import Draws
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.problems.data.rows import Dataset
    from saddlebag.compression.payload import Index, Vector

__all__ = ["SPLITS", "split_rows"]

_MAX_FEATURES = 2048  # constants and solution take eigenvalues of a Gram matrix: about a second at this order


def _even(labels_N: Vector, seed: int) -> Index:
    """A random order: ranks of N words of the common stream (equal words, at odds below N^2 2^-65, keep their order)."""
    return np.argsort(Draws(seed, 0).common(Purpose.DATA).words(len(labels_N)), kind="stable")


def _label_skew(labels_N: Vector, seed: int) -> Index:
    """The order by label, so that most workers see one label only."""
    del seed
    return np.argsort(labels_N, kind="stable")


SPLITS: dict[str, Callable[[Vector, int], Index]] = {"even": _even, "label_skew": _label_skew}
"""Name -> (labels, seed) -> an order of the rows, which is then cut into contiguous shards."""


def split_rows(labels_N: Vector, num_workers: int, *, split: str = "even", seed: int = 0) -> tuple[Index, ...]:
    """Divide rows among workers; the numbers of rows differ by at most one.

    Args:
        labels_N: one label for each row, float64 (N,).
        num_workers: number of shards.
        split: "even" (a random permutation) or "label_skew" (sorted by label).
        seed: of the permutation.

    Returns:
        For each worker its rows, int64, increasing. Every row is in exactly one shard.

    Raises:
        ConfigError: the split is unknown, or a worker would get no rows.

    Example:
        >>> [shard.tolist() for shard in split_rows(np.array([1.0, -1.0, 1.0, -1.0]), 2, split="label_skew")]
        [[1, 3], [0, 2]]
    """
    if split not in SPLITS:
        raise ConfigError(f"unknown split {split!r}; known: {', '.join(sorted(SPLITS))}")
    if not 1 <= num_workers <= len(labels_N):
        raise ConfigError(f"workers must lie in 1..{len(labels_N)}, one row each at least, got {num_workers}")
    return tuple(np.sort(shard) for shard in np.array_split(SPLITS[split](labels_N, seed), num_workers))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Division:
    """Keys of every recipe whose rows are divided, with their defaults.

    Attributes:
        split: who holds which rows: "even" (a random permutation) or "label_skew" (sorted by label).
        seed: of the split, and of the weights that a network starts from.
    """

    split: str = "even"
    seed: int = 0


class DivisionKeys(TypedDict, total=False):
    """`Division` as keys."""

    split: Annotated[str, Division]
    seed: Annotated[int, Division]


def shards_of(data: Dataset, num_workers: int, **division: Unpack[DivisionKeys]) -> tuple[Index, ...]:
    """The rows of each worker: as the data come divided, else by `split_rows`, whose errors it has.

    Args:
        data: with a label for each row.
        num_workers: number of shards.
        **division: see `Division`.

    Raises:
        ConfigError: the data come divided among another number of workers.
    """
    if data.shards is None:
        return split_rows(data.labels_N, num_workers, **division)
    if num_workers != len(data.shards):
        raise ConfigError(f"the data come in {len(data.shards)} shards, one for each worker, got {num_workers} workers")
    return data.shards


def require_shards(name: str, shards: tuple[Index, ...], num_rows: int) -> None:
    """Raise `ConfigError` unless every row is in exactly one shard, and no shard is empty; `name` is the problem's."""
    if any(len(shard) == 0 for shard in shards):
        raise ConfigError(f"{name}: every worker needs at least one row")
    if not shards or not np.array_equal(np.sort(np.concatenate(shards)), np.arange(num_rows)):
        raise ConfigError(f"{name}: every one of {num_rows} rows must be in exactly one shard")


def require_signs(name: str, labels_N: Vector, num_rows: int) -> None:
    """Raise `ConfigError` unless there is a label of -1 or +1 for each row; `name` is the problem's."""
    if not np.array_equal(np.abs(labels_N), np.ones(num_rows)):
        raise ConfigError(
            f"{name}: labels must be -1 or +1, one for each of {num_rows} rows, got {len(np.unique(labels_N))} different ones; "
            "data.positive sets one against all others"
        )


def require_targets(name: str, target_N: Vector, num_features: int) -> None:
    """Raise `ConfigError` unless targets are finite, and features few enough for a Gram matrix; `name` is the problem's."""
    if not np.isfinite(target_N).all():
        raise ConfigError(f"{name}: targets must be finite numbers")
    if num_features > _MAX_FEATURES:
        raise ConfigError(f"{name}: at most {_MAX_FEATURES} features, got {num_features}")
