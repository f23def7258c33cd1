"""Random bits that two machines draw alike: Philox4x64-10 keyed by (run seed, purpose, round, worker).

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". The generator is NumPy's own `Philox` bit generator,
whose raw words (unlike the methods of `Generator`) are fixed by the algorithm; golden vectors and an independent
implementation in the tests pin them. Everything derived from the words here is integer arithmetic or one exact
float64 operation, so the same key gives the same draw on every platform.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import threading

import numpy as np
import numpy.typing as npt

from saddlebag.compression.kernels.loader import kernels_for
from saddlebag.errors import ConfigError

__all__ = ["EVERYONE", "SERVER", "Draws", "Purpose", "Stream", "stratified_subset", "uniform_subset"]

EVERYONE = 2**64 - 1
"""The worker number of draws that all machines share."""
SERVER = 2**64 - 2
"""The worker number of the server's own draws."""

_KEY_TAG = 0x5361_6464_6C65_6261  # "Saddleba": separates our key space from other users of the same seed
_WORDS_PER_BLOCK = 4
_TO_UNIT = 2.0**-53
_RANKED = 1024  # dimension up to which a word for every coordinate is cheaper than sorting draws

Words = npt.NDArray[np.uint64]


class Purpose(enum.IntEnum):
    """What a stream is used for; part of the key, so streams of different purposes never meet."""

    COIN = 0
    SUPPORT = 1
    ROUNDING = 2
    BATCH = 3
    PARTICIPANTS = 4
    DATA = 5
    EXPERT = 6
    PERTURBATION = 7
    SAMPLE = 8


class _Generator(threading.local):
    """One reusable Philox per thread: setting its counter costs a tenth of making a new one."""

    def __init__(self) -> None:
        self.philox = np.random.Philox(key=0)
        self.state = self.philox.state
        self.state["state"] = {"counter": np.zeros(4, np.uint64), "key": np.zeros(2, np.uint64)}
        self.state["buffer_pos"] = _WORDS_PER_BLOCK

    def words(self, key: tuple[int, int], counter: tuple[int, int, int, int], count: int) -> Words:
        self.state["state"]["key"][:] = key
        self.state["state"]["counter"][:] = counter
        self.philox.state = self.state
        return self.philox.random_raw(count)


_generator = _Generator()


class Stream:
    """An endless sequence of 64-bit words, a function of its key alone.

    Each call starts on a new block of four words, so the words depend on the sizes of the earlier calls and on nothing else.
    """

    def __init__(self, seed: int, purpose: Purpose, round_: int, worker: int) -> None:
        self._key = (seed, _KEY_TAG)
        self._counter = (round_, worker, int(purpose))
        self._block = 0

    def words(self, count: int) -> Words:
        """The next `count` words, uint64, shape (count,)."""
        return _generator.words(*self.skip(count), count)

    def skip(self, count: int) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
        """Pass over `count` words; returns the key and the counter, which is raised before each block of four words."""
        before = self._block
        self._block += -(-count // _WORDS_PER_BLOCK)
        return self._key, (before, *self._counter)

    def uniforms(self, count: int) -> npt.NDArray[np.float64]:
        """The next `count` numbers in [0, 1), multiples of 2^-53, float64."""
        return (self.words(count) >> np.uint64(11)).astype(np.float64) * _TO_UNIT

    def below(self, bound: int, count: int) -> npt.NDArray[np.int64]:
        """The next `count` integers in [0, bound), by multiply and shift; bound < 2^32.

        The probability of each value differs from 1/bound by less than 2^-64 (Lemire 2019).
        """
        words = self.words(count)
        high, low = words >> np.uint64(32), words & np.uint64(0xFFFF_FFFF)
        product = high * np.uint64(bound) + ((low * np.uint64(bound)) >> np.uint64(32))
        return (product >> np.uint64(32)).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Draws:
    """The draws of one worker in one round.

    Attributes:
        seed: run seed, 0 <= seed < 2^64.
        round: round number, counted from 0.
        worker: rank of the worker, `SERVER`, or `EVERYONE`.
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
    """
    if dimension * size >= 2**63 or size >= 2**31 or dimension >= size << 31:
        raise ConfigError(f"a stratified support of {size} of {dimension} coordinates exceeds 64-bit arithmetic")
    return kernels_for(dimension).strata(stream, dimension, size)
