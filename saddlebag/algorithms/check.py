"""The laws of a method: passing them is the definition of a correct plug-in."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np

from saddlebag.algorithms.agreed.auto_step import Steerable
from saddlebag.algorithms.agreed.common_grid import SharesGrid
from saddlebag.algorithms.base import AnyMethod, Message, Method, Operator, Problem, Restartable, restarted
from saddlebag.algorithms.finite_sum import FiniteSum
from saddlebag.algorithms.merging import Mergeable
from saddlebag.algorithms.method_capabilities import (
    Clips,
    Compresses,
    Foresees,
    HasProbability,
    HasStepSize,
    IsLate,
    Narrow,
    Sliceable,
    TakesAnyMean,
)
from saddlebag.algorithms.participation import Selective, catch_up, catch_up_sizes, caught_up, participants
from saddlebag.algorithms.simulate import Wire, form_means
from saddlebag.algorithms.state import digest, pack, unpack
from saddlebag.algorithms.wrapped import is_narrow, sum_dtype
from saddlebag.capabilities import require_known
from saddlebag.compression import SERVER, Draws, Index, Mean, Vector
from saddlebag.errors import StateError

__all__ = ["check_method"]

CAPABILITIES: tuple[type, ...] = (
    Clips,
    Compresses,
    Foresees,
    HasProbability,
    HasStepSize,
    IsLate,
    Mergeable,
    SharesGrid,
    Narrow,
    Restartable,
    Selective,
    Sliceable,
    Steerable,
    TakesAnyMean,
)
"""What a method may have beside `Method`."""


def check_method(method: AnyMethod, problem: Problem, *, wire: Wire | None = None, num_rounds: int = 40, seed: int = 0) -> None:
    """Check the laws of a method on a problem; raises `AssertionError` with the law that is broken.

    1. The three steps are functions: equal arguments give equal bits, and arguments are not changed (but the state that a
       `Narrow` method's step moves on).
    2. Messages have the announced parts and sizes, and mean the same after `wire`.
    3. States keep the type and shapes of the first ones and survive `pack` and `unpack`, so a run that is saved and restored at
       any round keeps its trajectory.
    4. The operator is only asked through the given function, at feasible points: prox(z, 0+) = z there.
    5. The server half keeps nothing of the means: their memory serves the next round.
    6. A restart, from the replica's z or from all of it, gives a valid replica there.
    7. It has no public attribute but its fields, its contract's and the capabilities of methods.
    8. Who takes part is a function of the shared draws: some members, ascending, and all where replicas are compared. Rounds
       with idle workers change no field of the replica but `drifting`, and a catch-up gives the same bits.
    9. Where rounds can be merged, uplinks have the same parts in every round, and what is late weighs no more than what is not.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=4, workers=2)
        >>> sb.check_method(sb.make_method("ogda", game), game)
    """
    require_known(method, (Method, *CAPABILITIES))
    replica = method.init_replica(problem.start())
    if isinstance(method, Mergeable) and not method.unmergeable:
        _check_merging(method, replica, seed)
    workers = [method.init_worker(replica) for _ in range(problem.num_workers)]
    server = method.init_server(replica)
    first, first_worker, first_server = replica, workers[0], server
    restored = functools.partial(_restored, narrow=is_narrow(method))
    for round_ in range(num_rounds):
        draws = Draws(seed, round_, SERVER)
        sizes = method.uplink_sizes(replica, draws)
        ups = []
        active = _selected(method, replica, draws, problem.num_workers)
        for worker in active:
            operator = _feasible(problem, problem.operator(worker))
            arguments = (replica, workers[worker], operator, draws.of(worker))
            workers[worker], up = _twice(method, "worker_step", arguments)
            ups.append(_checked(up, sizes, draws.of(worker), wire))
        means = form_means(sizes, iter(ups), len(ups), sum_dtype(method))
        server, down = _served(method, replica, server, means, draws)
        down = _checked(down, method.downlink_sizes(replica, draws), draws, wire)
        before, replica = replica, _twice(method, "replay", (replica, down, draws))
        if len(active) < problem.num_workers:
            _check_drift(method, before, replica, wire, draws)
        assert isinstance(replica.iteration, int)
        assert len(replica.z_D) == problem.dimension
        replica, server = restored(replica, first), restored(server, first_server)
        workers = [restored(own, first_worker) for own in workers]
    assert replica.iteration > 0, f"{method}: {num_rounds} rounds completed no iteration"
    for after in (method.init_replica(replica.z_D), restarted(method, replica)):
        assert np.array_equal(restored(after, first).z_D, replica.z_D), f"{method}: a restart moved z"


def _served(method: AnyMethod, replica: Any, server: Any, means: tuple[Mean, ...], draws: Draws) -> tuple[Any, Message]:
    """The server's half of a round, which keeps nothing of the means: law 5."""
    server, down = _twice(method, "server_step", (replica, server, means, draws))
    bits = _bits((server, down))
    for mean in means:
        mean.value.fill(np.nan)
    assert _bits((server, down)) == bits, f"{method}.server_step: keeps the memory of a mean, which is on loan"
    return server, down


