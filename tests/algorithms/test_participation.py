"""PP-MASHA1: its proven step over every subset, what idle workers save, and wrong usage that must be seen to fail."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import Masha1, Stop, make_method, masha1, participants, simulate
from saddlebag.algorithms.methods.masha.anchor import AnchoredReplica
from saddlebag.algorithms.methods.masha.masha1 import Masha1Server, Masha1Worker, masha1_noise
from saddlebag.algorithms.participation import Arrears
from saddlebag.algorithms.problems import BilinearGame, FiniteBilinearGame
from saddlebag.compression import SERVER, Draws, Identity, Mean, Natural, PermK, RandK, TopK, Vector
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

FULL, RAND = Identity(), RandK(k=1)
TINY = FiniteBilinearGame(
    n=1, num_workers=3, regularisation=0.1, heterogeneity=1.0, num_samples=2, sample_heterogeneity=1.0, seed=3
)


def square(x_D: Vector) -> float:
    return float(x_D @ x_D)


def random_state(problem: Any, rng: np.random.Generator, state: Any) -> Any:
    z_D, w_D = (problem.solution + 10.0 ** rng.uniform(-2, 1) * rng.standard_normal(problem.dimension) for _ in range(2))
    known = [problem.operator(worker)(w_D, Draws(0, 0)) for worker in range(problem.num_workers)]
    mean_D = np.mean(known, axis=0)
    replica = AnchoredReplica(z_D, w_D, mean_D, iteration=3, syncing=False)
    return state(replica, tuple(map(Masha1Worker, known)), Masha1Server(mean_D))


each_count = pytest.mark.parametrize("count", [1, 2, 3])
each_batch = pytest.mark.parametrize("batch", [None, 1], ids=["whole", "batches"])


@each_count
@each_batch
@pytest.mark.parametrize("rule", ["current", "next"])
def test_it_contracts_in_one_step(count: int, batch: int | None, rule: Any, state: Any, expectation: Any) -> None:
    rng = np.random.default_rng(0)
    method = masha1(TINY, up=RAND, down=FULL, probability=0.4, rule=rule, participants=count, batch=batch)
    weight = 1.0 if rule == "current" else 1.0 - method.probability

    def lyapunov(found: Any) -> float:
        return weight * square(found.replica.z_D - TINY.solution) + square(found.replica.w_D - TINY.solution)

    for _ in range(6):
        before = random_state(TINY, rng, state)
        num_samples = TINY.num_samples if batch else 0
        after = expectation(TINY, method, before, lyapunov, scale=2.0, num_samples=num_samples, participants=count)
        factor = 1 - method.step_size * TINY.constants.strong_monotonicity / 2
        assert after <= factor * lyapunov(before) * (1 + 1e-12)


@each_count
@each_batch
def test_noise_bounds_the_second_moment(count: int, batch: int | None, state: Any, expectation: Any) -> None:
    """masha.md, section 9.1: E|g|^2 <= Cq^2 |zh - w|^2, over subsets, batches and supports."""
    rng, largest = np.random.default_rng(1), 0.0
    method = Masha1(step_size=0.5, probability=0.05, up=RAND, down=FULL, rule="next", participants=count, batch=batch)
    noise = masha1_noise(TINY, RAND, FULL, batch, count)
    for _ in range(6):
        before = random_state(TINY, rng, state)
        half_D = method._pulled(before.replica) - method.step_size * before.replica.operator_w_D

        def moment(found: Any, half_D: Vector = half_D) -> float:
            return square((half_D - found.replica.z_D) / method.step_size)

        num_samples = TINY.num_samples if batch else 0
        after = expectation(TINY, method, before, moment, scale=2.0, num_samples=num_samples, participants=count)
        ratio = after / (noise**2 * square(half_D - before.replica.w_D))
        assert ratio <= 1 + 1e-9
        largest = max(largest, ratio)
    assert largest > 0.3  # the bound is not idle


def test_noise_constants_are_the_formulas() -> None:
    game = BilinearGame()
    square_l, rms = game.constants.lipschitz**2, game.constants.lipschitz_rms**2
    rand, common = RandK(k=10), RandK(k=10, support="common")  # q = 10
    assert masha1_noise(game, rand, FULL, participants=2) ** 2 == pytest.approx(square_l + (9 + 8 / 9) / 2 * rms)
    assert masha1_noise(game, rand, Natural(), participants=2) ** 2 == pytest.approx(9 / 8 * (square_l + (9 + 8 / 9) / 2 * rms))
    assert masha1_noise(game, common, FULL, participants=5) ** 2 == pytest.approx(10 * (square_l + 5 / 9 / 5 * rms))
    assert masha1_noise(game, rand, FULL, participants=10) == masha1_noise(game, rand, FULL)


def test_who_takes_part_is_uniform_and_everybody_synchronises(game: BilinearGame) -> None:
    method, members = masha1(game, up=RAND, down=FULL, step_size=0.1, probability=0.2, participants=2), (0, 2, 3, 7)
    replica = dataclasses.replace(method.init_replica(game.start()), syncing=False)
    counts = dict.fromkeys(itertools.combinations(members, 2), 0)
    for round_ in range(6000):
        draws = Draws(3, round_, SERVER)
        active = participants(method, replica, draws, members)
        assert active == participants(method, replica, draws.of(7), members), "everybody knows"
        if draws.coin(0.2):
            assert active == members
        else:
            counts[active] += 1  # type: ignore[index]
    assert participants(method, method.init_replica(game.start()), Draws(3, 0), members) == members
    total = sum(counts.values())
    assert all(abs(count - total / 6) < 5 * (total / 6) ** 0.5 for count in counts.values())


def test_two_of_ten_lose_nothing_in_iterations_and_save_traffic() -> None:
    """masha.md, section 6: no extra iterations with b = M/5 at a moderate step."""
    game = BilinearGame(n=20, num_workers=10, regularisation=0.1)

    def run(count: int | None) -> Any:
        method = masha1(game, up=Natural(), down=FULL, step_size=0.15, probability=0.1, participants=count)
        outcome = simulate(game, method, seed=1, stop=Stop(merit=1e-4, max_iterations=6000), wire=LoopbackWire())
        assert outcome.reason == "merit"
        return outcome

    everybody, two = run(None), run(2)
    assert two.replica.iteration <= 1.1 * everybody.replica.iteration
    assert two.up_bytes <= 0.7 * everybody.up_bytes
    assert two.down_bytes <= 0.9 * everybody.down_bytes  # catch-ups: the iterate in place of missed full vectors


# --- wrong usage, which takes a class of one's own ----------------------------------------------------------------------


class WeightedByAll(Masha1):
    """Wrong: 1/M for b of M participants."""

    def server_step(self, replica: Any, own: Any, means: tuple[Mean, ...], draws: Draws) -> Any:
        if not self.synchronises(replica, draws):
            means = tuple(dataclasses.replace(mean, value=mean.value * (self.participants or 0) / 4) for mean in means)
        return super().server_step(replica, own, means, draws)


class PartlySynchronised(Masha1):
    """Wrong: F(w) is renewed by those that happen to take part."""

    def select(self, replica: Any, draws: Draws, members: tuple[int, ...]) -> tuple[int, ...]:
        if replica.syncing:
            return members
        start = draws.round % len(members)
        return tuple(sorted((members * 2)[start : start + (self.participants or 0)]))


def errors(kind: type[Masha1], count: int) -> tuple[str, list[float]]:
    game = BilinearGame(n=10, num_workers=4, regularisation=0.02, heterogeneity=0.3)
    method = kind(step_size=0.15, probability=0.1, up=RandK(fraction=0.5), down=FULL, participants=count)
    outcome = simulate(game, method, seed=0, stop=Stop(merit=0.03, max_iterations=3000, every=10), wire=LoopbackWire())
    return outcome.reason, [record.merits["relative_error"] for record in outcome.history]


def test_a_weight_of_one_over_all_diverges_and_a_partial_synchronisation_stalls() -> None:  # masha.md 14 (l), trap 10
    assert errors(Masha1, 1)[0] == "merit"
    assert errors(WeightedByAll, 1)[0] == "diverged"
    reason, seen = errors(PartlySynchronised, 2)
    assert reason == "diverged" or min(seen[-100:]) > 0.3


def test_what_diverges_cannot_be_asked_for(game: BilinearGame) -> None:
    top = TopK(k=1)
    with pytest.raises(ConfigError, match="method 'masha2' has no parameter 'participants'"):
        make_method("masha2", game, up=top, down=top, step_size=0.1, participants=2)
    with pytest.raises(ConfigError, match="participants must be at least 1, got 0"):
        masha1(game, up=RAND, down=FULL, step_size=0.1, participants=0)
    with pytest.raises(ConfigError, match="masha1 needs all workers in every round for PermK"):
        masha1(game, up=PermK(workers=4), down=FULL, step_size=0.1, participants=2)
    with pytest.raises(ConfigError, match="masha1 cannot compress the downlink with PermK"):
        masha1(game, up=RAND, down=PermK(workers=4), step_size=0.1)


def test_perm_k_has_the_noise_of_the_table() -> None:  # masha.md, section 9.1: q_s L~^2
    game = BilinearGame()
    assert masha1_noise(game, PermK(workers=10), FULL) == pytest.approx(game.constants.lipschitz_rms)


def test_arrears_choose_the_fewer_bytes() -> None:
    arrears = Arrears(3)
    arrears.receive((0, 1, 2), 1, 100)
    arrears.receive((0,), 2, 30)
    arrears.receive((0, 2), 3, 30)
    assert arrears.costs((0, 1, 2), 3, 50) == {1: (50, True)}
    assert arrears.costs((0, 1, 2), 3, 60) == {1: (60, False)}
    arrears.receive((1,), 4, 5)
    assert arrears.costs((0, 1, 2), 4, 50) == {0: (5, False), 2: (5, False)}
    again = Arrears(3)
    again.restore(arrears.as_dict())
    assert again.as_dict() == arrears.as_dict()
    with pytest.raises(ValueError, match="add up"):
        Arrears(2).restore(arrears.as_dict())
    arrears.reset(9)
    assert arrears.costs((0, 1, 2), 9, 50) == {}
