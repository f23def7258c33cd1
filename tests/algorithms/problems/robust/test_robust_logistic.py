"""Robust logistic regression: gradients, constants, prox and solution, each against an independent account."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlebag.algorithms.problems import PROBLEMS, Dataset, DenseRows, RobustLogisticRegression, SparseRows, split_rows
from saddlebag.algorithms.problems.robust.robust_primal import logistic
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError
from saddlebag.launch.data.rows import load_data

DRAWS = Draws(0, 0)


def small_problem(seed: int, num_rows: int = 12, num_workers: int = 3, **params: float) -> RobustLogisticRegression:
    rng = np.random.default_rng(seed)
    matrix_NF = rng.standard_normal((num_rows, 4)) * rng.exponential(size=(num_rows, 1))
    labels_N = np.where(rng.random(num_rows) < 0.4, -1.0, 1.0)
    shards = split_rows(labels_N, num_workers, seed=seed)
    return RobustLogisticRegression(DenseRows(matrix_NF), labels_N, shards, **params)  # type: ignore[arg-type]


@functools.cache
def breast_cancer(split: str) -> RobustLogisticRegression:
    return RobustLogisticRegression.build(load_data("breast_cancer"), num_workers=4, split=split)


def mean_operator(problem: RobustLogisticRegression, z_D: np.ndarray) -> np.ndarray:
    values = [problem.operator(worker)(z_D, DRAWS) for worker in range(problem.num_workers)]
    return np.asarray(np.mean(values, axis=0))


def random_feasible(problem: RobustLogisticRegression, rng: np.random.Generator) -> np.ndarray:
    """Weights from nearly equal to nearly all on one sample, where the curvature bound is attained."""
    num_rows, num_features = problem.rows.shape
    p_N = rng.dirichlet(np.full(num_rows, 10.0 ** rng.uniform(-2, 2)))
    x_F = 10.0 ** rng.uniform(-2, 1) * rng.standard_normal(num_features)
    return np.concatenate((x_F, num_rows**0.5 * p_N))


def payoff(problem: RobustLogisticRegression, z_D: torch.Tensor, shard: np.ndarray | None = None) -> torch.Tensor:
    """f, or the f_m of the worker that holds the shard, written down once more."""
    num_rows, num_features = problem.rows.shape
    x_F, q_N = z_D[:num_features], z_D[num_features:]
    assert isinstance(problem.rows, DenseRows)
    margin_N = torch.from_numpy(problem.labels_N) * (torch.from_numpy(problem.rows.values_NF) @ x_F)
    term_N = q_N * torch.nn.functional.softplus(-margin_N, threshold=1e9) / num_rows**0.5
    data = term_N.sum() if shard is None else problem.num_workers * term_N[torch.from_numpy(shard)].sum()
    penalty = problem.sample_regularisation / 2 * ((q_N - num_rows**-0.5) ** 2).sum()
    value: torch.Tensor = data + problem.regularisation / 2 * (x_F**2).sum() - penalty
    return value


def autograd_operator(problem: RobustLogisticRegression, z_D: np.ndarray, shard: np.ndarray | None = None) -> np.ndarray:
    z = torch.tensor(z_D, requires_grad=True)
    payoff(problem, z, shard).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    num_features = problem.rows.shape[1]
    return np.concatenate((z.grad[:num_features].numpy(), -z.grad[num_features:].numpy()))


@given(st.integers(0, 2**32))
@settings(deadline=None)
def test_operators_are_the_gradients(seed: int) -> None:
    problem = small_problem(seed, regularisation=0.3, sample_regularisation=0.7)
    z_D = random_feasible(problem, np.random.default_rng(seed))
    for worker, shard in enumerate(problem.shards):
        expected_D = autograd_operator(problem, z_D, shard)
        assert problem.operator(worker)(z_D, DRAWS) == pytest.approx(expected_D, rel=1e-12, abs=1e-12)
    assert mean_operator(problem, z_D) == pytest.approx(autograd_operator(problem, z_D), rel=1e-12, abs=1e-12)


@given(st.integers(0, 2**32), st.integers(1, 5))
@settings(deadline=None)
def test_constants_bound_what_is_seen(seed: int, num_workers: int) -> None:
    rng = np.random.default_rng(seed)
    lam, nu = 10.0 ** rng.uniform(-3, 1, size=2)
    problem = small_problem(seed, num_workers=num_workers, regularisation=lam, sample_regularisation=nu)
    constants = problem.constants
    for far in (True, False):
        u_D = random_feasible(problem, rng)
        towards_D = random_feasible(problem, rng) - u_D
        v_D = u_D + (1.0 if far else 1e-5) * towards_D
        distance = np.linalg.norm(u_D - v_D)
        slack = 1e-13 * (1 + np.linalg.norm(u_D))  # rounding of the operator
        for worker, constant in enumerate(constants.lipschitz_workers):
            operator = problem.operator(worker)
            assert np.linalg.norm(operator(u_D, DRAWS) - operator(v_D, DRAWS)) <= constant * distance + slack
        change_D = mean_operator(problem, u_D) - mean_operator(problem, v_D)
        assert np.linalg.norm(change_D) <= constants.lipschitz * distance + slack
        assert change_D @ (u_D - v_D) >= constants.strong_monotonicity * distance**2 - slack * distance


def test_constants_are_not_far_off() -> None:
    problem = breast_cancer("even")
    num_rows, num_features = problem.rows.shape
    all_on_one_D = np.concatenate((np.zeros(num_features), num_rows**0.5 * np.eye(num_rows)[0]))
    steps = 1e-6 * np.eye(problem.dimension)[:num_features]
    columns = [(mean_operator(problem, all_on_one_D + s) - mean_operator(problem, all_on_one_D - s)) / 2e-6 for s in steps]
    assert np.linalg.norm(np.array(columns), 2) > problem.constants.lipschitz / 2


@pytest.mark.parametrize(("split", "lipschitz_rms"), [("even", 1.8681), ("label_skew", 1.9147)])
def test_breast_cancer_figures(split: str, lipschitz_rms: float) -> None:
    constants = breast_cancer(split).constants
    assert constants.lipschitz == pytest.approx(0.7731, abs=1e-4)
    assert constants.lipschitz_rms == pytest.approx(lipschitz_rms, abs=1e-4)
    assert constants.strong_monotonicity == 0.05


def test_prox_projects_the_weights_only() -> None:
    problem = small_problem(0)
    z_D = np.random.default_rng(0).standard_normal(problem.dimension)
    num_rows, num_features = problem.rows.shape
    projected_D = problem.prox(z_D, 0.3)
    assert np.array_equal(projected_D, problem.prox(z_D, 7.0))
    assert np.array_equal(projected_D[:num_features], z_D[:num_features])
    assert projected_D[num_features:].min() >= 0
    assert projected_D[num_features:].sum() == pytest.approx(num_rows**0.5)
    start_D = problem.start()
    assert problem.prox(start_D, 1.0) == pytest.approx(start_D, abs=1e-15)
    assert not problem.unconstrained


def violation(problem: RobustLogisticRegression, z_D: np.ndarray) -> float:
    """max over feasible q' and unit x' of <F(z), z - z'>: 0 at the solution. Linear, so attained at a vertex."""
    num_rows, num_features = problem.rows.shape
    value_D = mean_operator(problem, z_D)
    slope_N = value_D[num_features:]
    return float(np.linalg.norm(value_D[:num_features]) + slope_N @ z_D[num_features:] - num_rows**0.5 * slope_N.min())


