from __future__ import annotations

import math

import numpy as np
import pytest

from saddlebag.compression import (
    Concat,
    Dense,
    Draws,
    Half,
    Levels,
    LowRank,
    PowersOfTwo,
    RandK,
    Sparse,
    Total,
)
from saddlebag.launch.advice.entropy import entropy_bits, entropy_of, log2_binomial


def test_binomials() -> None:
    assert log2_binomial(10, 3) == pytest.approx(math.log2(120))
    assert log2_binomial(5, 0) == log2_binomial(5, 5) == 0
    assert log2_binomial(1_000_000, 10_000) == pytest.approx(math.log2(math.comb(1_000_000, 10_000)), rel=1e-9)


def test_entropy_of_symbols() -> None:
    assert entropy_of(np.array([], np.int8)) == 0
    assert entropy_of(np.full(9, -7, np.int8)) == 0
    assert entropy_of(np.array([-128, 127] * 4, np.int8)) == 8
    assert entropy_of(np.array([0, 0, 0, 1], np.int16)) == pytest.approx(3 * math.log2(4 / 3) + 2)


def test_layouts() -> None:
    four = Dense(np.ones(4, np.float32))
    sparse = Sparse(10, np.array([1, 4, 5]), Dense(np.ones(3, np.float32)))
    assert entropy_bits(four) == 128
    assert entropy_bits(Half(np.ones(4, np.float32), "bfloat16")) == 64
    assert entropy_bits(sparse) == pytest.approx(math.log2(120) + 96)
    assert entropy_bits(Levels(np.array([0, 1, 2, 3], np.int8), np.ones(1, np.float32), 4)) == 8 + 32
    assert entropy_bits(PowersOfTwo(np.array([1, -1, 0.5, 0], np.float32))) == 8
    assert entropy_bits(RandK(k=2).encode(np.ones(5), Draws(0, 0, 0))) == 64
    assert entropy_bits(LowRank(6, np.ones((2, 1), np.float32), np.ones((3, 1), np.float32))) == 160
    assert entropy_bits(Concat((four, sparse))) == entropy_bits(Total((sparse, four))) == 128 + entropy_bits(sparse)
    assert math.isnan(entropy_bits(object()))  # type: ignore[arg-type]
