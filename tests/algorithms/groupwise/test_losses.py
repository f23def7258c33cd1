from __future__ import annotations

import itertools

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import LOSSES, AbsoluteLoss, LinearLoss, LogLoss, Loss, SquaredLoss
from saddlebag.algorithms.groupwise.losses import interval_width
from saddlebag.errors import ConfigError

SCALAR = [SquaredLoss(), AbsoluteLoss(), LogLoss()]
INTERVAL = (0.0, 1.0)
Z = np.linspace(0.001, 0.999, 61)


@pytest.mark.parametrize("loss", SCALAR, ids=str)
@pytest.mark.parametrize("y", [0.0, 0.3, 1.0])
def test_slope_range_and_convexity(loss: Loss, y: float) -> None:
    z, label, h = Z[1:-1] + 1e-4, np.array(y), 1e-7
    numeric = (loss.value(z + h, label) - loss.value(z - h, label)) / (2 * h)
    assert np.allclose(loss.slope(z, label), numeric, rtol=1e-4, atol=1e-6)
    ends = np.array(list(itertools.product((0.0, 1.0), repeat=2)))
    assert loss.value(ends[:, 0], ends[:, 1]).max() <= loss.range(INTERVAL) + 1e-12
    middle = loss.value((Z[:-2] + Z[2:]) / 2, label)
    assert (middle <= (loss.value(Z[:-2], label) + loss.value(Z[2:], label)) / 2 + 1e-12).all()


@pytest.mark.parametrize("loss", [SquaredLoss(), LogLoss()], ids=str)
@pytest.mark.parametrize("y", [0.0, 0.5, 1.0])
def test_exp_concavity(loss: Loss, y: float) -> None:
    """e^(-eta l) is concave on the interval at the declared eta."""
    value = np.exp(-loss.exp_concavity(INTERVAL) * loss.value(Z, np.array(y)))
    assert (np.diff(value, 2) <= 1e-12).all()


def test_exp_concavity_of_squared_loss_is_the_largest() -> None:
    eta = 1.1 * SquaredLoss().exp_concavity(INTERVAL)
    assert (np.diff(np.exp(-eta * SquaredLoss().value(np.linspace(0, 1, 61), np.array(0.0))), 2) > 0).any()


def test_linear_loss_of_a_mixture_is_the_mixture_of_losses() -> None:
    rng = np.random.default_rng(0)
    decision_KN, cost_N, p_K = rng.random((3, 5)), rng.random(5), np.array([0.2, 0.5, 0.3])
    loss = LinearLoss(largest=5.0)
    assert loss.value(p_K @ decision_KN, cost_N) == pytest.approx(p_K @ loss.value(decision_KN, cost_N))
    assert np.array_equal(loss.slope(decision_KN, cost_N), np.tile(cost_N, (3, 1)))
    assert loss.range(INTERVAL) == 5.0
    assert loss.exp_concavity(INTERVAL) == AbsoluteLoss().exp_concavity(INTERVAL) == 0.0


def test_names_and_bad_values() -> None:
    assert set(LOSSES) == {"absolute", "linear", "log", "squared"}
    with pytest.raises(ConfigError, match="floor must lie in"):
        LogLoss(floor=0.6)
    for interval in ((1.0, 1.0), (0.0, float("inf"))):
        with pytest.raises(ConfigError, match="low < high"):
            interval_width(interval)
