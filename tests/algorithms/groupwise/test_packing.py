from __future__ import annotations

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import AdaNormalHedge, Groupwise, Ridge, SquaredLoss, pack_state, unpack_state
from saddlebag.compression import Draws
from saddlebag.errors import StateError


def test_a_state_survives_and_others_are_refused() -> None:
    algorithm = Groupwise(learner=Ridge(dimension=2), mixer=AdaNormalHedge(), loss=SquaredLoss())
    state = algorithm.init(3)
    for t in range(5):
        prediction = algorithm.predict(state, np.ones(2), np.array([1, 0, 1]), Draws(0, t))
        state = algorithm.learn(state, np.ones(2), 0.5, prediction)
    arrays = pack_state(state)
    again = pack_state(unpack_state(algorithm.init(3), arrays))
    assert {name: array.tobytes() for name, array in again.items()} == {name: array.tobytes() for name, array in arrays.items()}
    for wrong in (algorithm.init(4), Groupwise(learner=Ridge(dimension=3), mixer=AdaNormalHedge(), loss=SquaredLoss()).init(3)):
        with pytest.raises(StateError, match="does not fit"):
            unpack_state(wrong, arrays)
    with pytest.raises(StateError, match="does not fit"):
        unpack_state(state, {name: array for name, array in arrays.items() if name != "mixer.regret_E"})
