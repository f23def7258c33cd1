"""The reference driver: when it stops, what it records, what it counts, and that it repeats bit for bit."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import (
    AnyMethod,
    Judge,
    Message,
    Problem,
    Record,
    Stop,
    Verdict,
    compressed_extragradient,
    digest,
    extragradient,
    form_means,
    masha1,
    masha2,
    ogda,
    simulate,
)
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import SERVER, Dense, Draws, Identity, Natural, RandK, TopK, Vector
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire, decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

RAND, COMMON, TOP, FULL = RandK(fraction=0.2), RandK(fraction=0.2, support="common"), TopK(fraction=0.2), Identity()


def methods(game: Problem) -> dict[str, AnyMethod]:
    return {
        "compressed_extragradient": compressed_extragradient(game, up=RAND, down=TOP, step_size=0.02),
        "extragradient": extragradient(game),
        "masha1_common": masha1(game, up=COMMON, down=Natural()),
        "masha1_next": masha1(game, up=RAND, down=FULL, rule="next"),
        "masha1_own": masha1(game, up=RAND, down=Natural()),
        "masha2": masha2(game, up=TOP, down=TOP, step_size=0.05),
        "ogda": ogda(game),
    }


each_method = pytest.mark.parametrize("name", sorted(methods(BilinearGame(n=2))))


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_it_stops_at_the_first_iteration_that_is_good_enough(game: BilinearGame, wire: LoopbackWire) -> None:
    outcome = simulate(game, extragradient(game), seed=0, stop=Stop(merit=1e-3, max_rounds=10_000), wire=wire)
    errors = [record.merits["relative_error"] for record in outcome.history]
    assert outcome.reason == "merit"
    assert errors[-1] <= 1e-3 < min(errors[:-1])
    assert errors[-1] == game.merits(outcome.replica.z_D)["relative_error"]


def test_it_stops_after_so_many_rounds(game: BilinearGame, wire: LoopbackWire) -> None:
    outcome = simulate(game, extragradient(game), seed=0, stop=Stop(merit=1e-3, max_rounds=7), wire=wire)
    assert (outcome.reason, outcome.rounds, outcome.replica.iteration) == ("max_rounds", 7, 3)  # in the middle of a fourth
    assert (outcome.history[-1].round, outcome.history[-1].iteration) == (7, 3)


def test_it_stops_after_so_many_iterations(game: BilinearGame, wire: LoopbackWire) -> None:
    outcome = simulate(game, extragradient(game), seed=0, stop=Stop(max_iterations=7, max_rounds=100), wire=wire)
    assert (outcome.reason, outcome.rounds, outcome.replica.iteration) == ("max_iterations", 14, 7)


def test_a_good_end_is_called_so_even_in_the_last_round(game: BilinearGame, wire: LoopbackWire) -> None:
    method = extragradient(game)
    first = simulate(game, method, seed=0, stop=Stop(merit=1e-3, max_rounds=10_000), wire=wire)
    again = simulate(game, method, seed=0, stop=Stop(merit=1e-3, max_rounds=first.rounds), wire=wire)
    assert (again.reason, again.rounds) == ("merit", first.rounds)


def test_divergence_ends_a_run(game: BilinearGame, wire: LoopbackWire) -> None:
    outcome = simulate(game, ogda(game, step_size=3.0), seed=0, stop=Stop(merit=1e-3, max_rounds=10_000), wire=wire)
    errors = [record.merits["relative_error"] for record in outcome.history]
    assert outcome.reason == "diverged"
    assert errors[-1] > 1e6 >= max(errors[:-1])  # a million times the start


@pytest.mark.parametrize("step_size", [1e9, 1e300])
def test_a_run_that_diverges_before_its_first_record_has_a_last_one(
    game: BilinearGame, wire: LoopbackWire, step_size: float
) -> None:
    stop, told = Stop(max_iterations=1000, every=1000), list[Record]()
    outcome = simulate(game, ogda(game, step_size=step_size), seed=0, stop=stop, wire=wire, observe=told.append)
    assert outcome.reason == "diverged"
    assert told == list(outcome.history)
    (last,) = outcome.history
    assert (last.round, last.iteration) == (outcome.rounds, outcome.replica.iteration)
    assert (last.up_bytes, last.down_bytes) == (outcome.up_bytes, outcome.down_bytes)
    assert set(last.merits) == set(game.merits(game.start()))


def test_the_last_record_is_not_told_twice(game: BilinearGame) -> None:
    judge, point = Judge(game, Stop(max_rounds=9)), Point(game.start(), 1)
    assert judge(1, Point(game.start(), 0), point).merits is not None
    assert judge.overflow(1, point) == Verdict(None, "diverged")
    assert judge.overflow(2, point).merits == game.merits(game.start())


@dataclasses.dataclass(frozen=True)
class Merit:
    """A problem whose merit at z is a function of z's first coordinate."""

    first: Mapping[float, float]

    def start(self) -> Vector:
        return np.zeros(1)

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        return {"first": self.first[float(z_D[0])], "second": 0.0}


