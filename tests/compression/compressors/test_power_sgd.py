from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.compression import Draws, PowerSGD, PowerState, in_lockstep
from saddlebag.errors import ConfigError, LocalProtocolError, NotFiniteError

SHAPES = ((12, 20), (7,), (2, 3), (5, 2, 8), ())
SGD = PowerSGD(shapes=SHAPES, rank=2)
WORKERS = 4


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def play(power: PowerSGD, x_MD: np.ndarray, states: list[PowerState], round_: int = 1) -> tuple[np.ndarray, list[PowerState]]:
    """One round; every worker gets the same vector, which is returned once."""
    halves = [power.step(x_D, state, Draws(0, round_, m)) for m, (x_D, state) in enumerate(zip(x_MD, states, strict=True))]
    results = in_lockstep(halves)
    out_D = results[0][0]
    for other_D, state in results:
        assert np.array_equal(other_D, out_D)
        assert np.array_equal(state.start_N, results[0][1].start_N)
    return out_D, [state for _, state in results]


def begin(power: PowerSGD, num_workers: int = WORKERS, **rest: Any) -> list[PowerState]:
    return [power.begin(Draws(0, 0, m), **rest) for m in range(num_workers)]


def test_what_is_compressed_and_what_it_costs() -> None:
    assert SGD.dimension == 240 + 7 + 6 + 80 + 1
    # 12 x 20 and 5 x 16 shrink below half; 2 x 3, the vector and the number do not
    assert PowerSGD(shapes=((12, 20),), rank=2).exchange_sizes() == (24, 40)
    assert PowerSGD(shapes=((5, 2, 8),), rank=2).exchange_sizes() == (80, 0), "42 values are more than half of 80"
    assert SGD.exchange_sizes() == (24 + 7 + 6 + 80 + 1, 40)
    assert SGD.bits() == 32 * (118 + 40)
    halves = SGD.step(normal(334), begin(SGD)[0], Draws(0, 1, 0))
    assert next(halves).shape == (118,)
    assert halves.send(np.ones(118)).shape == (40,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mean_of_that_rank_is_reproduced(dtype: type) -> None:
    """The mean matrix has rank 2 though no worker's has: what no single exchange can do."""
    power = PowerSGD(shapes=((12, 20),), rank=2)
    noise_MD = normal(WORKERS, 240, seed=3)
    noise_MD -= noise_MD.mean(axis=0)
    mean_D = (normal(12, 2) @ normal(2, 20, seed=2)).reshape(-1)
    x_MD = (mean_D + noise_MD).astype(dtype)
    out_D, states = play(power, x_MD, begin(power, dtype=dtype))
    assert out_D.dtype == states[0].memory_D.dtype == dtype
    np.testing.assert_allclose(out_D, mean_D, atol=1e-4 if dtype == np.float32 else 1e-12)
    for x_D, state in zip(x_MD, states, strict=True):
        assert np.array_equal(state.memory_D, x_D - out_D), "the memory subtracts the global product"


def test_many_workers_equal_the_centralised_power_iteration() -> None:
    """Warm started over rounds: the mean of the workers takes the very steps of one worker that holds the mean."""
    states, central = begin(SGD), begin(SGD, 1)
    matrix_RC = normal(12, 20, seed=9)
    start_CK = central[0].start_N.reshape(20, 2)
    memory_RC = np.zeros((12, 20))
    for round_ in range(1, 6):
        x_MD = normal(WORKERS, SGD.dimension, seed=round_)
        x_MD[:, :240] += matrix_RC.reshape(-1)
        out_D, states = play(SGD, x_MD, states, round_)
        alone_D, central = play(SGD, x_MD.mean(axis=0)[None], central, round_)
        np.testing.assert_allclose(out_D, alone_D, atol=1e-10)
        np.testing.assert_allclose(np.mean([s.memory_D for s in states], axis=0), central[0].memory_D, atol=1e-10)
        owed_RC = memory_RC + x_MD.mean(axis=0)[:240].reshape(12, 20)
        y_RK = owed_RC @ start_CK  # a projector by the normal equations, without a QR
        product_RC = y_RK @ np.linalg.solve(y_RK.T @ y_RK, y_RK.T @ owed_RC)
        memory_RC = owed_RC - product_RC
        start_CK = owed_RC.T @ np.linalg.qr(y_RK)[0]
        np.testing.assert_allclose(out_D[:240].reshape(12, 20), product_RC, atol=1e-9)


def test_warm_starts_converge_to_the_truncated_singular_value_decomposition() -> None:
    u, _, v = np.linalg.svd(normal(30, 40), full_matrices=False)
    s = np.concatenate(([3.0, 2.0], 0.5 ** np.arange(28)))
    x_D = ((u * s) @ v).reshape(-1)
    power = PowerSGD(shapes=((30, 40),), rank=2)
    state, errors = begin(power, 1), []
    for round_ in range(1, 30):
        out_D, (after,) = play(power, x_D[None], state, round_)
        state = [after.joiner()]  # the same matrix again, without what is owed
        errors.append(float(((x_D - out_D) ** 2).sum()))
    best = (s[2:] ** 2).sum()
    assert (np.diff(errors) <= 1e-12).all(), "a warm start never loses energy"
    assert errors[-1] == pytest.approx(best, rel=1e-6)
    assert errors[0] > 1.05 * best


def test_sent_and_carried_are_the_inputs_and_one_step_contracts() -> None:
    states, sent_D, given_D = begin(SGD), np.zeros(SGD.dimension), np.zeros(SGD.dimension)
    for round_ in range(1, 8):
        x_MD = normal(WORKERS, SGD.dimension, seed=round_) + np.arange(WORKERS)[:, None]
        owed_D = np.mean([s.memory_D for s in states], axis=0) + x_MD.mean(axis=0)
        out_D, states = play(SGD, x_MD, states, round_)
        carried_D = np.mean([s.memory_D for s in states], axis=0)
        sent_D, given_D = sent_D + out_D, given_D + x_MD.mean(axis=0)
        np.testing.assert_allclose(sent_D + carried_D, given_D, atol=1e-11)
        assert carried_D @ carried_D < owed_D @ owed_D
        for state in states:
            assert not state.memory_D[240:].any(), "what travels uncompressed is owed to nobody"


def test_a_random_start_contracts_in_the_mean_with_the_proven_constant() -> None:
    """Equal singular values attain it: every draw keeps rank / min(R, C)."""
    u, _, v = np.linalg.svd(normal(12, 20), full_matrices=False)
    x_D, power = (u @ v).reshape(-1), PowerSGD(shapes=((12, 20),), rank=2)
    out_D, _ = play(power, x_D[None], begin(power, 1))
    assert ((x_D - out_D) ** 2).sum() / (x_D @ x_D) == pytest.approx(1 - 2 / 12, abs=1e-12)


def test_a_joiner_brings_an_empty_memory_and_the_common_start() -> None:
    states = begin(SGD, 3)
    _, states = play(SGD, normal(3, SGD.dimension), states)
    states = [*states, states[0].joiner()]
    assert not states[3].memory_D.any()
    assert states[0].memory_D.any(), "the donor keeps its own"
    play(SGD, normal(4, SGD.dimension), states, 2)  # and all still agree


def test_directions_that_die_are_drawn_anew() -> None:
    """A round of zeros leaves a zero start, whose basis is the first rows; the next matrix has nothing there."""
    power = PowerSGD(shapes=((12, 20),), rank=2)
    _, states = play(power, np.zeros((2, 240)), begin(power, 2))
    assert not states[0].start_N.any()
    matrix_RC = np.zeros((12, 20))
    matrix_RC[4:6] = normal(2, 20)
    out_D, _ = play(power, np.stack([matrix_RC.reshape(-1)] * 2), states, 2)
    np.testing.assert_allclose(out_D, matrix_RC.reshape(-1), atol=1e-12)


def test_workers_must_take_part_in_the_same_exchanges() -> None:
    other = PowerSGD(shapes=((12, 21),), rank=2)
    halves = [p.step(np.ones(p.dimension), p.begin(Draws(0, 0)), Draws(0, 1, 0)) for p in (SGD, other)]
    with pytest.raises(LocalProtocolError, match="workers' exchanges differ"):
        in_lockstep(halves)
    first, last = (PowerSGD(shapes=shapes, rank=1) for shapes in (((4,),), ((4, 4), (0 + 2,))))
    with pytest.raises(LocalProtocolError, match="workers' exchanges differ"):
        in_lockstep([p.step(np.ones(p.dimension), p.begin(Draws(0, 0)), Draws(0, 1, 0)) for p in (first, last)])


def test_refusals() -> None:
    x_D = np.ones(SGD.dimension)
    x_D[5] = np.nan
    with pytest.raises(NotFiniteError, match="must be finite, got nan at coordinate 5"):
        next(SGD.step(x_D, begin(SGD)[0], Draws(0, 1, 0)))
    with pytest.raises(ConfigError, match="describe 334 coordinates, got a vector of 3"):
        next(SGD.step(np.ones(3), begin(SGD)[0], Draws(0, 1, 0)))
    for params, message in (
        ({"rank": 0}, "rank must be a whole number of at least 1, got 0"),
        ({"worth": 1.0}, r"worth must lie in \(0, 1\), got 1.0"),
        ({"shapes": ()}, "shapes must list shapes"),
        ({"shapes": ((3, -1),)}, "shapes must list shapes of sides from 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            PowerSGD(**({"shapes": SHAPES} | params))