@pytest.mark.parametrize("split", ["even", "label_skew"])
def test_solution_of_breast_cancer(split: str) -> None:
    problem = breast_cancer(split)
    z_D = problem.solution
    assert abs(violation(problem, z_D)) < 1e-12
    merits = problem.merits(z_D)
    assert list(merits) == ["relative_error", "natural_residual", "worst_case_loss", "error_rate"]
    assert merits["relative_error"] == 0.0
    assert merits["natural_residual"] < 1e-12
    assert merits["error_rate"] < 0.03
    start = problem.merits(problem.start())
    assert start["relative_error"] == pytest.approx(1.0, rel=1e-15)
    assert start["worst_case_loss"] == pytest.approx(np.log(2))
    assert start["worst_case_loss"] > merits["worst_case_loss"]


@pytest.mark.parametrize("lam", [1e-4, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("nu", [1e-4, 1e-2, 1.0, 100.0])
def test_solution_at_all_strengths(lam: float, nu: float) -> None:
    problem = small_problem(4, num_rows=40, regularisation=lam, sample_regularisation=nu)
    assert problem.merits(problem.solution)["natural_residual"] < max(1e-13, 1e-15 / min(lam, nu))
    assert abs(violation(problem, problem.solution)) < 1e-10


def test_solution_agrees_with_scipy() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    problem = small_problem(1, num_rows=6, regularisation=0.2, sample_regularisation=0.1)
    num_rows, num_features = problem.rows.shape
    solution_D = problem.solution
    x_F, q_N = solution_D[:num_features], solution_D[num_features:]

    def value(x_F: np.ndarray, q_N: np.ndarray) -> float:
        return float(payoff(problem, torch.from_numpy(np.concatenate((x_F, q_N)))))

    best_x = optimize.minimize(lambda x_F: value(x_F, q_N), np.zeros(num_features), tol=1e-10)
    assert best_x.x == pytest.approx(x_F, abs=1e-6)
    sums_up = {"type": "eq", "fun": lambda q_N: q_N.sum() - num_rows**0.5}
    bounds = [(0, None)] * num_rows
    start_N = np.full(num_rows, num_rows**-0.5)
    best_q = optimize.minimize(lambda q_N: -value(x_F, q_N), start_N, bounds=bounds, constraints=sums_up, tol=1e-14)
    assert best_q.x == pytest.approx(q_N, abs=1e-6)
    assert problem.merits(solution_D)["worst_case_loss"] == pytest.approx(-best_q.fun, abs=1e-10)


def test_extragradient_reaches_the_solution() -> None:
    problem = small_problem(2, num_rows=20, regularisation=0.3, sample_regularisation=0.2)
    constants = problem.constants
    step_size, z_D = 1 / (4 * constants.lipschitz), problem.start()
    num_steps = 400
    for _ in range(num_steps):
        half_D = problem.prox(z_D - step_size * mean_operator(problem, z_D), step_size)
        z_D = problem.prox(z_D - step_size * mean_operator(problem, half_D), step_size)
    # Mokhtari, Ozdaglar, Pattathil 2020, Theorem 7: the squared error shrinks by 1 - mu/(4 L) at each step
    rate = 1 - constants.strong_monotonicity / (4 * constants.lipschitz)
    assert problem.merits(z_D)["relative_error"] <= rate ** (num_steps / 2)


def test_sparse_and_dense_rows_give_one_problem() -> None:
    dense = small_problem(5)
    assert isinstance(dense.rows, DenseRows)
    num_rows, num_features = dense.rows.shape
    columns_E, starts = np.tile(np.arange(num_features), num_rows), num_features * np.arange(num_rows + 1)
    rows = SparseRows(dense.rows.values_NF.ravel(), columns_E, starts, num_features)
    sparse = RobustLogisticRegression(rows, dense.labels_N, dense.shards)
    z_D = random_feasible(dense, np.random.default_rng(5))
    for worker in range(3):
        assert sparse.operator(worker)(z_D, DRAWS) == pytest.approx(dense.operator(worker)(z_D, DRAWS), abs=1e-14)
    assert sparse.constants.lipschitz_workers == pytest.approx(dense.constants.lipschitz_workers, rel=1e-8)
    assert sparse.solution == pytest.approx(dense.solution, abs=1e-11)


def test_logistic_is_stable_at_any_margin() -> None:
    margin_N = np.array([-np.inf, -1e308, -800.0, -1.0, 0.0, 1.0, 800.0, 1e308, np.inf])
    loss_N, slope_N = logistic(margin_N)
    assert loss_N[[0, 1, 2, 6, 7, 8]].tolist() == [np.inf, 1e308, 800.0, 0.0, 0.0, 0.0]
    assert slope_N[[0, 1, 2, 4, 7, 8]].tolist() == [1.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    assert loss_N[3:6] == pytest.approx(np.log1p(np.exp(-margin_N[3:6])), rel=1e-15)


def test_far_points_do_not_warn() -> None:
    problem = small_problem(6)
    z_D = 1e150 * random_feasible(problem, np.random.default_rng(6))
    assert np.isfinite(problem.operator(0)(z_D, DRAWS)).all()
    assert problem.merits(z_D)["relative_error"] > 1e100


def test_operator_is_a_function() -> None:
    problem = breast_cancer("even")
    z_D = random_feasible(problem, np.random.default_rng(7))
    before_D = z_D.copy()
    again = RobustLogisticRegression.build(load_data("breast_cancer"), num_workers=4)
    values = {p.operator(1)(z_D.copy(), Draws(round_, round_)).tobytes() for p in (problem, again) for round_ in range(3)}
    assert len(values) == 1
    problem.merits(z_D)
    assert np.array_equal(z_D, before_D)


def data_set(num_rows: int = 4) -> Dataset:
    return Dataset("four", DenseRows(np.arange(2.0 * num_rows).reshape(num_rows, 2) ** 2), np.tile([1.0, -1.0], num_rows // 2))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"num_workers": 5}, r"workers must lie in 1\.\.4"),
        ({"num_workers": 2, "split": "odd"}, "unknown split 'odd'"),
        ({"num_workers": 2, "regularisation": 0.0}, "four: regularisation must be positive and finite, got 0.0"),
        ({"num_workers": 2, "sample_regularisation": -1.0}, "sample_regularisation must be positive and finite"),
    ],
)
def test_bad_parameters(params: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PROBLEMS["robust_logistic"](data_set(), **params)


def test_data_are_needed() -> None:
    with pytest.raises(ConfigError, match="robust_logistic needs data"):
        PROBLEMS["robust_logistic"](None, num_workers=2)


@pytest.mark.parametrize(
    ("labels", "shards", "words"),
    [
        ([1, 0, 1, -1], [[0, 1], [2, 3]], "labels must be -1 or \\+1, one for each of 4 rows"),
        ([1, -1, 1], [[0, 1], [2, 3]], "one for each of 4 rows"),
        ([1, -1, 1, -1], [[0, 1], [2]], "exactly one shard"),
        ([1, -1, 1, -1], [[0, 1], [1, 2, 3]], "exactly one shard"),
        ([1, -1, 1, -1], [[0, 1, 2, 3], []], "at least one row"),
        ([1, -1, 1, -1], [], "exactly one shard"),
    ],
)
def test_bad_parts(labels: list[float], shards: list[list[int]], words: str) -> None:
    parts = tuple(np.array(shard, np.int64) for shard in shards)
    with pytest.raises(ConfigError, match=words):
        RobustLogisticRegression(DenseRows(np.ones((4, 2))), np.array(labels, np.float64), parts)


def test_a_solution_out_of_reach_is_refused() -> None:
    problem = RobustLogisticRegression.build(data_set(), num_workers=1, regularisation=1e-18, sample_regularisation=1e-18)
    with pytest.raises(ConfigError, match=r"raise regularisation=1e-18"):
        _ = problem.solution
