"""The anchor and its full exchange, for both methods that have one and under both rules."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Operator, Problem, masha1, masha2
from saddlebag.algorithms.base import known_constants
from saddlebag.algorithms.methods.masha.anchor import theory_probability
from saddlebag.compression import Draws, Identity, Natural, RandK, TopK, Vector
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.problems import BilinearGame

RAND, TOP, FULL = RandK(fraction=0.2), TopK(fraction=0.2), Identity()
HALF_ULP = 2.0**-24  # of float32, relative
METHODS: dict[str, Callable[..., Any]] = {
    "masha1": lambda problem, **params: masha1(problem, up=RAND, down=FULL, **params),
    "masha2": lambda problem, **params: masha2(problem, up=TOP, down=TOP, **params),
}
each_method = pytest.mark.parametrize("name", sorted(METHODS))
each_rule = pytest.mark.parametrize("rule", ["current", "next"])
each_wire = pytest.mark.parametrize("wire_type", ["float32", "float64"])


def make(name: str, problem: Problem, **params: Any) -> Any:
    return METHODS[name](problem, step_size=0.1, probability=0.3, **params)


@each_method
@each_rule
@each_wire
def test_server_mean_is_the_mean_of_the_workers_copies(
    name: str, rule: str, wire_type: str, game: BilinearGame, play: Any
) -> None:
    synchronisations = 0
    known_D, sent_MD = np.zeros(game.dimension), np.zeros((game.num_workers, game.dimension))
    method = make(name, game, rule=rule, wire=wire_type)
    for turn in play(game, method, seed=1, num_rounds=120):
        if method.synchronises(turn.replica, turn.draws):
            synchronisations += 1
            total_D = np.zeros(game.dimension)
            for worker, up in enumerate(turn.ups):
                total_D += up.parts[0].dense()
                sent_MD[worker] += up.parts[0].dense()
            known_D = known_D + total_D / game.num_workers
        # bit for bit what was accumulated, in worker order; in rounds without a full exchange nothing moves
        assert turn.next_server.operator_w_D.tobytes() == known_D.tobytes()
        for worker, own in enumerate(turn.next_workers):
            assert own.operator_w_D.tobytes() == sent_MD[worker].tobytes()
        # hence the mean of the copies, up to the rounding of sums of few terms of their size
        error = np.abs(turn.next_server.operator_w_D - sent_MD.mean(axis=0)).max()
        assert error <= synchronisations * 1e-15 * np.abs(sent_MD).max()
    assert synchronisations > 20


@each_method
@each_rule
def test_every_copy_is_within_a_float32_increment(name: str, rule: str, game: BilinearGame, play: Any) -> None:
    method, draws = make(name, game, rule=rule), Draws(0, 0)
    operators = [game.operator(worker) for worker in range(game.num_workers)]
    for turn in play(game, method, seed=2, num_rounds=120):
        if not method.synchronises(turn.replica, turn.draws):
            assert turn.next_replica.operator_w_D is turn.replica.operator_w_D
            continue
        w_D = turn.next_replica.w_D
        pairs = [(turn.next_server.operator_w_D, turn.replica.operator_w_D, turn.next_replica.operator_w_D)]
        for operator, own, next_own in zip(operators, turn.workers, turn.next_workers, strict=True):
            pairs.append((operator(w_D, draws), own.operator_w_D, next_own.operator_w_D))
        for value_D, before_D, after_D in pairs:
            rounding_D = HALF_ULP * np.abs(value_D - before_D) + 4e-16 * np.abs(value_D)
            assert (np.abs(value_D - after_D) <= rounding_D).all()


@each_method
def test_current_rule_takes_the_old_iterate_on_the_ordinary_round(name: str, game: BilinearGame, play: Any) -> None:
    method = make(name, game, rule="current")
    for turn in play(game, method, seed=3, num_rounds=60):
        assert turn.replica.syncing == (turn.draws.round == 0)  # no round of its own but the first
        if turn.replica.syncing:
            assert turn.next_replica.iteration == 0
            assert turn.next_replica.z_D is turn.replica.z_D
            continue
        assert turn.next_replica.iteration == turn.replica.iteration + 1
        renewed = turn.draws.coin(method.probability)
        assert turn.next_replica.w_D is (turn.replica.z_D if renewed else turn.replica.w_D)
        assert len(turn.ups[0].parts) == len(turn.down.parts) == 1 + renewed


@each_method
def test_next_rule_takes_the_new_iterate_and_a_round_more(name: str, game: BilinearGame, play: Any) -> None:
    method = make(name, game, rule="next")
    syncs = 0
    for turn in play(game, method, seed=3, num_rounds=60):
        assert len(turn.ups[0].parts) == len(turn.down.parts) == 1
        assert turn.replica.syncing == method.synchronises(turn.replica, turn.draws)
        if turn.replica.syncing:
            syncs += 1
            assert (turn.next_replica.z_D, turn.next_replica.w_D) == (turn.replica.z_D, turn.replica.w_D)
            assert turn.next_replica.iteration == turn.replica.iteration
            assert not turn.next_replica.syncing
            continue
        renewed = turn.draws.coin(method.probability)
        assert turn.next_replica.w_D is (turn.next_replica.z_D if renewed else turn.replica.w_D)
        assert turn.next_replica.syncing == renewed
    assert turn.next_replica.iteration + syncs == 60


@dataclasses.dataclass
class Counting:
    """A problem that counts how often its first worker's operator is asked."""

    inner: BilinearGame
    asked: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def operator(self, worker: int) -> Operator:
        inner = self.inner.operator(worker)

        def ask(z_D: Vector, draws: Draws) -> Vector:
            self.asked += worker == 0
            return inner(z_D, draws)

        return ask


