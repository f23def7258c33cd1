"""The local solver: its criterion holds, with a prox, in as many steps as the condition asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms.base import identity_prox
from saddlebag.algorithms.methods.sliding import solve


@pytest.mark.parametrize("relative", [1e-1, 1e-4, 1e-8])
@pytest.mark.parametrize("boxed", [False, True])
def test_the_residual_is_as_small_as_asked(relative: float, boxed: bool) -> None:
    rng, calls = np.random.default_rng(0), 0
    skew_DD = rng.standard_normal((6, 6))
    matrix_DD = np.eye(6) + skew_DD - skew_DD.T
    offset_D, lipschitz = rng.standard_normal(6), float(np.linalg.norm(matrix_DD, 2))

    def operator(u_D: Any) -> Any:
        nonlocal calls
        calls += 1
        return matrix_DD @ u_D + offset_D

    def clip(v_D: Any, step_size: float) -> Any:
        del step_size
        return np.clip(v_D, -0.1, 0.1)

    prox: Any = clip if boxed else identity_prox
    start_D = np.zeros(6)
    u_D = solve(operator, prox, start_D, lipschitz=lipschitz, relative=relative, most=10_000)
    # dist(0, T(u) + dh(u)): for a box, the part of T that no multiplier of an active bound can cancel
    value_D = operator(u_D)
    if boxed:
        active_D = ((u_D == 0.1) & (value_D < 0)) | ((u_D == -0.1) & (value_D > 0))
        value_D = np.where(active_D, 0.0, value_D)
    assert np.linalg.norm(value_D) <= relative * np.linalg.norm(u_D - start_D) * (1 + 1e-9) + 1e-14
    assert calls <= 2 * (2 * lipschitz) * (2 * np.log(10 * lipschitz / relative)) + 4


def test_a_limit_of_steps_is_kept() -> None:
    calls: list[int] = []

    def operator(u_D: Any) -> Any:
        calls.append(1)
        return u_D - 1.0

    told: list[str] = []
    limits: dict[str, Any] = {"lipschitz": 100.0, "relative": 1e-12, "missed": lambda: told.append("short")}
    solve(operator, identity_prox, np.zeros(3), most=3, **limits)
    assert len(calls) == 1 + 2 * 3
    assert told == ["short"]
    solve(operator, identity_prox, np.ones(3), most=3, **limits)  # there already: only rounding is left
    solve(operator, identity_prox, np.zeros(3), most=100_000, **limits)
    assert told == ["short"]
