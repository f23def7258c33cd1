"""What machines draw alike: streams of bits keyed by (run seed, purpose, round, worker), and subsets drawn from them."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

from saddlebag.compression.kernels.loader import kernels_for
from saddlebag.compression.stream import Purpose, Stream
from saddlebag.errors import ConfigError

__all__ = ["EVERYONE", "SERVER", "Draws", "stratified_subset", "uniform_subset"]

EVERYONE = 2**64 - 1
"""The worker number of draws that all machines share."""
SERVER = 2**64 - 2
"""The worker number of the server's own draws."""

_RANKED = 1024  # dimension up to which a word for every coordinate is cheaper than sorting draws


@dataclasses.dataclass(frozen=True)
class Draws:
    """The draws of one worker in one round.

    Attributes:
        seed: run seed, 0 <= seed < 2^64.
        round: round number, counted from 0.
        worker: rank of the worker, `SERVER`, or `EVERYONE`.

    Example:
        >>> Draws(7, 3).of(2)
        Draws(seed=7, round=3, worker=2)
    """

    seed: int
    round: int
    worker: int = EVERYONE

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**64:
            raise ConfigError(f"seed must lie in [0, 2^64), got {self.seed}")

    def own(self, purpose: Purpose) -> Stream:
        """The stream that belongs to this worker alone."""
        return Stream(self.seed, purpose, self.round, self.worker)

    def common(self, purpose: Purpose) -> Stream:
        """The stream that all workers and the server share in this round."""
        return Stream(self.seed, purpose, self.round, EVERYONE)

    def of(self, worker: int) -> Draws:
        """The draws of another worker in the same round."""
        return self if worker == self.worker else Draws(self.seed, self.round, worker)

    def within(self, step: int) -> Draws:
        """The draws of one of several steps inside this round; step 0 is the round itself.

        Raises:
            ConfigError: step is not in [0, 2^16), or the round has 2^48 or more.
        """
        if not (0 <= step < 2**16 and self.round < 2**48):
            raise ConfigError(f"step must lie in [0, 2^16) in rounds below 2^48, got {step} in round {self.round}")
        return self if step == 0 else Draws(self.seed, self.round | step << 48, self.worker)

    def coin(self, probability: float) -> bool:
        """One coin for everybody: True with the given probability."""
        return _common_uniform(self.seed, self.round) < probability


@functools.lru_cache(maxsize=4096)
def _common_uniform(seed: int, round_: int) -> float:
    return float(Stream(seed, Purpose.COIN, round_, EVERYONE).uniforms(1)[0])


def uniform_subset(stream: Stream, dimension: int, size: int) -> npt.NDArray[np.int64]:
    """A uniformly distributed subset of {0, ..., dimension - 1}, sorted.

    Up to `_RANKED` coordinates every one draws a word and the smallest words win. Beyond, the set is the first `size`
    different values of the stream's integers (or the complement of the first dimension - size, when that is fewer). Both
    are uniform by symmetry.

    Returns:
        int64, shape (size,), strictly increasing.

    Example:
        >>> from saddlebag.compression.stream import Purpose
        >>> uniform_subset(Draws(0, 0).common(Purpose.SUPPORT), 10, 3).tolist()
        [1, 5, 6]
    """
    if dimension <= _RANKED:
        if size == dimension:
            return np.arange(dimension)
        chosen = np.argpartition(stream.words(dimension), size)[:size]
        chosen.sort()
        return chosen
    if 2 * size > dimension:
        keep = np.ones(dimension, bool)
        keep[uniform_subset(stream, dimension, dimension - size)] = False
        return np.flatnonzero(keep)
    if size == 0:
        return np.empty(0, np.int64)
    # size <= dimension / 2 needs at most 1.39 size draws in the mean
    drawn, used = stream.below(dimension, size + size // 2 + 8), size
    values = np.sort(drawn[:size])
    values = values[np.concatenate(([True], values[1:] != values[:-1]))]
    while len(values) < size:  # so many draws more at most, so none is taken too early
        if used == len(drawn):
            drawn, used = stream.below(dimension, size // 4 + 8), 0
        more = np.unique(drawn[used : used + size - len(values)])
        used = min(len(drawn), used + size - len(values))
        place = values.searchsorted(more)
        new = values.take(place, mode="clip") != more
        values = np.insert(values, place[new], more[new])
    return values


def stratified_subset(stream: Stream, dimension: int, size: int) -> npt.NDArray[np.int64]:
    """One uniformly chosen coordinate of each of `size` consecutive runs, which divide [0, dimension) as evenly as possible.

    Run i is [floor(i D / K), floor((i + 1) D / K)), and its coordinate the product of its length with 32 bits, shifted by as
    many: the lower half of a word, then the upper. The probability of each coordinate differs from 1 / (length of its run) by
    less than 2^-32 (Lemire 2019).

    Returns:
        int64, shape (size,), strictly increasing.

    Raises:
        ConfigError: dimension x size or a run is too long for 64-bit arithmetic.

    Example:
        >>> from saddlebag.compression.stream import Purpose
        >>> stratified_subset(Draws(0, 0).common(Purpose.SUPPORT), 9, 3).tolist()  # one of 0-2, 3-5, 6-8
        [0, 5, 8]
    """
    if size == 0:
        return np.empty(0, np.int64)
    if dimension * size >= 2**63 or size >= 2**31 or dimension >= size << 31:
        raise ConfigError(f"a stratified support of {size} of {dimension} coordinates exceeds 64-bit arithmetic")
    return kernels_for(dimension).strata(stream, dimension, size)
