from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saddlebag.algorithms.groupwise import distribution

logs = hnp.arrays(np.float64, (3, 5), elements=st.one_of(st.just(-np.inf), st.floats(-700, 700)))
confidences = hnp.arrays(np.float64, (3, 5), elements=st.sampled_from([0.0, 0.0, 0.25, 1.0]))


@given(logs, confidences)
def test_sums_to_one_over_the_awake(log_SE: np.ndarray, awake_SE: np.ndarray) -> None:
    prior_SE = np.broadcast_to(np.array([0.1, 0.2, 0.3, 0.2, 0.2]), (3, 5))
    chosen = distribution(log_SE, prior_SE, awake_SE)
    somebody_S = awake_SE.any(axis=1)
    assert np.allclose(chosen.p_E.sum(axis=1), somebody_S, rtol=1e-12)
    assert not chosen.p_E[awake_SE == 0].any()
    assert (chosen.p_E >= 0).all()
    dead_S = np.isneginf(np.where(awake_SE > 0, log_SE, -np.inf)).all(axis=1)
    assert (chosen.fell_back == (dead_S & somebody_S)).all()
    for s in np.flatnonzero(dead_S & somebody_S):
        expected_E = prior_SE[s] * awake_SE[s]
        assert np.allclose(chosen.p_E[s], expected_E / expected_E.sum())


def test_is_the_softmax_over_the_awake() -> None:
    log_E, awake_E = np.array([0.3, -1.0, 2.0, 5.0]), np.array([1.0, 0.5, 1.0, 0.0])
    weight_E = np.exp(log_E) * awake_E
    chosen = distribution(log_E, np.full(4, 0.25), awake_E)
    assert np.allclose(chosen.p_E, weight_E / weight_E.sum(), rtol=1e-14)
    assert not chosen.fell_back
