"""What local steps make of a link: a gradient's bytes and seconds with each method of links, and which of them to take.

A worker makes H steps of its own and exchanges what they have changed, so a gradient takes

    compute + (say + up + server + keep + down + take) / H

    say       the change becomes a message: the method's half of the worker, its memory, the encoder
    server    M messages are decoded, their mean is formed; the method's half of the server, the encoder; the server replays its
              own message before it sends it, as where every round has a checkpoint
    keep      that checkpoint is written: beside the next round, but on cores and a disk that it needs, so it counts in full
    take      the downlink is decoded and replayed; the model is read before and written after

Exchanges and steps follow one another: no method of links computes while it exchanges. Messages are made by the methods
themselves, of sample vectors and with memories that the rounds before have filled. The loss is not predicted.
"""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from saddlebag.algorithms import pack
from saddlebag.algorithms.problems.linked import LinkedPrograms
from saddlebag.algorithms.registry import METHODS, default_compressors, make_method
from saddlebag.client.link.vector import ModelVector
from saddlebag.compression import Draws, Identity, Sum, Tensor
from saddlebag.errors import ConfigError
from saddlebag.launch.advice.measure import SEED, timed
from saddlebag.launch.advice.model import WORTH
from saddlebag.launch.link.terms import METHODS as LINKED
from saddlebag.launch.results.units import format_short
from saddlebag.proto.checkpoint import CheckpointStore
from saddlebag.proto.codec import decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from saddlebag.compression import Vector
    from saddlebag.launch.advice.model import Network, Prediction, Verdict

__all__ = ["LocalCosts", "LocalPrediction", "Recommendation", "local_costs", "periods_of", "predict_local", "recommend"]

EVERY = (8, 32)
"""Steps between exchanges that every method is shown with, beside its own."""
_MOST_MESSAGES = 8  # whose mean is timed
_FILLING = 3  # rounds before the one that is timed: full memories take other times than empty ones
_SAVES, _SHIFT = 3, 7919  # one sample serves all workers, turned by so many coordinates


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalCosts:
    """What an exchange costs on this machine at the model's size.

    Attributes:
        method: its name, with the compressors of its defaults.
        full: whether changes are sent in full.
        up_bytes, down_bytes: encoded lengths; up, the mean over the workers.
        say_s, take_s: of a worker; see the module.
        gather_s: the server's, for each of M messages.
        answer_s: the server's, from the mean to its own next boundary, the downlink in hand.
        keep_s: the server's checkpoint, elapsed time on the disk of this machine's temporary files.
    """

    method: str
    full: bool
    up_bytes: float
    down_bytes: float
    say_s: float
    gather_s: float
    answer_s: float
    keep_s: float
    take_s: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalPrediction:
    """A method with H steps between exchanges: the stages of one exchange, in seconds; see the module."""

    costs: LocalCosts
    every: int
    compute_s: float
    say_s: float
    up_s: float
    server_s: float
    keep_s: float
    down_s: float
    take_s: float

    @property
    def exchange_s(self) -> float:
        """One exchange."""
        return self.say_s + self.up_s + self.server_s + self.keep_s + self.down_s + self.take_s

    @property
    def gradient_s(self) -> float:
        """A gradient: a step and its share of an exchange."""
        return self.compute_s + self.exchange_s / self.every

    @property
    def up_bytes(self) -> float:
        """For a gradient."""
        return self.costs.up_bytes / self.every

    @property
    def down_bytes(self) -> float:
        """For a gradient."""
        return self.costs.down_bytes / self.every


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recommendation:
    """What to take: a local method with its period, or an exchange every step (`every` = 1) with a compressor or "dense"."""

    name: str
    every: int
    reason: str


def periods_of(method: str, asked: Sequence[int] = ()) -> tuple[int, ...]:
    """Steps between exchanges to show a method with: those asked for, or 8, 32 and what its recipes have by default."""
    own = inspect.signature(METHODS[method]).parameters["local_steps"].default
    return tuple(sorted(set(asked or (*EVERY, own))))