@dataclasses.dataclass(frozen=True)
class Point:
    z_D: Vector
    iteration: int


@pytest.mark.parametrize(
    ("merit", "reason"),
    [(1.0, None), (1e6, None), (1.1e6, "diverged"), (math.inf, "diverged"), (math.nan, "diverged"), (0.5, "merit")],
)
def test_the_judge_reads_the_first_merit(merit: float, reason: str | None) -> None:
    judge = Judge(Merit({0.0: 1.0, 1.0: merit}), Stop(merit=0.5))  # type: ignore[arg-type]
    verdict = judge(1, Point(np.zeros(1), 0), Point(np.ones(1), 1))
    assert verdict.reason == reason
    assert list(verdict.merits or {}) == ["first", "second"]


def test_the_judge_is_silent_when_nothing_is_due() -> None:
    judge = Judge(Merit({0.0: 1.0, 1.0: 0.1}), Stop(merit=0.5, every=2))  # type: ignore[arg-type]
    start, end = Point(np.zeros(1), 1), Point(np.ones(1), 2)
    assert judge(1, start, start).merits is None  # the iterate did not move
    assert judge(1, start, dataclasses.replace(end, iteration=3)).merits is None  # an odd iteration
    assert judge(1, start, end).reason == "merit"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "stop needs one of merit, max_rounds, max_iterations, max_bytes and max_seconds"),
        ({"every": 3}, "stop needs one of merit, max_rounds, max_iterations, max_bytes and max_seconds"),
        ({"max_rounds": 0}, "stop.max_rounds must be at least 1, got 0"),
        ({"max_iterations": -1}, "stop.max_iterations must be at least 1, got -1"),
        ({"max_rounds": 1, "every": 0}, "stop.every must be at least 1, got 0"),
        ({"max_rounds": 1e23}, r"stop.max_rounds must be a whole number, got 1e\+23"),
        ({"max_rounds": 2.5}, "stop.max_rounds must be a whole number, got 2.5"),
        ({"max_rounds": float("nan")}, "stop.max_rounds must be a whole number, got nan"),
        ({"max_bytes": True}, "stop.max_bytes must be a whole number, got True"),
        ({"max_iterations": 2**63}, r"stop.max_iterations must be at least 1 and below 2\^63, got 9223372036854775808"),
        ({"merit": "small"}, "stop.merit must be positive, got 'small'"),
        ({"merit": 0.0}, "stop.merit must be positive, got 0.0"),
        ({"merit": math.nan}, "stop.merit must be positive, got nan"),
    ],
)
def test_bad_stops_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Stop(**params)


# --- records ----------------------------------------------------------------------------------------------------------


@each_method
def test_history_has_a_line_for_each_iteration_that_is_due(name: str, game: BilinearGame, wire: LoopbackWire) -> None:
    method, stop = methods(game)[name], Stop(max_iterations=30, every=4)
    seen: list[Record] = []
    outcome = simulate(game, method, seed=0, stop=stop, wire=wire, observe=seen.append)
    assert [record.iteration for record in seen] == [4, 8, 12, 16, 20, 24, 28, 30]
    assert outcome.history == tuple(seen)
    for one, other in itertools.pairwise(seen):
        assert one.round < other.round
        assert one.up_bytes < other.up_bytes
        assert one.down_bytes < other.down_bytes
    last = seen[-1]
    assert (last.round, last.up_bytes, last.down_bytes) == (outcome.rounds, outcome.up_bytes, outcome.down_bytes)
    assert last.merits == game.merits(outcome.replica.z_D)


def test_history_need_not_be_kept(game: BilinearGame, wire: LoopbackWire) -> None:
    seen: list[Record] = []
    stop = Stop(max_iterations=5)
    outcome = simulate(game, ogda(game), seed=0, stop=stop, wire=wire, observe=seen.append, keep_history=False)
    assert outcome.history == ()
    assert len(seen) == 5


class Scale:
    """A wire that weighs what it carries."""

    def __init__(self) -> None:
        self.lengths: list[tuple[int, int, int]] = []

    def carry(self, message: Message, sizes: tuple[int, ...], draws: Draws) -> tuple[Message, int]:
        data = b"".join(encode(message))
        self.lengths.append((draws.round, draws.worker, len(data)))
        return decode(data, sizes, draws), len(data)