@each_method
@each_rule
def test_one_operator_value_an_iteration_and_one_a_synchronisation(name: str, rule: str, game: BilinearGame, play: Any) -> None:
    counting, method = Counting(game), make(name, game, rule=rule)
    turns = list(play(counting, method, seed=4, num_rounds=100))
    syncs = sum(method.synchronises(turn.replica, turn.draws) for turn in turns)
    assert counting.asked == turns[-1].next_replica.iteration + syncs


@each_method
@each_rule
def test_replay_is_the_same_on_every_machine(name: str, rule: str, game: BilinearGame, play: Any) -> None:
    method = make(name, game, rule=rule)
    for turn in play(game, method, seed=5, num_rounds=40):
        for worker in range(game.num_workers):
            elsewhere = method.replay(turn.replica, turn.down, turn.draws.of(worker))
            for field in dataclasses.fields(elsewhere):
                assert np.array_equal(getattr(elsewhere, field.name), getattr(turn.next_replica, field.name))


def test_theory_probability_halves_the_uplink() -> None:  # masha.md, section 9.3: p = 1 / beta
    assert theory_probability(RandK(fraction=0.1), 100) == pytest.approx(0.1)
    assert theory_probability(Natural(), 100) == pytest.approx(9 / 32)
    assert theory_probability(TopK(k=10), 100) == pytest.approx((320 + math.log2(math.comb(100, 10))) / 3200)
    assert theory_probability(TopK(k=10), 100) == pytest.approx(0.11375, rel=1e-4)  # the printed one rounds bits up
    assert theory_probability(Identity(), 100) == 0.5  # the theory's limit


@each_method
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"step_size": 0.0}, "step_size must be a positive number, got 0.0"),
        ({"step_size": -1.0}, "step_size must be a positive number, got -1.0"),
        ({"step_size": math.nan}, "step_size must be a positive number, got nan"),
        ({"step_size": math.inf}, "step_size must be a positive number, got inf"),
        ({"probability": 0.0}, r"probability must lie in \(0, 1\], got 0.0"),
        ({"probability": 1.5}, r"probability must lie in \(0, 1\], got 1.5"),
        ({"probability": math.nan}, r"probability must lie in \(0, 1\], got nan"),
        ({"rule": "previous"}, "rule must be 'current' or 'next', got 'previous'"),
        ({"wire": "float16"}, "wire must be 'float32' or 'float64', got 'float16'"),
    ],
)
def test_parameters_out_of_range_are_named(name: str, params: dict[str, Any], message: str, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=message):
        METHODS[name](game, **{"step_size": 0.1, "probability": 0.3, **params})


@dataclasses.dataclass
class Unknown:
    """A problem whose constants nobody knows."""

    inner: BilinearGame

    def __getattr__(self, name: str) -> Any:
        return None if name == "constants" else getattr(self.inner, name)


@each_method
def test_unknown_constants_need_a_step(name: str, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=f"{name}: bilinear has no known constants; give method.step_size a number"):
        METHODS[name](Unknown(game))
    assert METHODS[name](Unknown(game), step_size=0.1).step_size == 0.1
    assert known_constants(game, name) == game.constants


@each_method
def test_theory_ends_at_probability_one_half(name: str, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=rf"{name}'s theory needs probability <= 1/2.*, got 0\.6"):
        METHODS[name](game, probability=0.6)
    assert METHODS[name](game, probability=0.6, step_size=0.1).probability == 0.6


def test_masha2_theory_knows_one_rule(game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=r"masha2's theory needs .* rule 'current', got .* 'next'"):
        METHODS["masha2"](game, rule="next")
    assert METHODS["masha1"](game, rule="next").step_size == METHODS["masha1"](game).step_size
