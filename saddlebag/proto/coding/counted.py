"""A few hundred symbols in the fewest bytes: exact arithmetic coding with adaptive counts.

Symbol number t of an alphabet of A has probability (2 c + 1) / (2 t + A), where c counts its earlier occurrences
(Krichevsky and Trofimov 1981). The length exceeds that of the best fixed probabilities, known in hindsight, by about
(A - 1) / 2 log2 t bits, and no table is sent.

All probabilities of a message of n symbols share the denominator T = A (A + 2) ... (A + 2 n - 2), so a sequence is an
interval [L, L + W) of [0, T), in whole numbers of any length: nothing is rounded, on any platform. The bytes are the
shortest big-endian fraction such that it, whatever follows it, lies in [L / T, (L + W) / T); so a reader knows where they
end, and no length is sent: an overhead of 1 bit and the last byte's padding.

Two neighbouring runs of symbols (L, W, T) and (L', W', T') make (L T' + W L', W W', T T'). Runs are joined in pairs, so the
long products are few; the same tree, from the top, reads them.

Shapes: N = symbols, A = letters of the alphabet.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from saddlebag.errors import RemoteProtocolError

if TYPE_CHECKING:
    from saddlebag.proto.reader import Reader

__all__ = ["MOST_LETTERS", "MOST_SYMBOLS", "decode_counted", "encode_counted"]

MOST_SYMBOLS, MOST_LETTERS = 1024, 32
"""Bounds of what is coded so: the time is about 1 us for each symbol, the memory A N words."""
_RUN = 16  # symbols that are read one after the other, in numbers of a few machine words
_JOINS_IN_WORDS = 2  # four probabilities with denominators below 2^12 fit a machine word

_Run: TypeAlias = tuple[int, int, int]


def encode_counted(symbol_N: npt.NDArray[np.integer[Any]], letters: int) -> bytes:
    """Code 0 <= symbol < letters; at most `MOST_SYMBOLS` symbols and `MOST_LETTERS` letters."""
    runs = _leaves(symbol_N.astype(np.int64), letters)
    while len(runs) > 1:
        if len(runs) % 2:
            runs.append((0, 1, 1))
        pairs = zip(runs[::2], runs[1::2], strict=True)
        runs = [
            (low * total_ + width * low_, width * width_, total * total_)
            for (low, width, total), (low_, width_, total_) in pairs
        ]
    num_bytes, fraction = _shortest(*(runs[0] if runs else (0, 1, 1)))
    return fraction.to_bytes(num_bytes, "big")


def _leaves(symbol_N: npt.NDArray[np.int64], letters: int) -> list[_Run]:
    """Runs of four symbols, the joins so far in machine words."""
    count = len(symbol_N)
    size = -(-count // 2**_JOINS_IN_WORDS) * 2**_JOINS_IN_WORDS
    low_N, width_N, total_N = np.zeros(size, np.int64), np.ones(size, np.int64), np.ones(size, np.int64)
    letter_A = np.arange(letters)
    once_NA = symbol_N[:, None] == letter_A
    before_NA = np.cumsum(once_NA, axis=0) - once_NA
    width_N[:count] = 2 * before_NA[np.arange(count), symbol_N] + 1
    low_N[:count] = 2 * (before_NA * (letter_A < symbol_N[:, None])).sum(axis=1) + symbol_N
    total_N[:count] = letters + 2 * np.arange(count)
    for _ in range(_JOINS_IN_WORDS):
        low_N = low_N[::2] * total_N[1::2] + width_N[::2] * low_N[1::2]
        width_N, total_N = width_N[::2] * width_N[1::2], total_N[::2] * total_N[1::2]
    return list(zip(low_N.tolist(), width_N.tolist(), total_N.tolist(), strict=True))


def _shortest(low: int, width: int, total: int) -> tuple[int, int]:
    """The fewest bytes m and a fraction B with [B, B + 1) / 256^m within [low, low + width) / total."""
    num_bytes = max(total.bit_length() - width.bit_length() - 1, 0) // 8
    while True:
        fraction = -((-low << 8 * num_bytes) // total)
        if (fraction + 1) * total <= (low + width) << 8 * num_bytes:
            return num_bytes, fraction
        num_bytes += 1


@functools.lru_cache(maxsize=4096)
def _total(letters: int, start: int, stop: int) -> int:
    """The product of the denominators of the symbols from `start` to `stop`."""
    return math.prod(range(letters + 2 * start, letters + 2 * stop, 2))


@functools.lru_cache(maxsize=256)
def _run_totals(letters: int, start: int, stop: int) -> list[tuple[int, int]]:
    """For each symbol its denominator and the product of those after it, up to `stop`."""
    return [(letters + 2 * place, _total(letters, place + 1, stop)) for place in range(start, stop)]


class _Decoder:
    """Reads the symbols of one message from the top of the tree down, from left to right."""

    def __init__(self, letters: int) -> None:
        self.letters = letters
        self.weights = [1] * letters  # 2 c + 1
        self.symbols: list[int] = []

    def read(self, point: int, start: int, stop: int) -> tuple[int, int]:
        """The interval (L, W) around `point`, 0 <= point < T, of the symbols from `start` to `stop`."""
        if stop - start <= _RUN:
            return self._read_run(point, start, stop)
        middle = (start + stop) // 2
        right = _total(self.letters, middle, stop)
        low, width = self.read(point // right, start, middle)
        low_, width_ = self.read((point - low * right) // width, middle, stop)
        return low * right + width * low_, width * width_

    def _read_run(self, point: int, start: int, stop: int) -> tuple[int, int]:
        low, width, weights = 0, 1, self.weights
        for total, right in _run_totals(self.letters, start, stop):
            slot = point // right
            letter = below = 0
            weight = weights[0]
            while slot >= below + weight:
                below += weight
                letter += 1
                weight = weights[letter]
            point = (point - below * right) // weight
            low = low * total + width * below
            width *= weight
            weights[letter] = weight + 2
            self.symbols.append(letter)
        return low, width


def decode_counted(reader: Reader, count: int, letters: int) -> npt.NDArray[np.uint8]:
    """The `count` symbols here, uint8, shape (N,).

    Raises:
        RemoteProtocolError: the bytes are no such symbols.
    """
    total = _total(letters, 0, count)
    window = min(total.bit_length() // 8 + 2, reader.left)  # no interval needs more bytes
    seen = int.from_bytes(reader.data[reader.at : reader.at + window], "big")
    decoder = _Decoder(letters)
    low, width = decoder.read(seen * total >> 8 * window, 0, count)
    num_bytes, fraction = _shortest(low, width, total)
    if num_bytes > window or fraction != seen >> 8 * (window - num_bytes):
        raise RemoteProtocolError(f"{count} counted symbols are cut short or not the shortest fraction")
    reader.take(num_bytes)
    return np.array(decoder.symbols, np.uint8)
