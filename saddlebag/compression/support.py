"""Supports that cost no bits: sets of coordinates that every machine draws alike."""

from __future__ import annotations

import dataclasses
import enum
import functools
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression.draws import Draws, stratified_subset, uniform_subset
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.flat import Index

__all__ = ["Scheme", "Scope", "Support"]


class Scope(enum.IntEnum):
    """Whose stream a seeded support is drawn from.

    Example:
        >>> of_all = Support(100, 3, Scope.COMMON)
        >>> of_all.index_K(Draws(7, 0, 0)).tolist() == of_all.index_K(Draws(7, 0, 1)).tolist()
        True
    """

    OWN = 0
    COMMON = 1


class Scheme(enum.IntEnum):
    """How a support is drawn.

    Example:
        >>> strata = Support(8, 4, Scope.OWN, Scheme.STRATA).index_K(Draws(7, 0, 0))
        >>> (strata // 2).tolist()  # one of each run of two
        [0, 1, 2, 3]
    """

    SUBSET = 0  # a uniformly distributed subset
    STRATA = 1  # one coordinate of each of K runs of consecutive coordinates
    PERMUTATION = 2  # one common permutation, dealt to the workers: disjoint supports


@dataclasses.dataclass(frozen=True)
class Support:
    """K of D coordinates, drawn alike by every machine that knows the run seed, the round and the sender.

    Attributes:
        dimension, size: D and K.
        scope: whose support it is; a PERMUTATION has scope OWN: the permutation is common, but each worker's share is its own.
        scheme: how it is drawn.
        workers: M, to how many workers a PERMUTATION is dealt; 0 for other schemes.

    Example:
        >>> Support(5, 5, Scope.OWN).index_K(Draws(7, 0, 0)).tolist()
        [0, 1, 2, 3, 4]
        >>> shares = [Support.share(4, 2, Draws(7, 0, worker)).index_K(Draws(7, 0, worker)) for worker in range(2)]
        >>> sorted(np.concatenate(shares).tolist())  # a permutation is dealt: every coordinate has one owner
        [0, 1, 2, 3]
    """

    dimension: int
    size: int
    scope: Scope
    scheme: Scheme = Scheme.SUBSET
    workers: int = 0

    def index_K(self, draws: Draws) -> Index:
        """The coordinates, int64, strictly increasing; read-only where workers share them.

        Raises:
            ConfigError: a PERMUTATION is asked for a sender that is none of its workers, or with another size than its share.
        """
        if self.scheme is Scheme.PERMUTATION:
            return self._dealt(draws)
        if self.scope is Scope.COMMON:
            return _common_index(draws.seed, draws.round, self)
        return self._draw(draws.own(Purpose.SUPPORT))

    def _draw(self, stream: object) -> Index:
        draw = stratified_subset if self.scheme is Scheme.STRATA else uniform_subset
        return draw(stream, self.dimension, self.size)  # type: ignore[arg-type]

    @classmethod
    def share(cls, dimension: int, workers: int, draws: Draws) -> Support:
        """The share of a permutation of [0, dimension) that is dealt to the sender as one of `workers`.

        A worker's place in the deal, its rank plus a common random shift modulo M, makes it the owner of any coordinate with
        probability 1/M even where M does not divide D.

        Raises:
            ConfigError: the sender is none of the workers.
        """
        place = _place(draws, workers) % max(dimension, 1)
        return cls(dimension, len(range(place, dimension, workers)), Scope.OWN, Scheme.PERMUTATION, workers)

    def owners(self, draws: Draws) -> int:
        """How many workers hold the sender's share of a permutation: 1, but for fewer coordinates than workers."""
        d = max(self.dimension, 1)
        return len(range(_place(draws, self.workers) % d, self.workers, d))

    def _dealt(self, draws: Draws) -> Index:
        """Place m takes positions m, m + M, m + 2 M, ... of the permutation; with M > D, position m mod D."""
        place = _place(draws, self.workers) % max(self.dimension, 1)
        share: Index = np.sort(_permutation(draws.seed, draws.round, self.dimension)[place :: self.workers])
        if len(share) != self.size:
            raise ConfigError(
                f"worker {draws.worker} of {self.workers} takes {len(share)} of {self.dimension} coordinates, not {self.size}"
            )
        return share


@functools.lru_cache(maxsize=2)
def _common_index(seed: int, round_: int, support: Support) -> Index:
    """The server needs the same support once for each worker of a round; read-only, for it is shared."""
    index_K = support._draw(Draws(seed, round_).common(Purpose.SUPPORT))
    index_K.setflags(write=False)
    return index_K


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, round_: int, dimension: int) -> Index:
    """A uniformly distributed permutation: the order of one word for each coordinate, after the word of the shift."""
    stream = Draws(seed, round_).common(Purpose.SUPPORT)
    stream.words(1)
    order_D = np.argsort(stream.words(dimension), kind="stable")
    order_D.setflags(write=False)
    return order_D


def _place(draws: Draws, workers: int) -> int:
    if not 0 <= draws.worker < workers:
        raise ConfigError(f"a permutation dealt to {workers} workers has no share for sender {draws.worker}")
    shift = int(draws.common(Purpose.SUPPORT).words(1)[0]) * workers >> 64
    return (draws.worker + shift) % workers
