"""The names of a session: what `dir(saddlebag)` lists, what they take, and what they give back."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.sparse import csr_array

import saddlebag as sb
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError, DataError

ROWS_NF = np.random.default_rng(0).standard_normal((30, 4))
LABEL_N = ROWS_NF[:, 0] > 0


@pytest.fixture
def run() -> sb.Outcome:
    game = sb.make_problem("bilinear", n=10, workers=2)
    return sb.simulate(game, sb.make_method("ogda", game, step_size="auto"), stop=1e-3)


def test_dir_is_the_index_and_every_name_says_what_it_is_for() -> None:
    assert dir(sb) == sorted(sb.__all__)
    for name in set(sb.__all__) - {"__version__"}:
        assert (inspect.getdoc(getattr(sb, name)) or "").strip(), f"saddlebag.{name} has no docstring"


def test_a_run_without_a_stop_ends_at_the_stated_merit(run: sb.Outcome) -> None:
    game = sb.make_problem("bilinear", n=5, workers=2)
    assert sb.simulate(game, sb.make_method("ogda", game, step_size="auto")).merits["relative_error"] <= 1e-6
    assert 1e-6 < run.merits["relative_error"] <= 1e-3


def test_whole_numbers_could_mean_rounds() -> None:
    game = sb.make_problem("bilinear", n=5, workers=2)
    with pytest.raises(sb.ConfigError, match=r"stop=10 .* Stop\(max_rounds=10\)"):
        sb.simulate(game, sb.make_method("ogda", game), stop=10)


def test_no_step_size_is_the_theory_s_in_every_way_of_saying_it() -> None:
    game = sb.make_problem("bilinear", n=5, workers=2)
    steps = {sb.make_method("ogda", game, **given).step_size for given in ({}, {"step_size": None}, {"step_size": "theory"})}
    assert len(steps) == 1


def test_an_outcome_says_what_a_person_asks_first(run: sb.Outcome) -> None:
    assert np.array_equal(run.z, run.replica.z_D)
    assert (run.bytes.up, run.bytes.down, run.bytes.total) == (run.up_bytes, run.down_bytes, run.up_bytes + run.down_bytes)
    assert run.bytes.up_each == run.up_bytes / 2
    assert "\n" not in repr(run)
    assert repr(run).startswith("<Outcome: reached, relative_error 0.00")
    assert len(repr(run)) < 160
    assert "<th>relative_error</th>" in run._repr_html_()


def test_an_outcome_s_history_as_table_rows_and_plot(run: sb.Outcome) -> None:
    first, *rest = run.rows()
    assert (first["round"], first["relative_error"]) == (0, pytest.approx(1.0))
    assert [row["round"] for row in rest] == [record.round for record in run.history]
    lines = run.table().splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == list(first)
    assert lines[-1].split()[0] == f"{run.rounds:,}"
    assert isinstance(run.plot(), Figure)


@pytest.mark.parametrize("sparse", [False, True])
def test_arrays_are_data(sparse: bool) -> None:
    rows: Any = csr_array(ROWS_NF) if sparse else ROWS_NF
    problem = sb.make_problem("robust_logistic", data=(rows, LABEL_N), workers=3)
    assert (problem.num_workers, problem.dimension) == (3, 5 + 30)


def test_shards_stay_where_they_are() -> None:
    shards = [(ROWS_NF[:7], LABEL_N[:7]), (ROWS_NF[7:], LABEL_N[7:])]
    problem: Any = sb.make_problem("robust_logistic", data=shards)
    assert [shard.tolist() for shard in problem.shards] == [list(range(7)), list(range(7, 30))]
    with pytest.raises(sb.ConfigError, match="2 shards, one for each worker, got 3 workers"):
        sb.make_problem("robust_logistic", data=shards, workers=3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ((ROWS_NF, LABEL_N[:-1]), "X has 30 rows, y 29 labels"),
        ((ROWS_NF * np.inf, LABEL_N), "X must be finite"),
        ((ROWS_NF * 1e200, LABEL_N), r"X must hold numbers of size 1e\+50 at most"),
        ((np.full((3, 2), "a"), LABEL_N[:3]), "X must hold numbers"),
        ((ROWS_NF[:3], ["a", "b", "c"]), "y needs numbers or two different labels, got 3: a, b, c"),
        ([(ROWS_NF, LABEL_N), (ROWS_NF[:, :2], LABEL_N)], "same number of features, got 2, 4"),
        ((ROWS_NF[:0], LABEL_N[:0]), "at least 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(data: Any, reason: str) -> None:
    with pytest.raises(sb.DataError, match=reason):
        sb.make_problem("robust_logistic", data=data)


def test_listers_name_what_makers_take() -> None:
    assert sb.make_problem(next(name for name in sb.list_problems() if name == "bilinear"), n=3).name == "bilinear"
    for kind in ("problems", "methods", "compressors", "learners", "mixers"):
        names = getattr(sb, f"list_{kind}")()
        assert names == sorted(names)
        assert len(names) > 3
    with pytest.raises(sb.ConfigError, match="did you mean 'top_k'"):
        sb.make_compressor("topk")
    assert isinstance(sb.make_problem("bilinear", n=3), BilinearGame)


def test_a_method_may_be_a_name() -> None:
    problem = sb.make_problem("bilinear", n=10, workers=2)
    stop = sb.Stop(max_rounds=10)
    named, made = (sb.simulate(problem, each, stop=stop) for each in ("ogda", sb.make_method("ogda", problem)))
    assert named.z.tobytes() == made.z.tobytes()
    with pytest.raises(ConfigError, match="did you mean 'ogda'"):
        sb.simulate(problem, "ogdaa")


def test_data_sets_of_torch_are_data() -> None:
    torch = pytest.importorskip("torch")
    x_NF, y_N = np.random.default_rng(0).standard_normal((12, 3)), np.arange(12) % 2
    held = torch.utils.data.TensorDataset(torch.from_numpy(x_NF), torch.from_numpy(y_N))
    arrays = sb.make_problem("logistic_regression", data=(x_NF, y_N), workers=2)
    point_D = np.arange(arrays.dimension, dtype=np.float64)
    for data in (held, torch.utils.data.DataLoader(held, batch_size=5, shuffle=True)):
        problem = sb.make_problem("logistic_regression", data=data, workers=2)
        for worker in range(2):
            draws = Draws(0, 0, worker)
            assert np.array_equal(problem.operator(worker)(point_D, draws), arrays.operator(worker)(point_D, draws))
    assert sb.make_problem("logistic_regression", data=[held, held, held]).num_workers == 3
    triples = torch.utils.data.TensorDataset(torch.zeros(4, 2), torch.zeros(4), torch.zeros(4))
    with pytest.raises(DataError, match=r"samples of torch must be \(x, y\), got 3 parts"):
        sb.make_problem("logistic_regression", data=triples)


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (np.zeros((4, 2)), r"an array of shape \(4, 2\) without labels"),
        ([1.0, 2.0], "a list of float"),
        ({"a": [1.0], "y": [1.0]}, "a dict of str"),
        ((), "a tuple of nothing"),
    ],
)
def test_what_is_no_data_is_named(data: Any, got: str) -> None:
    with pytest.raises(DataError, match=rf"data must be a pair of arrays \(X, y\), .*; got {got}"):
        sb.make_problem("logistic_regression", data=data)


def test_compressors_are_taken_as_objects_names_and_tables() -> None:
    game = sb.make_problem("bilinear", n=5, workers=2)
    grid = sb.make_compressor("grid", step=0.5)
    given: list[Any] = [grid, {"name": "grid", "step": 0.5}]
    made = [sb.make_method("innovations", game, step_size=0.1, up=side, down=side) for side in given]
    assert made[0].up == made[1].up == made[1].down == grid
    for wrong, word in (({"step": 0.5}, "up must name a compressor"), ({"name": "grid", "stap": 1}, "stap")):
        with pytest.raises(ConfigError, match=word):
            sb.make_method("innovations", game, step_size=0.1, up=wrong, down=grid)


def test_compressors_that_are_left_out_are_those_of_a_recipe_that_leaves_them_out() -> None:
    """Python took the identity for every method: `innovations` sent thirteen times as much as its recipe."""
    game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
    method: Any = sb.make_method("innovations", game, step_size=0.1)
    assert method.up == method.down == sb.make_compressor("grid", step="auto")
    half: Any = sb.make_method("innovations", game, step_size=0.1, up="identity")
    assert (half.up, half.down) == (sb.make_compressor("identity"), sb.make_compressor("grid", step="auto"))
    plain: Any = sb.make_method("qsgda", game, step_size=0.1)
    assert plain.up == plain.down == sb.make_compressor("identity")
