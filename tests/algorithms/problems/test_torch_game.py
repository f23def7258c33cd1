"""A game in torch is the same game: its operator, its trajectory and its checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from saddlebag.algorithms import Stop, check_method, masha1, simulate
from saddlebag.algorithms.problems import BilinearGame, TorchGame
from saddlebag.compression import Draws, Identity, RandK
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

GAME = BilinearGame(n=4, num_workers=3, regularisation=0.2)


def twin() -> TorchGame:
    """The bilinear game, its objectives read off the operators: f = x'Ay + a'x - b'y + lam/2 (|x|^2 - |y|^2)."""
    zero, draws = np.zeros(8), Draws(0, 0)

    def objective(worker: int):
        ask = GAME.operator(worker)
        shift = ask(zero, draws)
        matrix = torch.tensor(np.stack([ask(e, draws) - shift for e in np.eye(8)], axis=1))
        a, b = torch.tensor(shift[:4]), torch.tensor(shift[4:])

        def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x @ matrix[:4, 4:] @ y + a @ x - b @ y + 0.1 * (x @ x - y @ y)

        return f

    objectives = tuple(objective(worker) for worker in range(3))
    return TorchGame(objectives=objectives, x=np.zeros(4), y=np.zeros(4), solution=GAME.solution, constants=GAME.constants)


def test_the_operator_is_that_of_the_closed_form() -> None:
    game, z_D = twin(), np.random.default_rng(0).standard_normal(8)
    for worker in range(3):
        np.testing.assert_allclose(
            game.operator(worker)(z_D, Draws(0, 0)), GAME.operator(worker)(z_D, Draws(0, 0)), rtol=0, atol=1e-14
        )


def test_masha1_solves_it_on_the_same_path() -> None:
    game = twin()
    outcomes = [
        simulate(
            problem,
            masha1(problem, up=RandK(fraction=0.25), down=Identity(), step_size=0.15),
            seed=0,
            stop=Stop(merit=1e-6, max_iterations=5000, every=10),
            wire=LoopbackWire(),
        )
        for problem in (game, GAME)
    ]
    assert [outcome.reason for outcome in outcomes] == ["merit", "merit"]
    assert outcomes[0].rounds == outcomes[1].rounds
    np.testing.assert_allclose(outcomes[0].replica.z_D, outcomes[1].replica.z_D, rtol=1e-5)


def test_laws_shapes_and_unused_blocks() -> None:
    objectives = tuple(
        lambda x, y, k=k: ((x - k) ** 2).sum() - 0.5 * (y**2).sum() + x.sum() * y[0] if k else (x**2).sum() for k in range(2)
    )
    game = TorchGame(objectives=objectives, x=np.ones((2, 3)), y=np.ones(2))
    check_method(masha1(game, up=RandK(k=2), down=Identity(), step_size=0.1), game, wire=LoopbackWire())
    assert list(game.merits(game.start())) == ["natural_residual"]


def test_bad_arguments() -> None:
    with pytest.raises(ConfigError, match="objectives"):
        TorchGame(objectives=(), x=np.zeros(1), y=np.zeros(1))
    with pytest.raises(ConfigError, match="solution must have 2"):
        TorchGame(objectives=(lambda x, y: (x * y).sum(),), x=np.zeros(1), y=np.zeros(1), solution=np.zeros(3))


def test_a_prox_of_another_length_is_named() -> None:
    with pytest.raises(ConfigError, match=r"prox must return the whole point, of shape \(8,\), got one of shape \(3,\)"):
        TorchGame(objectives=(lambda x, y: x.sum() + y.sum(),), x=np.ones(3), y=np.ones(5), prox=lambda v_D, step: v_D[:3])


@pytest.mark.parametrize(
    ("objective", "complaint"),
    [
        (lambda x, y: x * y.sum(), r"objective 0 must return a scalar tensor, got a tensor of shape \(3,\)"),
        (lambda x, y: float((x.sum() * y.sum()).detach()), "objective 0 must return a scalar tensor, got float"),
        (lambda x, y: (x.sum() * y.sum()).detach(), "objective 0 does not depend on x or y as torch sees it"),
    ],
)
def test_an_objective_that_cannot_be_differentiated_is_named(objective: Any, complaint: str) -> None:
    game = TorchGame(objectives=(objective,), x=np.ones(3), y=np.ones(2), name="mine")
    with pytest.raises(ConfigError, match=f"^mine: {complaint}"):
        game.operator(0)(game.start(), Draws(0, 0))
    with pytest.raises(ConfigError, match=complaint):
        game.merits(game.start())


def test_a_point_of_another_length_is_named() -> None:
    game = TorchGame(objectives=(lambda x, y: x.sum() * y.sum(),), x=np.ones(3), y=np.ones(2))
    with pytest.raises(ConfigError, match=r"z must have shape \(5,\), that of x and y, got \(4,\)"):
        game.operator(0)(np.ones(4), Draws(0, 0))
