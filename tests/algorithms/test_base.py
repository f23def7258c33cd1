from __future__ import annotations

import numpy as np
import pytest

from saddlebag.algorithms import Constants, Message, identity_prox
from saddlebag.compression import Dense


def test_lipschitz_rms_is_a_root_mean_square() -> None:
    constants = Constants(lipschitz=2.0, lipschitz_workers=(3.0, 4.0), strong_monotonicity=0.0)
    assert constants.lipschitz_rms == pytest.approx((25 / 2) ** 0.5)


def test_identity_prox_is_the_identity() -> None:
    v_D = np.arange(3.0)
    assert identity_prox(v_D, 0.1) is v_D


def test_messages_are_frozen() -> None:
    message = Message((Dense(np.zeros(1)),))
    with pytest.raises(AttributeError):
        message.parts = ()  # type: ignore[misc]
