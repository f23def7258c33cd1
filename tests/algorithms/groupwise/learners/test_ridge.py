from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import Ridge, add_sums, check_learner, vovk_azoury_warmuth
from saddlebag.algorithms.groupwise.kernels.loader import compiled
from saddlebag.algorithms.groupwise.learners import ridge
from saddlebag.algorithms.groupwise.learners.ridge import replay_ridge
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

ONE = np.zeros(1, np.int64)
DRAWS = Draws(0, 0)


def stream(N: int, D: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x_ND = rng.uniform(-1, 1, (N, D))
    return x_ND, x_ND @ rng.standard_normal(D) + 0.3 * rng.standard_normal(N)


def online(learner: Ridge, x_ND: Array, y_N: Array) -> Array:
    state, z_N = learner.init(1), np.empty(len(y_N))
    for t, (x_D, y) in enumerate(zip(x_ND, y_N, strict=True)):
        z_N[t] = learner.predict(state, x_D, ONE, DRAWS)[0]
        learner.advance(state, x_D, y, ONE)
    return z_N


def by_solving(x_ND: Array, y_N: Array, penalty: float, forward: bool) -> Array:
    """Each prediction from its definition, by solving a system."""
    A_DD, b_D, z = penalty * np.eye(x_ND.shape[1]), np.zeros(x_ND.shape[1]), []
    for x_D, y in zip(x_ND, y_N, strict=True):
        z.append(b_D @ np.linalg.solve(A_DD + forward * np.outer(x_D, x_D), x_D))
        A_DD, b_D = A_DD + np.outer(x_D, x_D), b_D + y * x_D
    return np.array(z)


def logdet(x_ND: Array, penalty: float) -> float:
    return float(np.linalg.slogdet(np.eye(x_ND.shape[1]) + x_ND.T @ x_ND / penalty)[1])


@pytest.mark.parametrize("forward", [False, True], ids=["ridge", "vaw"])
def test_laws(forward: bool) -> None:
    x_ND, y_N = stream(150, 4)
    check_learner(Ridge(dimension=4, forward=forward, refresh=20), x_ND, y_N)


@pytest.mark.parametrize("forward", [False, True], ids=["ridge", "vaw"])
@pytest.mark.parametrize("penalty", [1.0, 0.05])
def test_predicts_as_defined(forward: bool, penalty: float) -> None:
    x_ND, y_N = stream(300, 6)
    expected_N = by_solving(x_ND, y_N, penalty, forward)
    learner = Ridge(dimension=6, penalty=penalty, forward=forward, refresh=50)
    assert np.abs(online(learner, x_ND, y_N) - expected_N).max() < 1e-11
    assert np.abs(learner.replay(x_ND, y_N) - expected_N).max() < 1e-11


@pytest.mark.parametrize("N", [1, 95, 96, 97, 1000])
def test_replay_equals_rounds(N: int) -> None:
    x_ND, y_N = stream(N, 5, seed=N)
    assert np.abs(replay_ridge(x_ND, y_N) - online(Ridge(dimension=5), x_ND, y_N)).max() < 1e-12


def test_wide_groups_go_one_by_one_with_the_same_result() -> None:
    """From some dimension on the update works on each group in place."""
    x_ND, y_N = stream(60, 80)
    assert np.abs(online(Ridge(dimension=80), x_ND, y_N) - by_solving(x_ND, y_N, 1.0, False)).max() < 1e-11
    check_learner(Ridge(dimension=80), x_ND, y_N)


def test_long_replays_are_the_same_compiled() -> None:
    pytest.importorskip("numba")
    x_ND, y_N = stream(5000, 30, seed=1)
    assert len(y_N) * 30 * 30 >= ridge._LONG
    assert np.abs(Ridge(dimension=30, penalty=0.3).replay(x_ND, y_N) - replay_ridge(x_ND, y_N, penalty=0.3)).max() < 1e-11


def test_identity_of_ridge_losses() -> None:
    """Sum e^2 / (1 + x' A_{t-1}^-1 x) is the regularised minimum, for any order of the data."""
    x_ND, y_N = stream(400, 7, seed=4)
    penalty = 0.5
    ridge_N, vaw_N = (replay_ridge(x_ND, y_N, penalty=penalty, forward=forward) for forward in (False, True))
    A_DD = penalty * np.eye(7) + x_ND.T @ x_ND
    theta_D = np.linalg.solve(A_DD, x_ND.T @ y_N)
    minimum = ((y_N - x_ND @ theta_D) ** 2).sum() + penalty * theta_D @ theta_D
    factor_N, A_DD = [], penalty * np.eye(7)
    for x_D in x_ND:
        factor_N.append(1 + x_D @ np.linalg.solve(A_DD, x_D))
        A_DD = A_DD + np.outer(x_D, x_D)
    assert ((y_N - ridge_N) ** 2 / np.array(factor_N)).sum() == pytest.approx(minimum, rel=1e-11)
    assert np.allclose(vaw_N, ridge_N / np.array(factor_N), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_regret_is_below_the_log_det_bounds(seed: int) -> None:
    x_ND, y_N = stream(500, 5, seed=seed)
    best_D = np.linalg.lstsq(x_ND, y_N, rcond=None)[0]
    best, norm2 = ((y_N - x_ND @ best_D) ** 2).sum(), best_D @ best_D
    for forward in (False, True):
        error2_N = (y_N - replay_ridge(x_ND, y_N, forward=forward)) ** 2
        constant = (y_N**2).max() if forward else error2_N.max()
        volume = logdet(x_ND, 1.0)
        assert error2_N.sum() - best <= norm2 + constant * volume
        assert volume <= 5 * np.log(1 + len(y_N) * (x_ND**2).sum(axis=1).max() / 5)


def test_block_identity_and_bound() -> None:
    """State frozen for B rounds: sum e_b' (I - K_b) e_b is the ridge minimum, so regret <= E^2 B ln det(A_T)."""
    x_ND, y_N = stream(480, 5, seed=9)
    B, learner, total, error2 = 16, Ridge(dimension=5), 0.0, []
    state, A_DD = learner.init(1), np.eye(5)
    for at in range(0, 480, B):
        row_BD, label_B = x_ND[at : at + B], y_N[at : at + B]
        e_B = label_B - np.array([learner.predict(state, x_D, ONE, DRAWS)[0] for x_D in row_BD])
        state = learner.merge(state, learner.sums(state, row_BD, label_B, np.ones((B, 1), bool)))
        A_DD = A_DD + row_BD.T @ row_BD
        total += e_B @ e_B - e_B @ (row_BD @ np.linalg.solve(A_DD, row_BD.T)) @ e_B
        error2 += list(e_B**2)
    theta_D = np.linalg.solve(A_DD, x_ND.T @ y_N)
    minimum = ((y_N - x_ND @ theta_D) ** 2).sum() + theta_D @ theta_D
    assert total == pytest.approx(minimum, rel=1e-11)
    assert sum(error2) - minimum <= max(error2) * B * logdet(x_ND, 1.0)


def test_blocks_of_one_equal_rounds() -> None:
    x_ND, y_N = stream(200, 4, seed=2)
    learner, z = Ridge(dimension=4), []
    state = learner.init(1)
    for t in range(200):
        z.append(learner.predict(state, x_ND[t], ONE, DRAWS)[0])
        state = learner.merge(state, learner.sums(state, x_ND[t : t + 1], y_N[t : t + 1], np.ones((1, 1), bool)))
    assert np.abs(np.array(z) - online(learner, x_ND, y_N)).max() < 1e-11


def test_sums_of_workers_are_those_of_the_whole_and_rounds_may_follow() -> None:
    x_ND, y_N = stream(200, 4, seed=3)
    member_NG = np.random.default_rng(0).random((200, 3)) < 0.6
    learner = Ridge(dimension=4)
    state = learner.init(3)
    parts = [learner.sums(state, x_ND[at], y_N[at], member_NG[at]) for at in (slice(0, 70), slice(70, 150))]
    state = learner.merge(state, add_sums(*parts))
    for t in range(150, 200):
        learner.advance(state, x_ND[t], y_N[t], np.flatnonzero(member_NG[t]))
    for g in range(3):
        row_KD, label_K = x_ND[member_NG[:, g]], y_N[member_NG[:, g]]
        theta_D = np.linalg.solve(np.eye(4) + row_KD.T @ row_KD, row_KD.T @ label_K)
        assert np.abs(state.theta_GD[g] - theta_D).max() < 1e-12
    assert state.count_G.tolist() == member_NG.sum(axis=0).tolist()


@pytest.mark.parametrize("d", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("rounds", [0, 1, 2, 7, 8])
def test_the_compiled_pass_takes_rounds_and_rows_in_pairs_and_odd_ones_too(d: int, rounds: int) -> None:
    kernels = compiled()
    if kernels is None:
        pytest.skip("numba is not installed")
    x_ND, y_N = stream(10, d, seed=d)
    row_K = np.arange(rounds) + 1
    inverse_DD, theta_D, z_K = np.eye(d) / 0.7, np.zeros(d), np.empty(rounds)
    kernels.ridge_pass(inverse_DD, theta_D, x_ND, y_N, row_K, z_K)
    gram_DD = 0.7 * np.eye(d) + x_ND[row_K].T @ x_ND[row_K]
    assert z_K == pytest.approx(replay_ridge(x_ND[row_K], y_N[row_K], penalty=0.7), abs=1e-12)
    assert inverse_DD == pytest.approx(np.linalg.inv(gram_DD), abs=1e-12)
    assert theta_D == pytest.approx(np.linalg.solve(gram_DD, x_ND[row_K].T @ y_N[row_K]), abs=1e-12)


def test_the_refreshed_inverse_does_not_drift() -> None:
    """Trap of rank-one updates: a small penalty loses digits, and computing the inverse afresh brings them back."""
    x_ND, y_N = stream(3000, 10, seed=6)
    error = {}
    for refresh in (64, 10**9):
        learner = Ridge(dimension=10, penalty=1e-8, refresh=refresh)
        state = learner.init(1)
        for x_D, y in zip(x_ND[:2944], y_N[:2944], strict=True):  # 46 full buffers, so that the last round refreshes
            learner.advance(state, x_D, y, ONE)
        exact_D = np.linalg.solve(1e-8 * np.eye(10) + x_ND[:2944].T @ x_ND[:2944], x_ND[:2944].T @ y_N[:2944])
        error[refresh] = np.abs(state.theta_GD[0] - exact_D).max()
    assert error[64] < 1e-12
    assert error[10**9] > 10 * error[64]


def test_add_sums_refuses_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match="sums of different learners"):
        add_sums({"a": np.zeros(2)}, {"a": np.zeros(3)})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("dimension", 0, "dimension must be at least 1"), ("penalty", 0.0, "penalty must be"), ("refresh", 0, "refresh must be")],
)
def test_parameters_are_checked(field: str, value: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Ridge(**{"dimension": 2, field: value})  # type: ignore[arg-type]


def test_vaw_by_name() -> None:
    assert vovk_azoury_warmuth(dimension=3) == Ridge(dimension=3, forward=True)


class Misspelt(Ridge):
    """`predict_block` in another spelling, which nobody would ever ask."""

    def predict_blocks(self) -> None: ...


def test_a_public_attribute_that_no_capability_of_learners_knows_fails() -> None:
    with pytest.raises(AssertionError, match=r"Misspelt\.predict_blocks: no capability .* did you mean 'predict_block'"):
        check_learner(Misspelt(dimension=4), np.ones((8, 4)), np.ones(8))
