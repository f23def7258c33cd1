"""Small problems whose workers differ, and a driver that shows every state of every round."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms import AnyMethod, Message, Problem, form_means
from saddlebag.algorithms.problems import BilinearGame, Dataset, DenseRows, FiniteBilinearGame, RobustLogisticRegression
from saddlebag.compression import SERVER, Dense, Draws, Identity, Payload, Vector
from saddlebag.proto.codec import LoopbackWire


@dataclasses.dataclass(frozen=True)
class Turn:
    """One round: the states before and after it, and the messages as received."""

    draws: Draws
    replica: Any
    workers: tuple[Any, ...]
    server: Any
    ups: tuple[Message, ...]
    down: Message
    next_replica: Any
    next_workers: tuple[Any, ...]
    next_server: Any


Play = Callable[..., Iterator[Turn]]


def _play(problem: Problem, method: AnyMethod, *, seed: int, num_rounds: int) -> Iterator[Turn]:
    wire = LoopbackWire()
    operators = [problem.operator(worker) for worker in range(problem.num_workers)]
    replica = method.init_replica(problem.start())
    workers = tuple(method.init_worker(replica) for _ in operators)
    server = method.init_server(replica)
    for round_ in range(num_rounds):
        draws = Draws(seed, round_, SERVER)
        sizes = method.uplink_sizes(replica, draws)
        steps = [method.worker_step(replica, workers[m], operators[m], draws.of(m)) for m in range(len(operators))]
        ups = tuple(wire.carry(message, sizes, draws.of(m))[0] for m, (_, message) in enumerate(steps))
        next_workers = tuple(own for own, _ in steps)
        next_server, down = method.server_step(replica, server, form_means(sizes, iter(ups), len(ups)), draws)
        down, _ = wire.carry(down, method.downlink_sizes(replica, draws), draws)
        next_replica = method.replay(replica, down, draws)
        yield Turn(draws, replica, workers, server, ups, down, next_replica, next_workers, next_server)
        replica, workers, server = next_replica, next_workers, next_server


@pytest.fixture
def play() -> Play:
    return _play


@pytest.fixture
def wire() -> LoopbackWire:
    return LoopbackWire()


@pytest.fixture(scope="session")
def game() -> BilinearGame:
    """D = 20, four different workers, kappa = 20."""
    return BilinearGame(n=10, num_workers=4, regularisation=0.05)


@pytest.fixture(scope="session")
def samples() -> FiniteBilinearGame:
    """The same with 5 samples on each worker."""
    return FiniteBilinearGame(n=10, num_workers=4, regularisation=0.05, num_samples=5)


def _robust(num_rows: int, num_features: int, num_workers: int) -> RobustLogisticRegression:
    rng = np.random.default_rng(11)
    values_NF = rng.standard_normal((num_rows, num_features))
    labels_N = np.where(values_NF @ rng.standard_normal(num_features) + 0.5 * rng.standard_normal(num_rows) > 0, 1.0, -1.0)
    data = Dataset("random", DenseRows(values_NF), labels_N)
    return RobustLogisticRegression.build(data, num_workers=num_workers, split="label_skew")


@pytest.fixture(scope="session")
def robust() -> RobustLogisticRegression:
    """F = 4, N = 30, three workers by label; the simplex is active at the solution."""
    return _robust(30, 3, 3)


@pytest.fixture(scope="session")
def tiny_robust() -> RobustLogisticRegression:
    """D = 6: small enough to enumerate the supports of two workers."""
    return _robust(4, 1, 2)


@dataclasses.dataclass(frozen=True)
class State:
    """All states at a round boundary, to start a round from."""

    replica: Any
    workers: tuple[Any, ...]
    server: Any


@dataclasses.dataclass(frozen=True)
class OneAt:
    """Rand-1 (scale D) or its unscaled form (scale 1) at coordinates that the test chooses, without rounding."""

    coordinate: dict[int, int]
    scale: float

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        value_D = np.zeros(len(x_D))
        at = self.coordinate[draws.worker]
        value_D[at] = self.scale * x_D[at]
        return Dense(value_D)

    def bits(self, d: int) -> float:
        return 32.0

    def omega(self, d: int) -> float:
        return d - 1.0

    def alpha(self, d: int) -> float:
        return 1.0 / d


@dataclasses.dataclass(frozen=True)
class Sampled:
    """An operator whose batch is the one sample that the test chooses."""

    operator: Any
    sample: int

    def __call__(self, z_D: Vector, draws: Draws) -> Vector:
        value_D: Vector = self.operator(z_D, draws)
        return value_D

    @property
    def num_samples(self) -> int:
        return int(self.operator.num_samples)

    @property
    def lipschitz(self) -> float | None:
        return None

    def batch(self, z_D: Vector, index_B: Any) -> Vector:
        value_D: Vector = self.operator.batch(z_D, np.full_like(index_B, self.sample))
        return value_D


def _coins(method: Any) -> list[tuple[float, Draws]]:
    """Draws in which the coin falls either way, with their probabilities; one of weight 1 for a method without a coin."""
    p = getattr(method, "probability", None)
    if p is None:
        return [(1.0, Draws(0, 5, SERVER))]
    found = [next(d for d in (Draws(0, r, SERVER) for r in range(1, 2000)) if d.coin(p) == side) for side in (True, False)]
    return list(zip((p, 1.0 - p), found, strict=True))


def _one_round(
    problem: Problem,
    method: Any,
    state: State,
    draws: Draws,
    samples: tuple[int, ...] = (),
    active: tuple[int, ...] | None = None,
) -> State:
    operators: list[Any] = [problem.operator(worker) for worker in range(problem.num_workers)]
    if samples:
        operators = [Sampled(operator, sample) for operator, sample in zip(operators, samples, strict=True)]
    steps = [
        method.worker_step(state.replica, own, operator, draws.of(worker))
        for worker, (own, operator) in enumerate(zip(state.workers, operators, strict=True))
        if active is None or worker in active
    ]
    sizes = method.uplink_sizes(state.replica, draws)
    means = form_means(sizes, iter([up for _, up in steps]), len(steps))
    server, down = method.server_step(state.replica, state.server, means, draws)
    return State(method.replay(state.replica, down, draws), tuple(own for own, _ in steps), server)


def _expectation(
    problem: Problem,
    method: Any,
    state: State,
    value: Callable[[State], float],
    *,
    scale: float,
    two_sided: bool = False,
    num_samples: int = 0,
    participants: int | None = None,
) -> float:
    """The exact mean of `value` after one round, over coin, supports of one coordinate, batches of one sample, participants."""
    senders = [*range(problem.num_workers), SERVER][: problem.num_workers + two_sided]
    batches = list(itertools.product(range(num_samples), repeat=problem.num_workers)) if num_samples else [()]
    chosen_N = list(itertools.product(range(problem.dimension), repeat=len(senders)))
    total = 0.0
    for chosen in chosen_N:
        up = OneAt(dict(zip(senders, chosen, strict=True)), scale)
        fixed = dataclasses.replace(method, up=up, down=up if two_sided else Identity(dtype="float64"))
        for weight, draws in _coins(method):
            everybody = participants is None or method.synchronises(state.replica, draws)
            count = problem.num_workers if everybody else participants
            subsets = list(itertools.combinations(range(problem.num_workers), count or 0))
            for samples, active in itertools.product(batches, subsets):
                total += weight / len(subsets) * value(_one_round(problem, fixed, state, draws, samples, active))
    return total / (len(chosen_N) * len(batches))


@pytest.fixture
def expectation() -> Callable[..., float]:
    return _expectation


@pytest.fixture
def state() -> type[State]:
    return State


@dataclasses.dataclass(frozen=True)
class Dealt:
    """Perm-k for two workers at a choice of the test: worker 0 gets these coordinates, worker 1 the others."""

    first: tuple[int, ...]

    def encode(self, x_D: Vector, draws: Draws) -> Dense:
        mine_D = np.isin(np.arange(len(x_D)), self.first) == (draws.worker == 0)
        return Dense(np.where(mine_D, 2.0 * x_D, 0.0))

    def bits(self, d: int) -> float:
        return 16.0 * d

    def omega(self, d: int) -> float:
        return 1.0

    def mean_noise(self, d: int, num_workers: int) -> tuple[float, float]:
        return 1.0, 1.0


@pytest.fixture
def dealt() -> Dealt:
    """Nothing dealt yet; a test replaces `first`."""
    return Dealt(())


def _worst_ratio(after: Callable[[Vector], float], before: Callable[[Vector], float], size: int) -> float:
    """The largest after(v)/before(v) over all v other than 0, for quadratic forms: a generalised eigenvalue, no sample."""

    def matrix(form: Callable[[Vector], float]) -> Vector:
        unit_SS = np.eye(size)
        single_S = np.array([form(unit_S) for unit_S in unit_SS])
        form_SS = np.diag(single_S)
        for i, j in itertools.combinations(range(size), 2):
            form_SS[i, j] = form_SS[j, i] = (form(unit_SS[i] + unit_SS[j]) - single_S[i] - single_S[j]) / 2
        return form_SS

    half_SS = np.linalg.inv(np.linalg.cholesky(matrix(before)))
    return float(np.linalg.eigvalsh(half_SS @ matrix(after) @ half_SS.T)[-1])


@pytest.fixture
def worst_ratio() -> Callable[..., float]:
    return _worst_ratio