def _check_merging(method: Any, replica: Any, seed: int) -> None:
    """Law 9."""
    sizes = {method.uplink_sizes(replica, Draws(seed, round_, SERVER)) for round_ in range(40)}
    assert len(sizes) == 1, f"uplinks have other parts in other rounds: {sorted(sizes)}"
    weights = [method.late_weight(age) for age in range(40)]
    assert weights[0] == 1.0, f"late_weight(0) must be 1, got {weights[0]}"
    assert all(0 < later <= sooner for sooner, later in itertools.pairwise(weights)), f"late_weight must not grow: {weights}"


def _selected(method: AnyMethod, replica: Any, draws: Draws, num_workers: int) -> tuple[int, ...]:
    members = tuple(range(num_workers))
    active = participants(method, replica, draws, members)
    assert active == participants(method, replica, draws, members), f"{method}.select: equal arguments gave different results"
    assert active, f"{method}.select: nobody takes part"
    assert set(active) <= set(members), f"{method}.select: {active} are not among the members"
    assert list(active) == sorted(set(active)), f"{method}.select: {active} do not ascend"
    if method.synchronises(replica, draws):
        assert active == members, f"{method}.select: idle workers in a round that synchronises"
    return active


def _check_drift(method: AnyMethod, before: Any, after: Any, wire: Wire | None, draws: Draws) -> None:
    """A worker that was idle is brought to `after` by its drifting fields alone."""
    assert isinstance(method, Selective)
    message = _checked(catch_up(method, after), catch_up_sizes(method, before), draws, wire)
    brought = caught_up(method, before, message)
    assert digest(brought) == digest(after), f"{method}: a round with idle workers changed more than {method.drifting}"


def _twice(method: AnyMethod, step: str, arguments: tuple[Any, ...]) -> Any:
    spent = is_narrow(method) and arguments[0 if step == "replay" else 1]  # which a narrow method changes
    inputs = tuple(a for a in arguments if not isinstance(a, Draws | _Feasible) and a is not spent)
    before = _bits(inputs)
    first, again = (getattr(method, step)(*(_copied(a) if a is spent else a for a in arguments)) for _ in range(2))
    assert _bits(first) == _bits(again), f"{method}.{step}: equal arguments gave different results"
    assert _bits(inputs) == before, f"{method}.{step}: changed its arguments"
    return first


def _copied(state: Any) -> Any:
    return unpack(state, {name: array.copy() for name, array in pack(state).items()})


def _bits(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(_bits(item) for item in result)
    if isinstance(result, Message):
        return tuple(part.dense().tobytes() for part in result.parts)
    return result.dense().tobytes() if isinstance(result, Mean) else digest(result)


def _checked(message: Message, sizes: tuple[int, ...], draws: Draws, wire: Wire | None) -> Message:
    actual = tuple(part.dimension for part in message.parts)
    assert actual == sizes, f"announced parts of sizes {sizes}, sent {actual}"
    if wire is None:
        return message
    received, num_bytes = wire.carry(message, sizes, draws)
    assert num_bytes > 0
    assert _bits(received) == _bits(message), "the message changed on the wire"
    return received


def _restored(state: Any, first: Any, *, narrow: bool) -> Any:
    """The state from its packed form, given the one at the start."""
    name = type(state).__name__
    _check_types(state, first, narrow=narrow)
    try:
        restored = unpack(first, pack(state))
    except StateError as error:
        raise AssertionError(f"{name} does not survive pack and unpack: {error}") from error
    assert digest(restored) == digest(state), f"{name} does not survive pack and unpack"
    return restored


def _check_types(state: Any, first: Any, *, narrow: bool) -> None:
    """A state is of one type with the first of its kind, through all that it nests; vectors are of the method's type."""
    name = type(state).__name__
    assert type(state) is type(first), f"{name} is no {type(first).__name__}, as which this state began"
    for field in dataclasses.fields(state):
        value, example = getattr(state, field.name), getattr(first, field.name)
        if dataclasses.is_dataclass(example):
            _check_types(value, example, narrow=narrow)
        elif isinstance(value, np.ndarray):
            held = (np.float32, np.uint16) if narrow else (np.float64,)
            kinds = " or ".join(np.dtype(kind).name for kind in held)
            assert value.dtype in held, f"{name}.{field.name} is {value.dtype}; states hold {kinds}"


def _feasible(problem: Problem, operator: Operator) -> Operator:
    return _FeasibleSum(problem, operator) if isinstance(operator, FiniteSum) else _Feasible(problem, operator)


@dataclasses.dataclass(frozen=True)
class _Feasible:
    """An operator that is only asked at feasible points."""

    problem: Problem
    operator: Any

    def __call__(self, z_D: Vector, draws: Draws) -> Vector:
        self.require(z_D)
        value_D: Vector = self.operator(z_D, draws)
        return value_D

    def require(self, z_D: Vector) -> None:
        projected_D = self.problem.prox(z_D, 1e-300)
        assert np.allclose(projected_D, z_D, rtol=1e-9, atol=1e-9), "the operator was asked at an infeasible point"


class _FeasibleSum(_Feasible):
    """The same for a finite sum."""

    @property
    def num_samples(self) -> int:
        return int(self.operator.num_samples)

    @property
    def lipschitz(self) -> float | None:
        return None

    def batch(self, z_D: Vector, index_B: Index) -> Vector:
        self.require(z_D)
        value_D: Vector = self.operator.batch(z_D, index_B)
        return value_D
