"""Hypothesis without a deadline, and the exact law of a compressor that rounds each entry at random."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings

from saddlebag.compression import Draws

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.compression import Compressor

# the first call of NumPy's or protobuf's code pays for its import
settings.register_profile("saddlebag", deadline=None)
settings.load_profile("saddlebag")

WORDS = 2**32
Outcome = tuple[float, float, Fraction]
"""(one value, the other, the probability of the other)"""


@dataclasses.dataclass(frozen=True, eq=False)
class GivenWords(Draws):
    """Draws whose streams hold given words of 32 bits."""

    seed: int = 0
    round: int = 0
    word_D: Any = None

    def own(self, purpose: object) -> Any:
        del purpose
        padded = np.zeros(len(self.word_D) + len(self.word_D) % 2, np.uint32)
        padded[: len(self.word_D)] = self.word_D
        return _GivenStream(padded.view(np.uint64))

    common = own


class _GivenStream:
    def __init__(self, words: Any) -> None:
        self._words = words

    def words(self, count: int) -> Any:
        taken, self._words = self._words[:count], self._words[count:]
        return taken


def _outcomes(compressor: Compressor, x_D: Any) -> list[Outcome]:
    d = len(x_D)

    def at(word_D: Any) -> Any:
        return compressor.encode(x_D, GivenWords(word_D=np.asarray(word_D, np.uint32))).dense()

    first_D, last_D = at(np.zeros(d)), at(np.full(d, WORDS - 1))
    low_D, high_D = np.zeros(d, np.int64), np.full(d, WORDS - 1)  # the outcome is the first at low, the last at high
    while (high_D - low_D > 1).any():
        middle_D = (low_D + high_D) // 2
        is_first_D = at(middle_D) == first_D
        assert (is_first_D | (at(middle_D) == last_D)).all(), "more than two outcomes"
        low_D, high_D = np.where(is_first_D, middle_D, low_D), np.where(is_first_D, high_D, middle_D)
    chances = [Fraction(WORDS - int(word), WORDS) for word in high_D]
    return list(zip(first_D.tolist(), last_D.tolist(), chances, strict=True))


@pytest.fixture(scope="session")
def outcomes() -> Callable[[Compressor, Any], list[Outcome]]:
    """Both values of each entry with their exact probabilities, found by bisection over all 2^32 words."""
    return _outcomes


@pytest.fixture(scope="session")
def moments() -> Callable[[Compressor, Any], tuple[list[Fraction], Fraction]]:
    """The exact mean of every entry and E|Q(x) - x|^2 of a compressor that rounds entries independently."""

    def exact(compressor: Compressor, x_D: Any) -> tuple[list[Fraction], Fraction]:
        mean, error2 = [], Fraction(0)
        for (one, other, chance), x in zip(_outcomes(compressor, x_D), x_D.tolist(), strict=True):
            mean.append((1 - chance) * Fraction(one) + chance * Fraction(other))
            error2 += (1 - chance) * (Fraction(one) - Fraction(x)) ** 2 + chance * (Fraction(other) - Fraction(x)) ** 2
        return mean, error2

    return exact
