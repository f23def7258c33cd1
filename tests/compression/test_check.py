"""The check accepts what is right and names the broken law of what is wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from saddlebag.compression import (
    COMPRESSORS,
    Bernoulli,
    BlockInt4,
    BlockInt8,
    BlockTopK,
    Cast,
    ChunkTopK,
    Dense,
    Dithering,
    Draws,
    GreedyBlocks,
    Grid,
    HardThreshold,
    Identity,
    Natural,
    NaturalDithering,
    NearestInt4,
    NearestInt8,
    Payload,
    PermK,
    Purpose,
    RandK,
    RankR,
    SampledTopK,
    ScaledSign,
    StochasticBfloat16,
    Ternary,
    TopK,
    UnscaledRandK,
    Vector,
    check_compressor,
    compose,
    induced,
    make_compressor,
    scaled,
)

RIGHT = [
    Identity(),
    Identity(dtype="float64"),
    Natural(),
    RandK(k=1),
    RandK(fraction=0.3, support="common"),
    RankR(rank=1),
    TopK(k=1),
    TopK(fraction=0.5),
    UnscaledRandK(k=1),
    UnscaledRandK(fraction=0.3),
    BlockInt4(block=4),
    BlockInt8(),
    Cast(),
    Dithering(levels=1),
    Dithering(levels=4),
    Dithering(levels=4, norm="max", block=5),
    Grid(),
    NaturalDithering(),
    NaturalDithering(levels=3, norm="l2"),
    NearestInt4(block=4),
    NearestInt8(),
    ScaledSign(),
    ScaledSign(block=3),
    StochasticBfloat16(),
    Ternary(),
    make_compressor("budget", of="rand_k", budget_bytes=60),
    make_compressor("decay", of="top_k", parameter="fraction", first=1.0, ratio=0.5, every=50, last=0.2),
    make_compressor("schedule", pieces=[{"round": 0, "name": "identity"}, {"round": 50, "name": "natural"}]),
    Bernoulli(probability=0.25),
    BlockTopK(block=3, k=1),
    ChunkTopK(chunk=3, k=2, group=2),
    ChunkTopK(),
    GreedyBlocks(block=3, fraction=0.4),
    HardThreshold(threshold=0.5),
    PermK(workers=2),
    PermK(workers=5),
    RandK(k=1, draw="strata"),
    RandK(fraction=0.3, support="common", draw="strata"),
    SampledTopK(fraction=0.3, sample=5),
    SampledTopK(k=1),
    UnscaledRandK(fraction=0.3, draw="strata"),
    compose(sparsifier=TopK(fraction=0.3), values=Ternary()),
    compose(sparsifier=RandK(fraction=0.3, support="common"), values=BlockInt8()),
    compose(sparsifier=TopK(fraction=0.3), values=NearestInt8()),
    induced(contractive=TopK(fraction=0.3), unbiased=RandK(fraction=0.3)),
    scaled(unbiased=Natural()),
]
# functions that choose a class by the kind of their parts
COMBINATORS = {
    "budget",
    "compose",
    "decay",
    "induced",
    "per_tensor",
    "scaled",
    "schedule",
}


@pytest.mark.parametrize("compressor", RIGHT, ids=repr)
def test_right_ones_pass(compressor: Any) -> None:
    check_compressor(compressor, num_draws=300)  # the bounds are six standard errors for any number


def test_every_registered_compressor_is_among_them() -> None:
    assert {type(compressor) for compressor in RIGHT} >= {COMPRESSORS[name] for name in COMPRESSORS.keys() - COMBINATORS}


@dataclasses.dataclass(frozen=True)
class _Wrong:
    """A right compressor by default; the classes below each break one law."""

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        return Identity(dtype="float64").encode(x_D, draws)

    def bits(self, d: int) -> float:
        return 64.0 * d

    def alpha(self, d: int) -> float:
        return 1.0


class Unscaled(_Wrong):
    """Rand-k without d/k."""

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        return UnscaledRandK(fraction=0.5).encode(x_D, draws)

    alpha = None  # type: ignore[assignment]

    def omega(self, d: int) -> float:
        return 1.0


class OneCoordinateLost(_Wrong):
    """Rand-k as a public implementation had it: one coordinate is zeroed instead of d - k."""

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        return Dense(RandK(k=1).encode(x_D, draws).dense())

    def omega(self, d: int) -> float:
        return 0.5 * (d - 1)


class BiasedTopK(_Wrong):
    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        return TopK(fraction=0.5).encode(x_D, draws)

    def omega(self, d: int) -> float:
        return 1.0


class SlightlyBiased(_Wrong):
    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        return Dense(super().encode(x_D * (1 + 1e-4), draws).dense())

    def alpha(self, d: int) -> float:
        return 0.5

    def omega(self, d: int) -> float:
        return 0.5


class HalfTheLevels(_Wrong):
    """A quantiser that rounds down: a bias of half a step where an entry is not on a level."""

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        scale = max(float(np.abs(x_D).max()), 1e-30) / 7
        down_D = np.floor(x_D / scale + 0.6 * (draws.own(Purpose.ROUNDING).uniforms(len(x_D)))) * scale
        return Dense(down_D) if np.isfinite(down_D).all() else super().encode(x_D, draws)

    alpha = None  # type: ignore[assignment]

    def omega(self, d: int) -> float:
        return float(d)


class OptimisticQuantiser(_Wrong):
    """Unbiased, with a constant that is too good."""

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        return Ternary().encode(x_D, draws)

    alpha = None  # type: ignore[assignment]

    def omega(self, d: int) -> float:
        return 0.5 * Ternary().omega(d)


class OptimisticTopK(_Wrong):
    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        return TopK(fraction=0.5).encode(x_D, draws)

    def alpha(self, d: int) -> float:
        return min(1.0, 0.6 if d > 1 else 1.0)


class OptimisticRandK(_Wrong):
    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        return UnscaledRandK(fraction=0.5).encode(x_D, draws)

    def alpha(self, d: int) -> float:
        return 0.6


class Impure(_Wrong):
    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        calls.append(1)
        return Dense(x_D * (1 - 1e-9 * (len(calls) % 2)))


calls: list[int] = []  # Impure's memory


class Mutating(_Wrong):
    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        payload = super().encode(x_D, draws)
        x_D[0] = 1e-3
        return payload


class TakesNaN(_Wrong):
    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        return Dense(x_D.copy())


class TakesOverflow(_Wrong):
    """Refuses NaN but clips infinities."""

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        return super().encode(np.clip(x_D, -1e300, 1e300), draws)


class WrongDimension(_Wrong):
    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        return Dense(np.append(x_D, 0.0))


class WrongLayout(_Wrong):
    """A coordinate that occurs twice: dense() shows the last, as add_to does, but only one of two values."""

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        return _AddsTwice(super().encode(x_D, draws).dense())


class _AddsTwice(Dense):
    def add_to(self, out_D: Vector) -> None:
        out_D += self.value_D
        out_D += self.value_D


class OptimisticThreshold(_Wrong):
    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        return HardThreshold(threshold=2.0).encode(x_D, draws)

    alpha = None  # type: ignore[assignment]

    def absolute_error(self, d: int) -> float:
        return 1.0


class NoConstant(_Wrong):
    alpha = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        (Unscaled, "biased by"),
        (OneCoordinateLost, r"E\|Q\(x\)-x\|\^2"),
        (BiasedTopK, "biased by"),
        (SlightlyBiased, "biased by"),
        (HalfTheLevels, "biased by"),
        (OptimisticQuantiser, r"E\|Q\(x\)-x\|\^2"),
        (OptimisticTopK, r"> \(1-alpha\) \|x\|\^2"),
        (OptimisticRandK, r"> \(1-alpha\) \|x\|\^2"),
        (Impure, "equal arguments gave different payloads"),
        (Mutating, "encode changed its argument|equal arguments gave different payloads"),
        (TakesNaN, "accepted nan"),
        (TakesOverflow, "accepted inf"),
        (WrongDimension, "payload stands for"),
        (WrongLayout, "add_to differs from dense"),
        (OptimisticThreshold, r"> error\^2 = 1"),
        (NoConstant, r"declares neither omega\(d\) nor alpha\(d\)"),
    ],
)
def test_wrong_ones_fail(wrong: type[_Wrong], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_compressor(wrong(), dimensions=(2, 7), num_draws=1000)


def test_the_default_is_right_or_the_tests_above_prove_nothing() -> None:
    check_compressor(_Wrong(), num_draws=10)


def test_a_plug_in_may_bring_examples_of_its_parameters() -> None:
    class Shown(_Wrong):
        examples = ({},)

    check_compressor(Shown(), num_draws=10)