@each_method
def test_bytes_are_lengths_of_encoded_messages(name: str, game: BilinearGame) -> None:
    scale = Scale()
    outcome = simulate(game, methods(game)[name], seed=0, stop=Stop(max_rounds=40), wire=scale)
    assert [key[:2] for key in scale.lengths] == [(r, m) for r in range(40) for m in (0, 1, 2, 3, SERVER)]
    assert outcome.up_bytes == sum(length for _, worker, length in scale.lengths if worker != SERVER)
    assert outcome.down_bytes == 4 * sum(length for _, worker, length in scale.lengths if worker == SERVER)


def test_bytes_of_full_vectors(game: BilinearGame, wire: LoopbackWire) -> None:
    part = 1 + 4 * game.dimension  # a layout byte and float32 values
    outcome = simulate(game, ogda(game), seed=0, stop=Stop(max_rounds=3), wire=wire)
    assert outcome.up_bytes == outcome.down_bytes == 3 * 4 * part
    outcome = simulate(game, ogda(game, wire="float64"), seed=0, stop=Stop(max_rounds=3), wire=wire)
    assert outcome.up_bytes == 3 * 4 * (2 * part - 1)


# --- repetition -------------------------------------------------------------------------------------------------------

RANDOM = {"compressed_extragradient", "masha1_common", "masha1_next", "masha1_own", "masha2"}


@each_method
def test_a_seed_fixes_every_bit(name: str, game: BilinearGame, wire: LoopbackWire, play: Any) -> None:
    def end(seed: int) -> int:
        return digest(simulate(game, methods(game)[name], seed=seed, stop=Stop(max_rounds=60), wire=wire).replica)

    assert end(5) == end(5)
    assert (end(5) != end(6)) == (name in RANDOM)
    *_, last = play(game, methods(game)[name], seed=5, num_rounds=60)
    assert end(5) == digest(last.next_replica)


def test_means_are_summed_in_the_order_given() -> None:
    values = [1e16, 1.0, -1e16]

    def mean(order: list[float]) -> float:
        messages = (Message((Dense(np.array([value])),)) for value in order)
        return float(form_means((1,), messages, 3)[0].dense()[0])

    assert mean(values) == 0.0
    assert mean([1e16, -1e16, 1.0]) == 1.0 / 3


def test_messages_with_other_parts_than_announced_are_no_mean() -> None:
    with pytest.raises(ValueError, match="zip"):
        form_means((1, 1), iter([Message((Dense(np.ones(1)),))]), 1)


# --- replicas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["masha1", "masha2"])
def test_replicas_stay_bit_identical(kind: str, play: Any) -> None:  # masha.md, traps 1 and 2; 14 (i)
    game = BilinearGame(n=5, num_workers=2, regularisation=0.1)
    method = masha1(game, up=RAND, down=Natural()) if kind == "masha1" else masha2(game, up=TOP, down=TOP, step_size=0.1)
    other = method.init_replica(game.start())
    for turn in play(game, method, seed=1, num_rounds=10_000):
        data = b"".join(encode(turn.down))  # a worker that decodes for itself
        draws = Draws(1, turn.draws.round, 1)
        other = method.replay(other, decode(data, method.downlink_sizes(other, draws), turn.draws), draws)
        if turn.draws.round % 100 == 99:
            assert digest(other) == digest(turn.next_replica)
    assert game.merits(other.z_D)["relative_error"] < 1e-12


def test_a_replica_that_missed_a_message_does_not_heal(play: Any) -> None:  # masha.md, trap 1
    game = BilinearGame(n=5, num_workers=2, regularisation=0.05)
    method = masha1(game, up=RandK(fraction=0.5), down=FULL, step_size=0.3)
    behind, gaps = None, []
    for turn in play(game, method, seed=1, num_rounds=2000):
        if turn.draws.round == 50:
            lost = Message(tuple(Dense(np.zeros(part.dimension)) for part in turn.down.parts))
            behind = method.replay(turn.replica, lost, turn.draws)
        elif behind is not None:
            behind = method.replay(behind, turn.down, turn.draws)
            gaps.append(float(np.linalg.norm(behind.z_D - turn.next_replica.z_D)))
    assert game.merits(turn.next_replica.z_D)["relative_error"] < 1e-6
    assert gaps[-1] > 1e-2 * max(gaps)
    assert gaps[-1] == pytest.approx(gaps[-500], rel=1e-3)  # for ever
