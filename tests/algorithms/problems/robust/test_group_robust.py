"""Group-robust training: gradients, declarations of groups, and what the adversary is for."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from saddlebag.algorithms import Stop, simulate
from saddlebag.algorithms.methods.innovations import innovations
from saddlebag.algorithms.problems import (
    PROBLEMS,
    Dataset,
    DenseRows,
    GroupRobust,
    Groups,
    LogisticRegression,
    declare_groups,
    split_rows,
)
from saddlebag.compression import Draws, Grid
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.proto.codec import LoopbackWire

COLUMNS = {
    "race": np.array(["a", "b", "a", "", "b", "a"]),
    "sex": np.array(["f", "f", "m", "m", "m", "f"]),
    "age": np.array([20.0, 40.0, np.nan, 60.0, 30.0, 45.0]),
}


def sample(num_rows: int = 300) -> Dataset:
    """Two groups whose labels depend on different features; the second is a tenth of all."""
    rng = np.random.default_rng(8)
    values_NF = rng.standard_normal((num_rows, 3))
    minority_N = np.arange(num_rows) % 10 == 0
    score_N = np.where(minority_N, values_NF[:, 1], values_NF[:, 0]) + 0.3 * rng.standard_normal(num_rows)
    columns = {"town": np.where(minority_N, "small", "large")}
    return Dataset("towns", DenseRows(values_NF), np.where(score_N > 0, 1.0, -1.0), columns)


def test_groups_are_declared_by_values_bands_and_products() -> None:
    groups = declare_groups(["race", "age@30,45", "race*sex"], COLUMNS)
    expected = {
        "race=a": [0, 2, 5],
        "race=b": [1, 4],
        "age<30": [0],
        "30<=age<45": [1, 4],
        "age>=45": [3, 5],  # a missing age is in no band
        "race=a, sex=f": [0, 5],
        "race=a, sex=m": [2],
        "race=b, sex=f": [1],
        "race=b, sex=m": [4],
    }
    assert {name: np.flatnonzero(own).tolist() for name, own in zip(groups.names, groups.member_GN, strict=True)} == expected
    assert np.allclose(groups.mean_GN.sum(axis=1), 1.0)
    assert declare_groups(["race*sex"], COLUMNS, min_rows=2).names == ("race=a, sex=f",)


@pytest.mark.parametrize(
    ("declarations", "words"),
    [
        ([], "at least one declaration"),
        (["height"], "names the column 'height'; known: race, sex, age"),
        (["age"], "holds numbers and needs bounds, such as 'age@10,20'"),
        (["sex@3"], "holds text and takes no bounds, got 'sex@3'"),
        (["age@x"], "bounds must be numbers separated by commas, got 'age@x'"),
        (["age@3,3"], "bounds must ascend"),
        (["sex", "sex"], "'sex=f' is declared twice"),
    ],
)
def test_bad_declarations(declarations: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        declare_groups(declarations, COLUMNS)


def test_a_column_of_many_values_is_refused() -> None:
    many = {"id": np.array([str(number) for number in range(5000)])}
    with pytest.raises(ConfigError, match="leads to more than 4096 groups"):
        declare_groups(["id"], many)
    with pytest.raises(ConfigError, match="none has 2 samples"):
        declare_groups(["id"], {"id": many["id"][:100]}, min_rows=2)


def test_the_operator_is_the_gradient_of_the_objective() -> None:
    problem = GroupRobust.build(sample(40), num_workers=3, groups=["town"], min_rows=1)
    rng = np.random.default_rng(0)
    z_D = problem.prox(rng.standard_normal(problem.dimension), 1.0)
    x, p = (torch.tensor(part, requires_grad=True) for part in (z_D[:-2], z_D[-2:]))
    rows = torch.tensor(problem.rows.values_NF)  # type: ignore[attr-defined]
    loss_N = torch.nn.functional.softplus(-torch.tensor(problem.labels_N) * (rows @ x))
    objective = p @ (torch.tensor(problem.groups.mean_GN) @ loss_N) + 0.5e-3 * x @ x - 0.025 * ((p - 0.5) ** 2).sum()
    objective.backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert p.grad is not None
    mean_D = np.mean([problem.operator(worker)(z_D, Draws(0, 0)) for worker in range(3)], axis=0)
    assert np.allclose(mean_D, np.concatenate((x.grad, -p.grad)), atol=1e-12)


def test_the_adversary_helps_the_worst_group_and_costs_the_mean() -> None:
    data = sample()
    robust = GroupRobust.build(data, num_workers=2, groups=["town"], min_rows=10, group_regularisation=1e-3)
    plain = LogisticRegression.build(data, num_workers=2)
    assert robust.solution is not None
    at_robust = robust.merits(robust.solution)
    at_plain = robust.merits(np.concatenate((plain.solution, [0.5, 0.5])))
    assert at_robust["worst_group_loss"] < at_plain["worst_group_loss"] - 0.1
    assert at_robust["mean_loss"] > at_plain["mean_loss"]
    assert at_plain["mean_loss"] == pytest.approx(plain.merits(plain.solution)["mean_loss"])


def test_equal_weights_in_the_limit_of_a_dear_adversary() -> None:
    """nu to infinity: the mean of the group losses is minimised."""
    problem = GroupRobust.build(sample(), num_workers=2, groups=["town"], min_rows=10, group_regularisation=1e8)
    assert problem.solution is not None
    assert problem.solution[-2:] == pytest.approx([0.5, 0.5], abs=1e-6)


def test_losses_of_groups() -> None:
    problem = GroupRobust.build(sample(), num_workers=2, groups=["town"], min_rows=10)
    loss_G, error_G = problem.losses(np.zeros(4))
    assert loss_G == pytest.approx([np.log(2)] * 2)
    assert error_G == pytest.approx([1.0, 1.0])  # a margin of 0 is wrong


def test_each_worker_is_a_group() -> None:
    problem = PROBLEMS["worker_robust"](sample(), num_workers=4)
    assert isinstance(problem, GroupRobust)
    assert problem.groups.names == ("worker 0", "worker 1", "worker 2", "worker 3")
    z_D = problem.start()
    value_D = problem.operator(2)(z_D, Draws(0, 0))
    losses_G = value_D[problem.rows.shape[1] :]
    assert losses_G == pytest.approx([0.0, 0.0, -4 * np.log(2), 0.0])  # it knows its own loss only


def test_bad_parameters() -> None:
    data = sample(20)
    with pytest.raises(ConfigError, match="needs a data set with named columns"):
        PROBLEMS["group_robust"](None, num_workers=2, groups=["town"])
    with pytest.raises(ConfigError, match="groups must be a list of texts"):
        PROBLEMS["group_robust"](data, num_workers=2, groups=[1])
    with pytest.raises(ConfigError, match="known: none; the data set has no named columns"):
        PROBLEMS["group_robust"](dataclasses.replace(data, columns={}), num_workers=2, groups=["town"])
    with pytest.raises(ConfigError, match="regularisation must be finite and at least 0, got -1"):
        PROBLEMS["group_robust"](data, num_workers=2, groups=["town"], min_rows=1, regularisation=-1.0)
    shards = split_rows(data.labels_N, 2)
    with pytest.raises(ConfigError, match="groups over 3 samples do not fit 20 rows"):
        GroupRobust(data.rows, data.labels_N, Groups(("g",), np.ones((1, 3), np.bool_)), shards)


def test_compressed_training_over_the_wire_reaches_the_worst_group_loss_of_the_solution(wire: LoopbackWire) -> None:
    problem = GroupRobust.build(sample(), num_workers=3, groups=["town"], min_rows=10)
    assert problem.solution is not None
    exact = problem.merits(problem.solution)["worst_group_loss"]
    method = innovations(problem, up=Grid(step=1.0), down=Grid(step=0.5), step_size=1.0 / problem.constants.lipschitz)
    outcome = simulate(problem, method, seed=0, stop=Stop(merit=1e-2, max_iterations=10_000, every=20), wire=wire)
    assert outcome.reason == "merit"
    assert abs(problem.merits(outcome.replica.z_D)["worst_group_loss"] - exact) < 5e-3
