"""Random bits that two machines draw alike: Philox4x64-10 keyed by (run seed, purpose, round, worker).

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". The generator is NumPy's own `Philox` bit generator,
whose raw words (unlike the methods of `Generator`) are fixed by the algorithm; golden vectors and an independent
implementation in the tests pin them. Everything derived from the words here is integer arithmetic or one exact
float64 operation, so the same key gives the same draw on every platform.
"""

from __future__ import annotations

import enum
import threading

import numpy as np
import numpy.typing as npt

__all__ = ["Purpose", "Stream"]

_KEY_TAG = 0x5361_6464_6C65_6261  # "Saddleba": separates our key space from other users of the same seed
_WORDS_PER_BLOCK = 4
_TO_UNIT = 2.0**-53

Words = npt.NDArray[np.uint64]


class Purpose(enum.IntEnum):
    """What a stream is used for; part of the key, so streams of different purposes never meet.

    Example:
        >>> from saddlebag.compression import Draws
        >>> draws = Draws(7, 0, 1)
        >>> bool(draws.own(Purpose.COIN).words(1) == draws.own(Purpose.ROUNDING).words(1))
        False
    """

    COIN = 0
    SUPPORT = 1
    ROUNDING = 2
    BATCH = 3
    PARTICIPANTS = 4
    DATA = 5
    EXPERT = 6
    PERTURBATION = 7
    SAMPLE = 8
    ARM = 9
    NOISE = 10


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

    Example:
        >>> first, again = (Stream(7, Purpose.SUPPORT, 0, 1) for _ in range(2))
        >>> first.below(10, 5).tolist() == again.below(10, 5).tolist(), bool((first.uniforms(9) < 1).all())
        (True, True)
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
