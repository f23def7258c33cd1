"""MASHA2: its identity with MASHA1, the exact bookkeeping of its memories, and what it refuses."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Masha2, Stop, make_method, masha1, masha2, simulate
from saddlebag.algorithms.problems import BilinearGame, RobustLogisticRegression
from saddlebag.compression import Compressor, Draws, Identity, Natural, Payload, RandK, TopK, UnscaledRandK, Vector
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.proto.codec import LoopbackWire

EXACT, FULL, TOP = Identity(dtype="float64"), Identity(), TopK(fraction=0.2)
each_rule = pytest.mark.parametrize("rule", ["current", "next"])


@each_rule
@pytest.mark.parametrize("wire_type", ["float32", "float64"])
def test_without_compression_it_is_masha1(rule: Any, wire_type: Any, game: BilinearGame, play: Any) -> None:  # masha.md 14 (b)
    params = {"up": EXACT, "down": EXACT, "step_size": 0.3, "probability": 0.3, "rule": rule, "wire": wire_type}
    ones = play(game, masha2(game, **params), seed=1, num_rounds=400)
    others = play(game, masha1(game, **params), seed=1, num_rounds=400)
    for one, other in zip(ones, others, strict=True):
        gap = np.linalg.norm(one.next_replica.z_D - other.next_replica.z_D)
        # in a float32 increment a last bit of float64 may turn into one of float32, of a difference that shrinks
        assert gap <= (1e-13 if wire_type == "float64" else 1e-9) * np.linalg.norm(game.solution)
        for own in (*one.next_workers, one.next_server):
            assert not own.memory_D.any()


def owed(turn: Any, when: str) -> Vector:
    """E = e + mean of e_m."""
    server, workers = (turn.server, turn.workers) if when == "before" else (turn.next_server, turn.next_workers)
    owed_D: Vector = server.memory_D + np.mean([own.memory_D for own in workers], axis=0)
    return owed_D


def shadow_gap(method: Masha2, game: BilinearGame, play: Any, num_rounds: int = 150) -> float:
    """The largest relative error of zhat+ = tau zhat + p (w - E) - gamma F(zh), zhat = z - E; F as the machines know it."""
    worst, p = 0.0, method.probability
    operators = [game.operator(worker) for worker in range(game.num_workers)]
    for turn in play(game, method, seed=2, num_rounds=num_rounds):
        if turn.replica.syncing:
            assert np.array_equal(owed(turn, "after"), owed(turn, "before"))
            continue
        half_D, debt_D = method._half(turn.replica), owed(turn, "before")
        value_D = np.mean([operator(half_D, turn.draws) for operator in operators], axis=0)
        value_D += turn.replica.operator_w_D - turn.server.operator_w_D  # 0 but for the rounding of float32 increments
        expected_D = (1 - p) * (turn.replica.z_D - debt_D) + p * (turn.replica.w_D - debt_D) - method.step_size * value_D
        error_D = turn.next_replica.z_D - owed(turn, "after") - expected_D
        worst = max(worst, float(np.linalg.norm(error_D) / np.linalg.norm(expected_D)))
    return worst


COMPRESSORS = [(TOP, FULL), (TOP, TOP), (UnscaledRandK(fraction=0.3), UnscaledRandK(fraction=0.3, support="common"))]


@each_rule
@pytest.mark.parametrize("wire_type", ["float32", "float64"])
@pytest.mark.parametrize(("up", "down"), COMPRESSORS, ids=["top-full", "top-top", "rand-rand"])
def test_shadow_recursion_is_exact(
    rule: Any, wire_type: Any, up: Compressor, down: Compressor, game: BilinearGame, play: Any
) -> None:  # masha.md, section 3 and 14 (c)
    method = masha2(game, up=up, down=down, step_size=0.05, probability=0.3, rule=rule, wire=wire_type)
    assert shadow_gap(method, game, play) <= 1e-14


def before_rounding(compressor: Compressor, x_D: Vector, memory_D: Vector, draws: Draws) -> tuple[Payload, Vector]:
    """Wrong: the memory subtracts what was meant, in float64, not what was sent, in float32."""
    owed_D = memory_D + x_D
    payload = compressor.encode(owed_D, draws)
    return payload, np.where(payload.dense() != 0, 0.0, owed_D)


def test_a_memory_that_forgets_the_rounding_breaks_the_recursion(
    game: BilinearGame, play: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # masha.md, trap 8
    method = masha2(game, up=TOP, down=TOP, step_size=0.05, probability=0.3)
    monkeypatch.setattr(sys.modules[Masha2.__module__], "feed_back", before_rounding)
    assert shadow_gap(method, game, play) > 1e-10


@pytest.mark.parametrize("unbiased", [RandK(fraction=0.1), Natural()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("side", ["up", "down"])
@pytest.mark.parametrize("step_size", [None, 0.1])
def test_refuses_compressors_that_do_not_contract(
    unbiased: Compressor, side: str, step_size: float | None, game: BilinearGame
) -> None:
    compressors = {"up": TOP, "down": TOP, side: unbiased}
    words = rf"masha2 needs a contractive compressor {side}, got {type(unbiased).__name__}\(.*\) \(unbiased\)"
    with pytest.raises(ConfigError, match=words):
        make_method("masha2", game, step_size=step_size, **compressors)


def test_refuses_a_prox(robust: RobustLogisticRegression) -> None:
    with pytest.raises(ConfigError, match="masha2 has no prox and robust_logistic on random needs one; use masha1"):
        masha2(robust, up=TOP, down=TOP, step_size=0.1)


def test_theory(game: BilinearGame) -> None:  # masha.md, section 9.4
    constants, top = game.constants, TopK(k=5)  # delta = 4
    rms, mu = constants.lipschitz_rms, constants.strong_monotonicity
    one, two = masha2(game, up=top, down=FULL), masha2(game, up=top, down=TopK(k=10))
    p = (5 * 32 + math.log2(math.comb(20, 5))) / (20 * 32)
    assert one.probability == two.probability == pytest.approx(p)
    assert one.step_size == pytest.approx(math.sqrt(p) / (9 * 4 * rms))
    assert two.step_size == pytest.approx(math.sqrt(p) / (97 * 4 * 2 * rms))
    assert masha2(game, up=top, down=FULL, probability=1e-6).step_size == pytest.approx(1e-6 / (2 * mu))


class MislabelledRandK(RandK):
    """Wrong: the scaled map that passes for contractive."""

    def alpha(self, d: int) -> float:
        return 1 / (1 + self.omega(d))


@each_rule
def test_converges_where_scaled_rand_k_diverges(rule: Any, wire: LoopbackWire) -> None:  # masha.md, section 10
    game = BilinearGame(n=10, num_workers=4, regularisation=0.1)

    def reason(up: Compressor) -> str:
        method = masha2(game, up=up, down=TOP, probability=0.2, step_size=0.1, rule=rule)
        return simulate(game, method, seed=0, stop=Stop(merit=1e-8, max_iterations=5000, every=50), wire=wire).reason

    assert reason(TOP) == "merit"
    assert reason(MislabelledRandK(fraction=0.2)) == "diverged"
