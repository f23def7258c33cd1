from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from saddlebag.algorithms.finite_sum import FiniteSum
from saddlebag.algorithms.local_blocks import LocalOperator
from saddlebag.algorithms.problems import FiniteBilinearGame
from saddlebag.client import account
from saddlebag.client.account import Phases
from saddlebag.compression import Draws
from saddlebag.errors import NotFiniteError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Times that the clock will show, in order."""
    times: list[float] = []
    monkeypatch.setattr(account.time, "perf_counter", lambda: times.pop(0))
    return times


def test_the_parts_of_rounds_add_up_to_the_rounds(clock: list[float]) -> None:
    phases = Phases()
    ask = phases.watched(lambda z_D, draws: z_D + draws.round)
    for start in (0.0, 100.0):
        # begins; two values of the operator, of 2 and 3 s; the step ends at 9, the downlink is there at 14, applied at 15
        clock[:] = [start, start + 1, start + 3, start + 4, start + 7, start + 15]
        began_s = phases.begin()
        for _ in range(2):
            np.testing.assert_array_equal(ask(np.ones(3), Draws(0, 4, 0)), np.full(3, 5.0))
        phases.end(began_s, start + 9, start + 14)
        assert not clock
    assert phases.as_dict() == {"rounds": 2, "compute_s": 10.0, "compress_s": 8.0, "exchange_s": 10.0, "apply_s": 2.0}
    assert str(phases) == "1.5e+04 ms a round: compute 33 %, compress 27 %, exchange 33 %, apply 7 %"


def test_a_value_outside_a_counted_round_is_not_counted(clock: list[float]) -> None:
    phases = Phases()

    def fail(z_D: object, draws: object) -> np.ndarray:
        raise NotFiniteError("no value")

    clock[:] = [0.0, 5.0, 20.0, 21.0]
    with pytest.raises(NotFiniteError):
        phases.watched(fail)(np.ones(1), Draws(0, 0, 0))
    phases.end(phases.begin(), 20.5, 20.75)
    assert phases == dataclasses.replace(Phases(), rounds=1, compress_s=0.5, exchange_s=0.25, apply_s=0.25)


def test_a_finite_sum_stays_one_and_its_batches_count(clock: list[float]) -> None:
    operator = FiniteBilinearGame(n=4, num_workers=2).operator(1)
    phases, z_D, index_B = Phases(), np.ones(8), np.array([0, 2])
    watched = phases.watched(operator)
    assert isinstance(operator, FiniteSum)
    assert isinstance(watched, FiniteSum)
    assert (watched.num_samples, watched.lipschitz) == (operator.num_samples, operator.lipschitz)
    clock[:] = [0.0, 1.0, 4.0, 10.0]
    began_s = phases.begin()
    np.testing.assert_array_equal(watched.batch(z_D, index_B), operator.batch(z_D, index_B))
    phases.end(began_s, 5.0, 9.0)
    assert phases.compute_s == 3.0


def test_an_operator_with_blocks_stays_one_and_its_steps_count(clock: list[float]) -> None:
    class Blocks:
        block_size = 3

        def __call__(self, z_D: np.ndarray, draws: Draws) -> np.ndarray:
            raise AssertionError("its step is to be asked")

        def step(self, z_D: np.ndarray, block_E: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
            return 2 * z_D, block_E + 1

    phases = Phases()
    watched = phases.watched(Blocks())
    assert isinstance(watched, LocalOperator)
    assert watched.block_size == 3
    clock[:] = [0.0, 1.0, 4.0, 10.0]
    began_s = phases.begin()
    value_D, block_E = watched.step(np.ones(2), np.zeros(3), Draws(0, 0, 0))
    phases.end(began_s, 5.0, 9.0)
    assert (value_D.tolist(), block_E.tolist(), phases.compute_s) == ([2.0, 2.0], [1.0, 1.0, 1.0], 3.0)


def test_nothing_is_said_of_no_rounds() -> None:
    assert str(Phases()) == "0 ms a round: compute 0 %, compress 0 %, exchange 0 %, apply 0 %"