def local_costs(method: str, x_D: Vector, d: int, workers: int, seconds: float) -> LocalCosts:
    """Run a method of links with its defaults for four rounds on (a part of) the model's size, and time the last.

    Args:
        method: its name.
        x_D: a sample of what a worker's steps change, shape (D,); those of other workers are turned.
        d: coordinates of the model; beyond those of x, times and sizes are taken as proportional.
        workers: M.
        seconds: budget of each of the four timings.

    Raises:
        ConfigError: there is no such method of links.
    """
    if method not in LINKED:
        raise ConfigError(f"a method of links is one of {', '.join(LINKED)}, got {method!r}")
    bench, grown = _Bench(method, x_D, workers), d / len(x_D)
    for number in range(_FILLING):
        bench.round(number)
    messages, down = bench.round(_FILLING)
    draws = Draws(SEED, _FILLING, 0)
    bench.stepped(0, _FILLING)
    means = bench.gathered(messages, _FILLING)
    return LocalCosts(
        method=method,
        full=isinstance(bench.method.up, Identity),
        up_bytes=grown * sum(map(len, messages)) / len(messages),
        down_bytes=grown * len(down),
        say_s=grown * timed(lambda: bench.said(0, draws), seconds),
        gather_s=grown * timed(lambda: bench.gathered(messages, _FILLING), seconds) / len(messages),
        answer_s=grown * timed(lambda: bench.settled(means, draws), seconds),
        keep_s=grown * saved_s(bench.state(down)),
        take_s=grown * timed(lambda: bench.taken(down, draws), seconds),
    )


def saved_s(arrays: Mapping[str, Any]) -> float:
    """Seconds of the fastest of three checkpoints of these arrays."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder), "server")
        for number in range(_SAVES):
            begin = time.perf_counter()
            store.save(number, arrays, {})
            times.append(time.perf_counter() - begin)
    return min(times)


class _Bench:
    """One method's halves by hand: two workers at least, so that a mean is one, and eight at most."""

    def __init__(self, name: str, x_D: Vector, workers: int) -> None:
        self._x_D, d = x_D, len(x_D)
        self._base_D = np.zeros(d)  # what was in the model when its steps began
        self._vector = ModelVector(torch.nn.ParameterList([torch.zeros(d)]), None, buffers=False)
        self._count = min(workers, _MOST_MESSAGES)
        problem = LinkedPrograms(origin_D=np.zeros(d), tensors=[Tensor("sample", (d,))], num_workers=workers)
        given = {} if default_compressors(name) else {"up": Identity(), "down": Identity()}
        self.method: Any = make_method(name, problem, **given)
        self.replica = self.method.init_replica(problem.start())
        self._workers = [self.method.init_worker(self.replica) for _ in range(self._count)]
        self._server = self.method.init_server(self.replica)
        self._sizes = self.method.uplink_sizes(self.replica, Draws(SEED, 0, 0))

    def round(self, number: int) -> tuple[list[bytes], bytes]:
        """A whole round; the bytes up and down."""
        messages = []
        for worker in range(self._count):
            self.stepped(worker, number)
            self._workers[worker], data = self.said(worker, Draws(SEED, number, worker))
            messages.append(data)
        self._server, down = self.answered(self.gathered(messages, number), Draws(SEED, number, 0))
        self.replica = self.taken(down, Draws(SEED, number, 0))
        return messages, down

    def stepped(self, worker: int, number: int) -> None:
        """The model is where a worker's steps have led it."""
        self._vector.write(-np.roll(self._x_D, _SHIFT * (worker + self._count * number)))

    def said(self, worker: int, draws: Draws) -> tuple[Any, bytes]:
        """A worker's state after its message, and that: what `Link.exchange` and the worker do."""
        change_D = self._base_D - self._vector.read()
        assert np.isfinite(change_D).all()  # as a link looks before it sends
        own, message = self.method.worker_step(self.replica, self._workers[worker], lambda z_D, draws: change_D, draws)
        return own, b"".join(encode(message))

    def gathered(self, messages: Sequence[bytes], number: int) -> tuple[Any, ...]:
        """The means of the messages' parts."""
        totals = [Sum(size) for size in self._sizes]
        for worker, data in enumerate(messages):
            for total, part in zip(totals, decode(data, self._sizes, Draws(SEED, number, worker)).parts, strict=True):
                total.add(part)
        return tuple(total.mean(len(messages)) for total in totals)

    def answered(self, means: tuple[Any, ...], draws: Draws) -> tuple[Any, bytes]:
        """The server's state after the downlink, and that."""
        own, message = self.method.server_step(self.replica, self._server, means, draws)
        return own, b"".join(encode(message))

    def settled(self, means: tuple[Any, ...], draws: Draws) -> Any:
        """The server's replica after its own message."""
        _, message = self.method.server_step(self.replica, self._server, means, draws)
        b"".join(encode(message))
        return self.method.replay(self.replica, message, draws)

    def state(self, down: bytes) -> dict[str, Any]:
        """The arrays of the server's checkpoint, with the last message in its log."""
        packed = pack(self.replica, "replica.") | pack(self._server, "server.")
        return {**packed, "log": np.frombuffer(down, np.uint8)}

    def taken(self, down: bytes, draws: Draws) -> Any:
        """The replica after a downlink, which the model gets too."""
        replica = self.method.replay(self.replica, decode(down, self._sizes, draws), draws)
        self._vector.write(replica.z_D)
        self._vector.read()  # from here the next steps count
        return replica


