"""The laws of a compressor: passing them is the definition of a correct plug-in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.capabilities import require_known
from saddlebag.compression.base import CAPABILITIES, Absolute, Compressor, Contractive, Unbiased
from saddlebag.compression.draws import Draws
from saddlebag.errors import NotFiniteError

if TYPE_CHECKING:
    from saddlebag.compression.payload import Vector

__all__ = ["check_compressor"]

_SIGMAS = 6.0  # a correct compressor fails one statistical check in 5e8
_UNSEEN = 21.0  # -ln of the same probability: an event that n draws have not shown is rarer than 21 / n
_WIRE_ROUNDING = 1e-6  # relative; float32 values


def check_compressor(
    compressor: Compressor, *, dimensions: tuple[int, ...] = (0, 1, 2, 7, 64), num_draws: int = 4000, seed: int = 0
) -> None:
    """Check the laws of a compressor on hard vectors; raises `AssertionError` with the law that is broken.

    1. `encode` is a function of (vector, draws) and leaves its argument alone.
    2. `add_to` adds what `dense` shows.
    3. It declares omega, alpha or an absolute error, and the constant holds: the mean and the second moment over `num_draws`
       draws lie within six standard errors of the law (deterministic compressors: exactly), and within what so many draws
       need not show of rare events.
    4. NaN and infinities are refused with `NotFiniteError`.
    5. It has no public attribute but its fields, its contract's and the capabilities of `base.py`.
    6. The empty vector (d = 0, as of a parameter without entries) is one like others: a payload of 0 coordinates and 0 bits,
       with constants that are finite, omega and the error not negative, alpha in (0, 1].

    Compressors that need a minimal dimension are given `dimensions` to suit.

    Example:
        >>> import saddlebag as sb
        >>> sb.check_compressor(sb.make_compressor("top_k", k=1), dimensions=(1, 7), num_draws=10)
    """
    assert isinstance(compressor, Unbiased | Contractive | Absolute), (
        f"{compressor} declares neither omega(d) nor alpha(d), nor absolute_error(d)"
    )
    require_known(compressor, CAPABILITIES)
    for d in dimensions:
        if d == 0:
            _check_empty(compressor, seed)
            continue
        for x_D in _hard_vectors(d, seed):
            _check_function(compressor, x_D, seed)
            _check_constants(compressor, x_D, num_draws, seed)
        for bad in (math.nan, math.inf, -math.inf):
            _check_refused(compressor, d, bad)


def _check_empty(compressor: Compressor, seed: int) -> None:
    for dtype in (np.float32, np.float64):
        _check_function(compressor, np.empty(0, dtype), seed)
    assert compressor.bits(0) == 0, f"{compressor}: an empty vector takes {compressor.bits(0)} bits"
    if isinstance(compressor, Unbiased):
        assert 0 <= compressor.omega(0) < math.inf, f"{compressor}: omega = {compressor.omega(0)} for d = 0"
    if isinstance(compressor, Contractive):
        assert 0 < compressor.alpha(0) <= 1, f"{compressor}: alpha = {compressor.alpha(0)} for d = 0"
    if isinstance(compressor, Absolute):
        assert 0 <= compressor.absolute_error(0) < math.inf, f"{compressor}: error = {compressor.absolute_error(0)} for d = 0"


def _hard_vectors(d: int, seed: int) -> list[Vector]:
    normal_D = np.random.default_rng(seed).standard_normal(d)
    one_hot_D = np.zeros(d)
    one_hot_D[-1] = -3.0
    return [np.zeros(d), np.ones(d), one_hot_D, normal_D, normal_D * np.logspace(-8, 4, d)]  # within float16's range


def _check_function(compressor: Compressor, x_D: Vector, seed: int) -> None:
    before_D = x_D.copy()
    draws = Draws(seed, 3, 1)
    first, again = compressor.encode(x_D, draws), compressor.encode(x_D, draws)
    assert np.array_equal(first.dense(), again.dense()), f"{compressor}: equal arguments gave different payloads"
    assert np.array_equal(x_D, before_D), f"{compressor}: encode changed its argument"
    assert first.dimension == len(x_D), f"{compressor}: payload stands for {first.dimension} coordinates, not {len(x_D)}"
    out_D = np.linspace(-1.0, 1.0, len(x_D))
    expected_D = out_D + first.dense()
    first.add_to(out_D)
    assert np.array_equal(out_D, expected_D), f"{compressor}: add_to differs from dense"


def _check_constants(compressor: Compressor, x_D: Vector, num_draws: int, seed: int) -> None:
    d, norm2 = len(x_D), float(x_D @ x_D)
    outcome_ND = np.stack([compressor.encode(x_D, Draws(seed, round_, 1)).dense() for round_ in range(num_draws)])
    error2_N = ((outcome_ND - x_D) ** 2).sum(axis=1)
    slack = _SIGMAS * float(error2_N.std()) / math.sqrt(num_draws) + _WIRE_ROUNDING * norm2
    if isinstance(compressor, Unbiased):
        bound = compressor.omega(d) * norm2
        assert error2_N.mean() <= bound + slack, (
            f"{compressor}: E|Q(x)-x|^2 = {error2_N.mean():.6g} > omega |x|^2 = {bound:.6g}"
        )
        bias_D = np.abs(outcome_ND.mean(axis=0) - x_D)
        allowed_D = _SIGMAS * outcome_ND.std(axis=0) / math.sqrt(num_draws) + _WIRE_ROUNDING * np.abs(x_D)
        # what so many draws need not show: an entry far below a quantiser's step that leaves 0, another that takes its step
        step = float(np.ptp(outcome_ND, axis=0).max())
        allowed_D += _UNSEEN / num_draws * np.where(outcome_ND.any(axis=0), step, max(step, float(np.abs(outcome_ND).max())))
        assert (bias_D <= allowed_D).all(), f"{compressor}: biased by {bias_D.max():.3g} on {x_D}"
    if isinstance(compressor, Contractive):
        bound = (1.0 - compressor.alpha(d)) * norm2
        assert error2_N.mean() <= bound + slack, (
            f"{compressor}: E|C(x)-x|^2 = {error2_N.mean():.6g} > (1-alpha) |x|^2 = {bound:.6g}"
        )
    if isinstance(compressor, Absolute):
        bound = compressor.absolute_error(d) ** 2
        assert error2_N.mean() <= bound + slack, f"{compressor}: E|C(x)-x|^2 = {error2_N.mean():.6g} > error^2 = {bound:.6g}"


def _check_refused(compressor: Compressor, d: int, bad: float) -> None:
    x_D = np.ones(d)
    x_D[d // 2] = bad
    try:
        compressor.encode(x_D, Draws(0, 0, 0))
    except NotFiniteError:
        return
    raise AssertionError(f"{compressor}: accepted {bad}")
