"""Supports that cost no bits: sets of coordinates that every machine draws alike."""

from __future__ import annotations

import dataclasses
import enum
import functools
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression.draws import Draws, Purpose, stratified_subset, uniform_subset
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.flat import Index

__all__ = ["Scheme", "Scope", "Support"]


class Scope(enum.IntEnum):
    """Whose stream a seeded support is drawn from."""

    OWN = 0
    COMMON = 1


class Scheme(enum.IntEnum):
    """How a support is drawn."""

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
            return self._share(draws)
        if self.scope is Scope.COMMON:
            return _common_index(draws.seed, draws.round, self)
        return self._draw(draws.own(Purpose.SUPPORT))

    def _draw(self, stream: object) -> Index:
        draw = stratified_subset if self.scheme is Scheme.STRATA else uniform_subset
        return draw(stream, self.dimension, self.size)  # type: ignore[arg-type]

    def _share(self, draws: Draws) -> Index:
        """Worker m takes positions m, m + M, m + 2 M, ... of the permutation; with M > D, position m mod D."""
        if not 0 <= draws.worker < self.workers:
            raise ConfigError(f"a permutation dealt to {self.workers} workers has no share for sender {draws.worker}")
        order_D = _permutation(draws.seed, draws.round, self.dimension)
        share = np.sort(order_D[draws.worker % self.dimension :: self.workers])
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
    """A uniformly distributed permutation: the order of one word for each coordinate."""
    order_D = np.argsort(Draws(seed, round_).common(Purpose.SUPPORT).words(dimension), kind="stable")
    order_D.setflags(write=False)
    return order_D
