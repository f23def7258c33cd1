"""Block descent with estimated constants: what it sends and learns, and that it needs fewer iterations than fixed rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import saddlebag as sb
from saddlebag.algorithms import METHODS, check_method
from saddlebag.compression import Draws, GreedyBlocks, Sparse
from saddlebag.errors import ConfigError
from saddlebag.launch.drivers.simulated import run_simulated
from saddlebag.launch.drivers.supervisor import run_grpc
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from pathlib import Path

BLOCK, SPREAD = 4, 100.0


class Spread:
    """A quadratic whose blocks have curvatures from 1 to SPREAD, coupled a little; two workers, alike."""

    name, num_workers, unconstrained, constants, blocks = "spread", 2, True, None, 10

    def __init__(self, coupling: float = 0.02) -> None:
        rng = np.random.default_rng(1)
        d = BLOCK * self.blocks
        scale_D = np.repeat(np.geomspace(1.0, SPREAD, self.blocks), BLOCK) ** 0.5
        mixed = rng.standard_normal((d, d))
        self.curve_DD = scale_D[:, None] * (np.eye(d) + coupling * (mixed + mixed.T) / 2) * scale_D
        self.solution = rng.standard_normal(d) / scale_D
        self.dimension = d

    def start(self) -> Any:
        return np.zeros(self.dimension)

    def prox(self, v_D: Any, step_size: float) -> Any:
        del step_size
        return v_D

    def operator(self, worker: int) -> Any:
        del worker
        return lambda z_D, draws: self.curve_DD @ (z_D - self.solution)

    def merits(self, z_D: Any) -> Any:
        off_D = z_D - self.solution
        return {"gap": float(off_D @ self.curve_DD @ off_D / (self.solution @ self.curve_DD @ self.solution))}


def method(problem: Any, **keys: Any) -> Any:
    return METHODS["block_descent"](problem, **{"step_size": 1e-4, **keys})


def test_it_is_a_method() -> None:
    check_method(method(Spread(), k=2, block=3), Spread(), wire=LoopbackWire())


def test_first_every_block_moves_and_then_k_of_them() -> None:
    problem: Any = Spread()
    way = method(problem, k=2)
    replica, own = way.init_replica(problem.start()), way.init_server(way.init_replica(problem.start()))
    gradient_D = problem.operator(0)(replica.z_D, None)
    for round_ in range(2):
        ups = [
            way.worker_step(replica, way.init_worker(replica), problem.operator(m), Draws(0, round_, m))[1] for m in range(2)
        ]
        means = sb.algorithms.form_means((problem.dimension,), iter(ups), 2)
        if round_:
            own = type(own)(np.zeros(problem.dimension), own.step_D, own.constant_B)  # its workers here remember nothing
            way_seen = way._seen(type(own)(gradient_D, own.step_D, own.constant_B), means[0].dense())
            own = type(own)(np.zeros(problem.dimension), own.step_D, way_seen)
        own, down = way.server_step(replica, own, means, Draws(0, round_))
        before, replica = replica, way.replay(replica, down, Draws(0, round_))
        if round_ == 0:
            assert np.allclose(replica.z_D, -1e-4 * gradient_D, rtol=1e-6)
    assert isinstance(down.parts[0], Sparse)
    assert len(down.parts[0].index_K) == 2 * BLOCK
    assert np.count_nonzero(replica.z_D != before.z_D) == 2 * BLOCK


def test_constants_are_those_of_the_blocks_where_blocks_do_not_couple() -> None:
    """Each block's curvature is one number here, which the first secant finds."""
    problem: Any = Spread(coupling=0.0)
    way = method(problem)
    step_D = -1e-4 * problem.operator(0)(problem.start(), None)
    own = way.init_server(way.init_replica(problem.start()))
    first_D = problem.operator(0)(problem.start(), None)
    own = type(own)(first_D, step_D, own.constant_B)
    seen_B = way._seen(own, problem.operator(0)(step_D, None))
    assert np.allclose(seen_B, np.geomspace(1.0, SPREAD, 10))
    moved_D = np.where(np.arange(40) < BLOCK, 1.0, 0.0)  # the first block alone
    own = type(own)(first_D, moved_D, 3.0 * seen_B)
    again_B = way._seen(own, first_D + problem.curve_DD @ moved_D)
    assert again_B[0] == pytest.approx(1.5)  # falls from 3 by at most a half, although 1 was seen
    assert np.array_equal(again_B[1:], 3.0 * seen_B[1:])


def test_fewer_iterations_than_the_blocks_of_largest_norm_at_the_proven_step() -> None:
    problem: Any = Spread()
    least = sb.Stop(merit=1e-6, max_iterations=5000)
    run = sb.simulate(problem, method(problem, k=1), stop=least)
    assert run.reason == "merit"
    largest = float(np.linalg.eigvalsh(problem.curve_DD)[-1])
    plain, z_D = GreedyBlocks(block=BLOCK, k=1), problem.start()
    for count in range(3 * run.rounds):
        if problem.merits(z_D)["gap"] <= 1e-6:
            break
        z_D = z_D - plain.encode(problem.operator(0)(z_D, None), Draws(0, count)).dense() / largest
    assert count == 3 * run.rounds - 1, f"the plain rule took {count}, this one {run.rounds}"


@pytest.mark.e2e
def test_grpc_takes_the_way_of_simulate(tmp_path: Path) -> None:
    found = []
    for driver, carry in (("simulate", run_simulated), ("grpc", run_grpc)):
        options = ["baseline=[]", "stop={max_rounds=40,every=20}", f"driver={driver}"]
        result = carry(load_recipe("block_descent", options).jobs()[0], tmp_path / driver)
        found.append(tuple(result[key] for key in ("rounds", "up_bytes", "down_bytes", "digest")))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"block": 0}, r"block_descent\.block must be a whole number of at least 1, got 0"),
        ({"k": True}, r"block_descent\.k must be a whole number of at least 1, got True"),
        ({"forget": 0.0}, r"block_descent\.forget must lie in \(0, 1\], got 0\.0"),
        ({"step_size": None}, "has no known constants; give method.step_size a number"),
    ],
)
def test_bad_parameters_are_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        method(Spread(), **keys)


def test_problems_with_constraints_are_refused() -> None:
    game = sb.make_problem("matrix_game", rows=3, columns=3, workers=2)
    with pytest.raises(ConfigError, match="block_descent needs a problem without constraints"):
        METHODS["block_descent"](game)
