from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms.optimizers import rules as optimizer_rules
from saddlebag.algorithms.optimizers.rule import Rule
from saddlebag.algorithms.optimizers.rules import Adam, AdamReplica, OptimisticAdam
from saddlebag.compression.kernels.loader import LARGE, compiled

D = LARGE + 5  # no multiple of any width of vectors


@pytest.fixture
def replica() -> AdamReplica:
    rng = np.random.default_rng(0)
    z_D, first_D, second_D = (rng.standard_normal(D) * 10.0 ** rng.integers(-30, 3, D) for _ in range(3))
    first_D[:7], second_D[:7] = [0.0, -0.0, 5e-324, -5e-324, 1e-310, 1.0, 1e100], [0.0, 5e-324, 0.0, 1e-310, 1.0, 1e200, 0.0]
    z_D[5:9] = [-0.0, 0.0, 5e-324, 1e300]
    return AdamReplica(z_D, first_D, np.abs(second_D), 6)


@pytest.fixture
def gradient_D() -> np.ndarray:
    rng = np.random.default_rng(1)
    gradient_D = np.where(rng.random(D) < 0.1, rng.standard_normal(D) * 10.0 ** rng.integers(-20, 3, D), 0.0)
    gradient_D[:4] = [-0.0, 5e-324, 1e-200, -1e120]
    return gradient_D


@pytest.mark.skipif(compiled() is None, reason="no numba: pip install 'saddlebag[fast]'")
@pytest.mark.parametrize(
    ("weight_decay", "decays"), [(0.0, None), (0.02, None), (0.02, np.arange(D) % 3 > 0)], ids=["none", "everything", "some"]
)
def test_compiled_and_in_numpy_a_step_has_the_same_bits(
    replica: AdamReplica, gradient_D: np.ndarray, weight_decay: float, decays: Any
) -> None:
    before = {name: vector.tobytes() for name, vector in vars(replica).items() if name != "iteration"}
    rule = Adam(beta1=0.87, beta2=0.995, eps=1e-9, weight_decay=weight_decay, decays=decays)
    got, expected = rule.update(replica, gradient_D, 3e-3), Rule.update(rule, replica, gradient_D, 3e-3)
    assert got.iteration == expected.iteration == 7
    for name, vector in before.items():
        assert getattr(got, name).tobytes() == getattr(expected, name).tobytes(), name
        assert getattr(replica, name).tobytes() == vector, f"{name} was changed"


def test_without_numba_and_for_other_rules_it_is_numpy(
    replica: AdamReplica, gradient_D: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimistic, past = OptimisticAdam(), optimizer_rules.PastReplica(**vars(replica), past_D=replica.z_D)
    found = optimistic.update(past, gradient_D, 1e-3)
    np.testing.assert_array_equal(found.z_D, Rule.update(optimistic, past, gradient_D, 1e-3).z_D)
    monkeypatch.setattr(optimizer_rules, "_compiled", lambda: None)
    plain = Adam().update(replica, gradient_D, 1e-3)
    np.testing.assert_array_equal(plain.z_D, Rule.update(Adam(), replica, gradient_D, 1e-3).z_D)
