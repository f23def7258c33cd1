"""What optimizers on the replicas share: clipping, the schedule of the step, and the workers' own steps."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import METHODS, Stop, digest, form_means, simulate
from saddlebag.algorithms.problems import BilinearGame, MatrixGame
from saddlebag.compression import Draws, Identity, TopK
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

FULL, TOP, EXACT = Identity(), TopK(k=2), Identity(dtype="float64")


@pytest.fixture
def game() -> BilinearGame:
    return BilinearGame(n=4, num_workers=3, regularisation=0.3)


def test_clipping_bounds_what_a_worker_sends(game: BilinearGame) -> None:
    exact = Identity(dtype="float64")
    method = METHODS["compressed_sgd"](game, up=exact, down=exact, step_size=0.02, clip_norm=0.5)
    replica = method.init_replica(game.start() + 10.0)
    _, message = method.worker_step(replica, method.init_worker(replica), game.operator(0), Draws(0, 0, 0))
    assert np.linalg.norm(message.parts[0].dense()) == pytest.approx(0.5)


def test_local_steps_send_the_mean_of_the_values_on_the_way(game: BilinearGame) -> None:
    asked = []
    method = METHODS["compressed_sgd"](game, up=EXACT, down=EXACT, step_size=0.02, local_steps=4, local_step_size=0.1)
    values = []

    def operator(z_D: Any, draws: Draws) -> Any:
        asked.append(draws)
        values.append(game.operator(0)(z_D, draws))
        return values[-1]

    replica = method.init_replica(game.start() + 1.0)
    _, message = method.worker_step(replica, method.init_worker(replica), operator, Draws(0, 5, 0))
    assert np.allclose(message.parts[0].dense(), np.mean(values, axis=0), rtol=1e-10)
    assert len({draws.round for draws in asked}) == 4  # a batch of its own for each
    assert asked[0] == Draws(0, 5, 0)


@pytest.mark.parametrize("rule", ["adamw", "adamw_kept"])
def test_local_adam_keeps_its_means_where_asked(rule: str, game: BilinearGame, play: Any) -> None:
    """The workers' own steps by torch's AdamW, and the outer step that averages their points."""
    import torch

    local: dict[str, Any] = {"local_steps": 3, "local_step_size": 0.05, "local_rule": rule}
    method = METHODS["compressed_sgd"](game, up=EXACT, down=EXACT, step_size=3 * 0.05, momentum=0.0, **local)
    points = [torch.zeros(8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    peers = [torch.optim.AdamW([point], lr=0.05, weight_decay=0.0) for point in points]
    for turn in play(game, method, seed=0, num_rounds=4):
        for m, point in enumerate(points):
            with torch.no_grad():
                point.copy_(torch.from_numpy(turn.replica.z_D))
            if rule == "adamw":
                peers[m] = torch.optim.AdamW([point], lr=0.05, weight_decay=0.0)
            for _ in range(3):
                point.grad = torch.from_numpy(game.operator(m)(point.detach().numpy(), turn.draws))
                peers[m].step()
        mean_D = torch.stack(points).mean(dim=0).detach().numpy()
        assert np.allclose(turn.next_replica.z_D, mean_D, rtol=0, atol=1e-12)


def test_one_local_step_is_none(game: BilinearGame) -> None:
    build = functools.partial(METHODS["compressed_adamw"], game, up=TOP, down=TOP, step_size=0.02)
    stop = Stop(max_iterations=20, every=20)
    found = [
        simulate(game, method, seed=0, stop=stop, wire=LoopbackWire())
        for method in (build(), build(local_steps=1, local_step_size=0.3))
    ]
    assert digest(found[0].replica) == digest(found[1].replica)


def test_the_schedule_rises_and_falls(game: BilinearGame) -> None:
    build = functools.partial(METHODS["compressed_adamw"], game, up=FULL, down=FULL, step_size=1.0, warmup=4, total=12)
    assert [build()._pace(k) for k in (0, 3, 100)] == [0.25, 1.0, 1.0]
    assert [build(schedule="linear")._pace(k) for k in (4, 8, 12, 99)] == [1.0, 0.5, 0.0, 0.0]
    cosine = [build(schedule="cosine")._pace(k) for k in (4, 6, 8, 12)]
    assert cosine == pytest.approx([1.0, 0.5 + 0.5**1.5, 0.5, 0.0], abs=1e-15)


@pytest.mark.parametrize("steps", [1, 2**16 - 1])
def test_the_least_and_the_most_local_steps_are_taken(game: BilinearGame, steps: int) -> None:
    method = METHODS["compressed_sgd"](game, up=EXACT, down=EXACT, step_size=0.02, local_steps=steps, local_step_size=0.1)
    assert method.local_steps == steps


@pytest.mark.parametrize("steps", [0, 2**16])
def test_fewer_and_more_local_steps_are_refused(game: BilinearGame, steps: int) -> None:
    with pytest.raises(ConfigError, match=rf"local_steps must lie in \[1, 2\^16\), got {steps}"):
        METHODS["compressed_sgd"](game, up=EXACT, down=EXACT, step_size=0.02, local_steps=steps, local_step_size=0.1)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"schedule": "linear"}, "schedule 'linear' needs total above warmup = 0, got total = 0"),
        ({"schedule": "cosine", "warmup": 5, "total": 5}, "schedule 'cosine' needs total above warmup = 5, got total = 5"),
        ({"warmup": -1}, "warmup and total must be at least 0, got -1 and 0"),
        ({"total": -1}, "warmup and total must be at least 0, got 0 and -1"),
        ({"clip_norm": 0.0}, "clip_norm must be positive, got 0.0"),
        ({"local_steps": 2}, "local_steps = 2 of sgd needs a positive local_step_size, got 0.0"),
        (
            {"local_steps": 2, "local_step_size": float("inf")},
            "local_steps = 2 of sgd needs a positive local_step_size, got inf",
        ),
        ({"local_rule": "adamw"}, "local_steps = 1 of adamw needs a positive local_step_size, got 0.0"),
    ],
)
def test_keys_that_do_not_fit_are_named(game: BilinearGame, keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=f"^{complaint}$"):
        METHODS["compressed_sgd"](game, up=EXACT, down=EXACT, step_size=0.02, **keys)


def test_keys_at_the_edge_of_their_range_are_taken(game: BilinearGame) -> None:
    build = functools.partial(METHODS["compressed_sgd"], game, up=EXACT, down=EXACT, step_size=0.02)
    assert build(schedule="linear", total=1)._pace(0) == 0.02
    assert build(schedule="linear", warmup=1, total=2)._pace(1) == 0.02
    assert build(warmup=0, total=0)._pace(0) == 0.02


def test_two_local_steps_are_two(game: BilinearGame) -> None:
    asked = []
    method = METHODS["compressed_sgd"](game, up=EXACT, down=EXACT, step_size=0.02, local_steps=2, local_step_size=0.1)

    def operator(z_D: Any, draws: Draws) -> Any:
        asked.append(z_D)
        return game.operator(0)(z_D, draws)

    replica = method.init_replica(game.start() + 1.0)
    method.worker_step(replica, method.init_worker(replica), operator, Draws(0, 0, 0))
    assert len(asked) == 2


@pytest.mark.parametrize("name", ["compressed_sgd", "compressed_adamw", "compressed_extra_adam", "compressed_optimistic_adam"])
def test_points_that_are_asked_and_points_that_are_reached_are_feasible(name: str) -> None:
    """Rules that extrapolate leave the simplices, and so does every step: the prox brings both back."""
    problem = MatrixGame.build(None, num_workers=2, rows=3, columns=3)
    method = METHODS[name](problem, up=EXACT, down=EXACT, step_size=0.3)
    asked: list[Any] = []

    def distance(z_D: Any) -> float:
        return float(abs(problem.prox(z_D, 1.0) - z_D).max())

    replica = method.init_replica(problem.start())
    own, server = method.init_worker(replica), method.init_server(replica)
    for round_ in range(6):

        def operator(z_D: Any, draws: Draws) -> Any:
            asked.append(z_D)
            return problem.operator(0)(z_D, draws)

        draws = Draws(0, round_, 0)
        own, up = method.worker_step(replica, own, operator, draws)
        sizes = method.uplink_sizes(replica, draws)
        server, down = method.server_step(replica, server, form_means(sizes, iter([up]), 1), draws)
        replica = method.replay(replica, down, draws)
        assert distance(replica.z_D) < 1e-12
    assert max(map(distance, asked)) < 1e-12
    assert float(abs(replica.z_D - problem.start()).max()) > 0.01, "it has moved"