def predict_local(costs: LocalCosts, every: int, network: Network, compute_s: float) -> LocalPrediction:
    """A gradient of a method with `every` steps between exchanges, each of which takes `compute_s`."""
    return LocalPrediction(
        costs=costs,
        every=every,
        compute_s=compute_s,
        say_s=costs.say_s,
        up_s=network.up_s(costs.up_bytes),
        server_s=network.workers * costs.gather_s + costs.answer_s,
        keep_s=costs.keep_s,
        down_s=network.down_s(costs.down_bytes),
        take_s=costs.take_s,
    )


def recommend(verdict: Verdict, rows: Sequence[LocalPrediction]) -> Recommendation:
    """The mildest of all that are within a tenth of the fastest, since nothing here knows what becomes of the loss.

    Mildest first: dense every step; the compressor of every step whose error is below 2 %; changes in full, by their period;
    compressed changes, by theirs; other compressors every step.
    """
    dense = next(each for each in verdict.ranked if each.costs.name == "identity")
    steps = [each for each in (dense, verdict.gentle) if each is not None]
    steps += [each for each in verdict.ranked if each not in steps]
    gentle = steps[: 1 + (verdict.gentle is not None)]
    # where programs step for themselves muloco is diloco, and local_average differs by the outer step, not in what it costs
    known = sorted((row for row in rows if row.costs.method in ("diloco", "sparse_loco")), key=lambda row: row.every)
    full = [row for row in known if row.costs.full]
    order: list[Prediction | LocalPrediction] = [
        *gentle,
        *full,
        *(row for row in known if not row.costs.full),
        *steps[len(gentle) :],
    ]
    fastest = min(_seconds(each) for each in order)
    chosen = next(each for each in order if _seconds(each) <= WORTH * fastest)
    every = chosen.every if isinstance(chosen, LocalPrediction) else 1
    name = chosen.costs.method if isinstance(chosen, LocalPrediction) else chosen.costs.name.replace("identity", "dense")
    return Recommendation(name=name, every=every, reason=_reason(name, every, dense.total_s, _seconds(chosen), chosen))


def _seconds(each: Prediction | LocalPrediction) -> float:
    return each.gradient_s if isinstance(each, LocalPrediction) else each.total_s


def _reason(name: str, every: int, dense_s: float, seconds: float, chosen: Prediction | LocalPrediction) -> str:
    if name == "dense":
        return "exchange every step, dense: nothing makes a gradient faster by a tenth"
    fast = f"a gradient takes {format_short(seconds)}, {dense_s / seconds:.3g} times less than dense every step"
    if not isinstance(chosen, LocalPrediction):
        return f"exchange every step with {name}: {fast}; how many more rounds its error costs is not predicted"
    return f"{name} with every = {every}: {fast}; the loss is not predicted, docs/thin_links.md has what was measured"
