"""Grey pictures with labels, and how they are divided among workers and judges.

Shapes: N = pictures, H x W = pixels.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.problems.data.shards import split_rows
from saddlebag.compression.draws import Draws
from saddlebag.compression.stream import Purpose

_HELD_OUT = 5  # every fifth picture judges
_MOST_JUDGED = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Grey pictures with labels: (N, H, W) in [0, 1] and int64 (N,); the last `held_out` are published for judging."""

    name: str
    images_NHW: npt.NDArray[np.float64]
    labels_N: npt.NDArray[np.int64]
    held_out: int = 0

    def divide(self, judged: int = _MOST_JUDGED) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rows that judge, so many of them at most, and rows to train on: in an order of their own that never changes."""
        count = len(self.labels_N)
        order_N = np.argsort(Draws(0, 0).common(Purpose.SAMPLE).words(count), kind="stable")
        if self.held_out:
            judges_N = order_N >= count - self.held_out
            return order_N[judges_N][:judged], order_N[~judges_N]
        return order_N[::_HELD_OUT][:judged], np.delete(order_N, slice(None, None, _HELD_OUT))

    def shares(
        self, num_workers: int, *, split: str, seed: int, judged: int = _MOST_JUDGED
    ) -> tuple[Images, list[npt.NDArray[np.int64]]]:
        """The pictures that judge, and the rows of each worker among the others; see `split_rows`."""
        held_N, kept_N = self.divide(judged)
        shards = split_rows(self.labels_N[kept_N].astype(np.float64), num_workers, split=split, seed=seed)
        return Images(self.name, self.images_NHW[held_N], self.labels_N[held_N]), [kept_N[shard] for shard in shards]
