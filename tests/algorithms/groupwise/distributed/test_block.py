from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import AdaNormalHedge, Groupwise, Ridge, Specialists, SquaredLoss, predict_block
from saddlebag.compression import Draws

D, G, N = 3, 4, 25


def trained(algorithm: Groupwise, rng: np.random.Generator) -> Any:
    state = algorithm.init(G)
    for t in range(60):
        x_D, awake_G = rng.random(D), rng.random(G) < 0.5
        prediction = algorithm.predict(state, x_D, awake_G, Draws(0, t))
        state = algorithm.learn(state, x_D, float(x_D.sum() / D), prediction)
    return state


@pytest.mark.parametrize("shadows", [False, True])
@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize("output", ["mixture", "sample"])
def test_a_block_is_its_rows_one_by_one(shadows: bool, forward: bool, output: Any) -> None:
    algorithm = Groupwise(
        learner=Ridge(dimension=D, forward=forward),
        mixer=AdaNormalHedge(),
        loss=SquaredLoss(),
        output=output,
        charge="expected",
        interval=(0.0, 0.8),
        default=0.5,
        always_on=1,
        shadows=shadows,
    )
    rng = np.random.default_rng(0)
    state = trained(algorithm, rng)
    x_ND, awake_NG = rng.random((N, D)), (rng.random((N, G)) < 0.4) * rng.random((N, G))
    awake_NG[3] = 0.0  # nobody
    block = predict_block(algorithm, state, x_ND, awake_NG, lambda row: Draws(0, 1000 + row))
    for row in range(N):
        alone = algorithm.predict(state, x_ND[row], awake_NG[row], Draws(0, 1000 + row))
        for name in ("value", "p_E", "z_E", "awake_E"):
            np.testing.assert_allclose(getattr(block[row], name), getattr(alone, name), rtol=1e-12, atol=1e-14, err_msg=name)
        assert block[row].fell_back == alone.fell_back
    assert block.value_N[3] == 0.5


def test_a_learner_without_a_form_for_blocks_is_asked_row_by_row() -> None:
    class Plain(Ridge):
        predict_block = None  # type: ignore[assignment]

    both = [Groupwise(learner=kind(dimension=D), mixer=Specialists(rate=0.5), loss=SquaredLoss()) for kind in (Ridge, Plain)]
    rng = np.random.default_rng(1)
    state = trained(both[0], rng)
    x_ND, awake_NG = rng.random((N, D)), rng.random((N, G)) < 0.5
    first, second = (predict_block(each, state, x_ND, awake_NG, lambda row: Draws(0, row)) for each in both)
    np.testing.assert_allclose(first.value_N, second.value_N, rtol=1e-12)
