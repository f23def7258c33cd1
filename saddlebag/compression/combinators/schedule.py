"""Schedules: which compressor is used is a function of the round alone, so that all machines agree on it.

The constants of a schedule are the worst of its pieces: what is proven for a compressor holds for the schedule with them.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saddlebag.compression.base import Compressor, Contractive, Unbiased, errors_average, jointly, kind_of, mean_noise
from saddlebag.compression.registry import make_compressor
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Payload, Vector

__all__ = ["decay", "schedule", "scheduled"]

_MOST_PIECES = 1000


@dataclasses.dataclass(frozen=True)
class _Scheduled:
    """Compressors by the round from which each is used.

    Attributes:
        pieces: (first round, compressor), the first one from round 0, rounds strictly increasing.
    """

    pieces: tuple[tuple[int, Any], ...]

    reference = "of its pieces"

    def _at(self, round_: int) -> Compressor:
        """The compressor of a round."""
        number = bisect.bisect_right(self.pieces, round_, key=lambda piece: piece[0]) - 1
        compressor: Compressor = self.pieces[number][1]
        return compressor

    @property
    def common_draws(self) -> bool:
        """Whether the workers of some round share their draws."""
        return not all(errors_average(compressor) for _, compressor in self.pieces)

    @property
    def jointly(self) -> int:
        """The number of workers that some piece's law is about; 0 where each worker is by itself."""
        return max(jointly(compressor) for _, compressor in self.pieces)

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        return self._at(draws.round).encode(x_D, draws)

    def bits(self, d: int) -> float:
        """Those of the largest piece."""
        return float(max(compressor.bits(d) for _, compressor in self.pieces))


class _UnbiasedSchedule(_Scheduled):
    def omega(self, d: int) -> float:
        return float(max(compressor.omega(d) for _, compressor in self.pieces))

    def mean_noise(self, d: int, num_workers: int) -> tuple[float, float]:
        """The worst of the pieces': (a, b) holds for a piece with a smaller a and a larger b."""
        each = [mean_noise(compressor, d, num_workers) for _, compressor in self.pieces]
        return max(a for a, _ in each), min(b for _, b in each)


class _ContractiveSchedule(_Scheduled):
    def alpha(self, d: int) -> float:
        return float(min(compressor.alpha(d) for _, compressor in self.pieces))


class _BothSchedule(_UnbiasedSchedule, _ContractiveSchedule):
    pass


def scheduled(pieces: Sequence[tuple[int, Compressor]]) -> Compressor:
    """The compressor that is `pieces[i][1]` from round `pieces[i][0]` on; unbiased or contractive where all of them are.

    omega is the largest and alpha the smallest of the pieces'.

    Raises:
        ConfigError: the rounds do not ascend from 0, or the pieces have no kind in common.

    Example:
        >>> from saddlebag.compression import TopK
        >>> scheduled([(0, TopK(k=8)), (100, TopK(k=2))]).alpha(8)
        0.25
    """
    rounds = [round_ for round_, _ in pieces]
    if not rounds or rounds[0] != 0 or rounds != sorted(set(rounds)) or not all(type(round_) is int for round_ in rounds):
        raise ConfigError(f"schedule.pieces must start at rounds that ascend strictly from 0, got {rounds}")
    compressors = [compressor for _, compressor in pieces]
    unbiased, contractive = (all(isinstance(c, kind) for c in compressors) for kind in (Unbiased, Contractive))
    if not (unbiased or contractive):
        kinds = ", ".join(f"{type(c).__name__} is {kind_of(c)}" for c in compressors)
        raise ConfigError(f"schedule.pieces must be all unbiased or all contractive: {kinds}")
    made = _BothSchedule if unbiased and contractive else _UnbiasedSchedule if unbiased else _ContractiveSchedule
    return made(tuple(zip(rounds, compressors, strict=True)))


def schedule(*, pieces: Sequence[Mapping[str, Any]]) -> Compressor:
    """A schedule from tables, as a recipe writes it: `round`, `name` and the parameters of that compressor.

    Raises:
        ConfigError: a table lacks a key, or its compressor cannot be made; see also `scheduled`.

    Example:
        >>> up = schedule(pieces=[{"round": 0, "name": "top_k", "k": 8}, {"round": 100, "name": "top_k", "k": 2}])
    """
    made = []
    for number, piece in enumerate(pieces):
        if not isinstance(piece, Mapping) or not {"round", "name"} <= set(piece):
            raise ConfigError(f"schedule.pieces.{number} must be a table with round and name, got {piece!r}")
        rest = {key: value for key, value in piece.items() if key not in ("round", "name")}
        try:
            made.append((piece["round"], make_compressor(piece["name"], **rest)))
        except ConfigError as error:
            raise ConfigError(f"schedule.pieces.{number}: {error}") from error
    return scheduled(made)


def decay(*, of: str, parameter: str, first: float, ratio: float, every: int, last: float, **params: Any) -> Compressor:
    """A geometric schedule: `parameter` of compressor `of` is first ratio^j from round j `every` on, until it reaches `last`.

    Whole numbers stay whole: where `first` and `last` are, values are rounded to the nearest.

    Args:
        of: name of the compressor.
        parameter: name of its parameter that changes, such as "fraction", "k" or "levels".
        first: its value in round 0.
        ratio: positive and not 1; below 1 the parameter shrinks.
        every: rounds for which a value is used.
        last: its value from the round on in which it is reached.
        **params: the other parameters.

    Raises:
        ConfigError: the numbers describe no such schedule, one of more than a thousand pieces, or no compressor.

    Example:
        >>> [round_ for round_, _ in decay(of="top_k", parameter="k", first=8, ratio=0.5, every=100, last=1).pieces]
        [0, 100, 200, 300]
    """
    if not (first > 0 and last > 0 and ratio > 0 and ratio != 1 and (ratio > 1) == (last > first) and first != last):
        raise ConfigError(f"decay needs 0 < ratio that leads from first to last, got first={first}, ratio={ratio}, last={last}")
    if type(every) is not int or every < 1:
        raise ConfigError(f"decay.every must be a whole number of at least 1, got {every!r}")
    whole = float(first).is_integer() and float(last).is_integer()
    pieces: list[tuple[int, Compressor]] = []
    value, round_, previous = float(first), 0, None
    while previous != last:
        now = last if (value >= last) == (ratio > 1) else value
        now = round(now) if whole else now
        if now != previous:
            pieces.append((round_, make_compressor(of, **{parameter: now}, **params)))
        if len(pieces) > _MOST_PIECES:
            raise ConfigError(f"decay from {first} to {last} by {ratio} has more than {_MOST_PIECES} pieces; change the ratio")
        previous, value, round_ = now, value * ratio, round_ + every
    return scheduled(pieces)
