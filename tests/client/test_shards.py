"""Several servers, each with a slice: in memory, with a thread for each slice of each worker, they have the bits of one."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import (
    AnyMethod,
    Constants,
    Problem,
    Stop,
    Verdict,
    compressed_adamw,
    compressed_lamb,
    compressed_sgd,
    digest,
    diloco,
    extragradient,
    forward_backward_forward,
    masha1,
    masha2,
    ogda,
    optimistic_masha,
    qsgda,
    simulate,
)
from saddlebag.algorithms.methods.anchored_extragradient import anchored_extragradient
from saddlebag.algorithms.methods.compressed_extragradient import compressed_extragradient
from saddlebag.algorithms.methods.extragradient_feedback import extragradient_feedback
from saddlebag.algorithms.methods.local.fed_gda_gt import fed_gda_gt
from saddlebag.algorithms.methods.local.local_sgda import local_sgda
from saddlebag.algorithms.methods.local.prox_skip_vip import prox_skip_vip
from saddlebag.algorithms.optimizers.inner import Inner
from saddlebag.algorithms.optimizers.narrow_local import NarrowLocalRounds
from saddlebag.algorithms.optimizers.narrow_optimizer import NarrowOptimizer
from saddlebag.algorithms.optimizers.rules import Adam
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.algorithms.slicing import SliceOfProblem, cut, differences, joined, require_sliceable, sliced
from saddlebag.client.ending import Leaving
from saddlebag.client.link.memory import lasting
from saddlebag.client.shards import GoBack, Meeting, SliceCore
from saddlebag.compression import SERVER, Cast, Draws, Identity, Natural, NearestInt8, RandK, Tensor, TopK, per_tensor
from saddlebag.errors import ConfigError, NotFiniteError
from saddlebag.proto.codec import LoopbackWire, decode
from saddlebag.proto.frames import frames_of, read_frame
from saddlebag.proto.handshake import DONE, LEAD, JoinAsk
from saddlebag.server import effects as events
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms import Operator
    from saddlebag.compression import Vector

ROUNDS, SHARDS, SEED, TIMEOUT_S = 24, 3, 7, 60.0
TENSORS = (Tensor("a", (2, 3)), Tensor("b", (5,)), Tensor("c", (1,)))


@dataclasses.dataclass(frozen=True)
class Tensors:
    """A game whose coordinates are said to be tensors."""

    game: Any
    tensors: tuple[Tensor, ...] = TENSORS
    unconstrained = True

    @property
    def name(self) -> str:
        return str(self.game.name)

    @property
    def dimension(self) -> int:
        return int(self.game.dimension)

    @property
    def num_workers(self) -> int:
        return int(self.game.num_workers)

    @property
    def constants(self) -> Constants | None:
        known: Constants | None = self.game.constants
        return known

    def start(self) -> Vector:
        start_D: Vector = self.game.start()
        return start_D

    def operator(self, worker: int) -> Operator:
        operator: Operator = self.game.operator(worker)
        return operator

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        del step_size
        return v_D

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        merits: Mapping[str, float] = self.game.merits(z_D)
        return merits


def by_tensor(use: Any) -> Any:
    return per_tensor(rules=[{"use": use}], tensors=TENSORS)


def methods(game: Any) -> dict[str, AnyMethod]:
    top, rand = by_tensor(TopK(fraction=0.4)), by_tensor(RandK(fraction=0.4))
    inner = Inner(steps=3, rule=Adam(weight_decay=0.01), step_size=0.02, clip_norm=0.5)
    decays = np.arange(game.dimension) % 3 == 0
    adam = Adam(weight_decay=0.01, decays=decays)
    return {
        "ogda": ogda(game, step_size=0.1),
        "extragradient": extragradient(game, step_size=0.1),
        "forward_backward_forward": forward_backward_forward(game, step_size=0.1),
        "masha1": masha1(game, up=rand, down=by_tensor(Natural()), step_size=0.1, probability=0.3),
        "masha2": masha2(game, up=top, down=top, step_size=0.05, probability=0.3),
        "qsgda": qsgda(game, up=rand, down=Identity(), step_size=0.02),
        "compressed_extragradient": compressed_extragradient(game, up=rand, down=Identity(), step_size=0.05),
        "extragradient_feedback": extragradient_feedback(game, up=top, down=top, step_size=0.05),
        "compressed_adamw": compressed_adamw(game, up=top, down=Cast(), step_size=0.05, clip_norm=0.5),
        "compressed_adamw of estimates": compressed_adamw(
            game, up=top, down=top, step_size=0.05, memory="innovations", momentum_up=0.5, late=True
        ),
        "compressed_sgd": compressed_sgd(game, up=top, down=top, step_size=0.05, warmup=4, local_steps=2, local_step_size=0.01),
        "diloco": diloco(game, up=top, down=top, rounds=20, local_steps=3, local_step_size=0.01, clip_norm=0.5),
        "local_sgda": local_sgda(game, step_size=0.05, local_steps=2),
        "fed_gda_gt": fed_gda_gt(game, step_size=0.05, local_steps=2),
        "anchored_extragradient": anchored_extragradient(game, step_size=0.05),
        "prox_skip_vip": prox_skip_vip(game, step_size=0.05, probability=0.4),
        "optimistic_masha": optimistic_masha(game, up=rand, down=by_tensor(Natural()), step_size=0.05, probability=0.3),
        "narrow adamw": NarrowOptimizer(rule=adam, up=top, down=top, step_size=0.05, clip_norm=0.5),
        "narrow diloco": NarrowLocalRounds(inner=inner, momentum=0.6, decay=0.9, up=top, down=top, step_size=0.7),
    }


GAME = Tensors(BilinearGame(n=6, num_workers=3, regularisation=0.2))
METHODS = methods(GAME)


class Shard:
    """A server core and one core of each worker for one slice; threads take turns with it."""

    def __init__(self, whole: Shards, number: int) -> None:
        self.whole, self.number, self.lock = whole, number, threading.Condition()
        self.here = whole.slices[number]
        self.method = sliced(whole.method, self.here, whole.problem.dimension)
        self.part = SliceOfProblem(whole.problem, self.here)
        self.saves: dict[int, Any] = {}
        self.own: dict[int, dict[int, Any]] = {rank: {} for rank in range(whole.problem.num_workers)}
        self.sessions: dict[int, str] = {}
        self.joins = 0
        self.deaths: list[int] = []
        self.server = self._server()
        self.workers = {rank: self._worker(rank) for rank in self.own}

    def _server(self) -> ServerCore:
        def judge(rounds: int, *rest: Any) -> Verdict:
            return Verdict(None, "max_rounds" if rounds == ROUNDS else None)

        workers = self.whole.problem.num_workers
        settings = ServerSettings(num_workers=workers, seed=SEED, checkpoint_every=self.whole.every, shards=SHARDS)
        return ServerCore(self.method, judge, self.part.start(), settings, 0.0)

    def _worker(self, rank: int) -> SliceCore:
        store: Any = Saves(self.own[rank])
        meeting = self.whole.meetings[rank]
        return SliceCore(self.method, meeting, self.number, self.part.start, worker=rank, seed=SEED, store=store)

    def die(self) -> None:
        """The server loses its memory, and comes back with its newest checkpoint."""
        self.server = self._server()
        if self.saves:
            arrays, meta = self.saves[max(self.saves)]
            self.server.restore(lasting(arrays), meta, 0.0)
        self.sessions.clear()
        self.deaths.append(self.server.round)

    def apply(self, effects: list[events.Effect]) -> None:
        for effect in effects:
            match effect:
                case events.RoundReady():
                    self.apply(self.server.finish_round(0.0))
                case events.Save(round_, arrays, meta):
                    self.saves[round_] = lasting(arrays), meta
                    for old in sorted(self.saves)[:-2]:
                        del self.saves[old]
                case events.NewEpoch(reason):
                    raise AssertionError(reason)

    def join(self, rank: int) -> None:
        worker, saved = self.workers[rank], self.own[rank]
        here = {worker.round} if worker.placed else set()
        ask = JoinAsk(worker=rank, recipe="{}", dimension=worker.dimension, rounds=tuple(sorted({*saved} | here)))
        self.joins += 1
        session = f"{rank}-{self.joins}"
        answer, effects = self.server.join(ask, session, 0.0)
        self.apply(effects)
        self.sessions[rank] = session
        worker.members, worker.placed = answer.members, True
        if answer.fresh:
            worker.begin_run(0)
        elif answer.resume != worker.round:
            arrays, meta = saved[answer.resume]
            worker.restore(lasting(arrays), meta)
        Saves(saved).forget_after(answer.resume)

    def work(self, rank: int) -> None:
        """A worker's half for this slice, until the run's last downlink."""
        try:
            while not self._turn(rank):
                pass
        except Exception as error:  # the test's thread raises it
            self.whole.failed(error)

    def _turn(self, rank: int) -> bool:
        worker = self.workers[rank]
        with self.lock:
            if rank not in self.sessions:
                self.join(rank)
            session, round_ = self.sessions[rank], worker.round
            if (delivery := self.server.delivery(rank, round_)) is not None:
                data = b"".join(read_frame(frame).data for frame in delivery.frames)
                if not worker.idle and worker._next is not None:
                    worker.apply(decode(data, worker.downlink_sizes(), worker.draws.of(SERVER)))
                    if worker.round % self.whole.every == 0:
                        arrays, meta = worker.capture()
                        self.own[rank][worker.round] = lasting(arrays), meta
                    return worker.round == ROUNDS
        try:
            buffers, _ = worker.step()
        except GoBack:
            with self.lock:
                self.sessions.pop(rank, None)
            return False
        with self.lock:
            if self.sessions.get(rank) != session:
                return False
            if self.server.round == worker.round and self.server.needs_uplink(rank):
                self.server.lost(rank, "", 0.0)
                for frame in frames_of(buffers, epoch=0, round_=worker.round, sender=rank + 1):
                    self.apply(self.server.frame(rank, frame, 0.0))
                self.whole.reached(self)
                self.lock.notify_all()
            elif worker.recalled():
                self.sessions.pop(rank)
            else:
                self.lock.wait(0.01)
        return False


class Saves:
    """Checkpoints in memory."""

    def __init__(self, saved: dict[int, Any]) -> None:
        self._saved = saved

    def forget_after(self, round_: int) -> None:
        for later in [each for each in self._saved if each > round_]:
            del self._saved[later]


class Shards:
    """All of a sharded run."""

    def __init__(self, problem: Any, method: AnyMethod, *, every: int = 5, kills: dict[tuple[int, int], bool] | None = None):
        self.problem, self.method, self.every = problem, method, every
        self.kills = dict(kills or {})
        self.slices = cut(problem, SHARDS)
        clip = method.clip if hasattr(method, "clip") else lambda value_D: value_D
        self.meetings = [Meeting(self.slices, self._operator(rank, clip)) for rank in range(problem.num_workers)]
        self.error: Exception | None = None
        self.shards = [Shard(self, number) for number in range(SHARDS)]

    def _operator(self, rank: int, clip: Any) -> Any:
        operator = self.problem.operator(rank)
        return lambda z_D, draws: clip(operator(z_D, draws))

    def reached(self, shard: Shard) -> None:
        rounds = [each.server.round for each in self.shards]
        if not any(each.deaths for each in self.shards):
            assert max(rounds) - min(rounds) <= 1
        if self.kills.pop((shard.number, shard.server.round), False):
            shard.die()

    def failed(self, error: Exception) -> None:
        self.error = self.error or error
        for meeting in self.meetings:
            meeting.end()

    def run(self) -> Any:
        """The whole replica at the end."""
        threads = [
            threading.Thread(target=shard.work, args=(rank,), daemon=True) for shard in self.shards for rank in shard.own
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
        if self.error is not None and not isinstance(self.error, Leaving):
            raise self.error
        assert not any(thread.is_alive() for thread in threads), "the run stands still"
        return joined(self.method.init_replica(self.problem.start()), [shard.server.replica for shard in self.shards])


def one_server(problem: Problem, method: AnyMethod) -> Any:
    return simulate(problem, method, seed=SEED, stop=Stop(max_rounds=ROUNDS), wire=LoopbackWire())


@pytest.mark.parametrize("name", METHODS)
def test_shards_have_the_bits_of_one_server(name: str) -> None:
    assert digest(Shards(GAME, METHODS[name]).run()) == digest(one_server(GAME, METHODS[name]).replica)


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("name", ["ogda", "masha1", "narrow adamw", "narrow diloco"])
def test_shards_that_die_take_the_others_back(name: str, every: int) -> None:
    kills = {(0, 3): True, (1, 7): True, (2, 7): True, (2, 12): True, (0, 13): True, (1, 20): True}
    run = Shards(GAME, METHODS[name], every=every, kills=kills)
    assert digest(run.run()) == digest(one_server(GAME, METHODS[name]).replica)
    assert not run.kills, "the run ended before the deaths"
    assert any(died < ROUNDS and died % every == 0 for shard in run.shards for died in shard.deaths)


def test_slices_end_where_tensors_do_or_at_blocks() -> None:
    assert cut(GAME, 3) == (slice(0, 6), slice(6, 11), slice(11, 12))
    assert cut(GAME, 2) == (slice(0, 6), slice(6, 12))
    large: Any = Sized(1_000_000)
    assert cut(large, 2) == (slice(0, 524_288), slice(524_288, 1_000_000))
    with pytest.raises(ConfigError, match=r"server.shards = 4 needs as many slices, and bilinear has 3 tensors"):
        cut(GAME, 4)
    few: Any = Sized(2)
    with pytest.raises(ConfigError, match="needs as many slices, and sized has 2 coordinates"):
        cut(few, 3)


@dataclasses.dataclass(frozen=True)
class Sized:
    """So many coordinates."""

    dimension: int
    name: str = "sized"


def test_a_compressor_of_the_whole_vector_is_said_to_differ() -> None:
    slices = (slice(0, 6), slice(6, 12))
    game = GAME.game
    whole = qsgda(game, up=RandK(k=2), down=Identity(), step_size=0.02)
    assert differences(whole, slices, 12) == ["up"]
    inside = qsgda(game, up=by_tensor(RandK(k=1)), down=Identity(), step_size=0.02)
    assert differences(inside, (slice(0, 6), slice(6, 11), slice(11, 12)), 12) == []
    assert differences(inside, (slice(0, 7), slice(7, 12)), 12) == ["up"]  # the second tensor is cut
    blocks = compressed_sgd(game, up=NearestInt8(block=3), down=TopK(fraction=0.5), step_size=0.02)
    assert differences(blocks, slices, 12) == ["down"]
    assert differences(blocks, (slice(0, 4), slice(4, 12)), 12) == ["up", "down"]


@pytest.mark.parametrize(
    ("method", "why"),
    [
        (ogda(GAME.game, step_size="auto"), "step_size = 'auto': its steps, or their size, need norms of the whole vector"),
        (masha1(GAME.game, up=RandK(k=2), down=Identity(), step_size=0.1, participants=1), "with participants"),
        (compressed_lamb(GAME.game, up=Identity(), down=Identity(), step_size=0.1), "its rule Lamb needs whole tensors"),
        (
            compressed_sgd(
                GAME.game, up=Identity(), down=Identity(), step_size=0.1, clip_norm=1.0, local_steps=2, local_step_size=0.1
            ),
            "clip_norm is a norm of the whole of what local steps have changed",
        ),
    ],
)
def test_what_needs_the_whole_vector_is_refused_by_name(method: AnyMethod, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        require_sliceable(method, GAME)


def test_what_fails_at_the_operator_fails_in_every_slice() -> None:
    def broken(z_D: Vector, draws: Draws) -> Vector:
        raise NotFiniteError("F is not finite there")

    found = [each for each, _ in _meet(Meeting([slice(0, 2), slice(2, 3)], broken), [1, 1])]
    assert [type(each) for each in found] == [NotFiniteError, NotFiniteError]


def test_a_slice_at_a_later_boundary_goes_back_and_one_at_the_earliest_waits() -> None:
    meeting = Meeting([slice(0, 2), slice(2, 3)], lambda z_D, draws: z_D)
    found = _meet(meeting, [7, 4])
    assert isinstance(found[0][0], GoBack)
    assert found[0][0].round == 4
    assert found[1][1].is_alive()
    assert meeting.earliest() == 4
    meeting.end()
    found[1][1].join(TIMEOUT_S)
    assert isinstance(found[1][0], Leaving)


def _meet(meeting: Meeting, rounds: list[int]) -> list[list[Any]]:
    """What each slice finds at the boundary and the operator, and its thread, which may be waiting still."""
    found: list[list[Any]] = [[None, None] for _ in rounds]

    def go(number: int) -> None:
        try:
            meeting.boundary(number, rounds[number])
            found[number][0] = meeting.ask(number, np.zeros(1), Draws(0, rounds[number], 0), 1)
        except (GoBack, Leaving, NotFiniteError) as error:
            found[number][0] = error

    for number, _ in enumerate(rounds):
        found[number][1] = threading.Thread(target=go, args=(number,), daemon=True)
        found[number][1].start()
    found[0][1].join(TIMEOUT_S)
    if rounds[0] == rounds[1]:
        found[1][1].join(TIMEOUT_S)
    return found


def test_a_sharded_run_ends_when_its_lead_says_so_or_everybody() -> None:
    """One worker that has had enough, or pretends to, ends nobody's run."""

    def server() -> ServerCore:
        core = Shards(GAME, METHODS["masha1"]).shards[0].server
        for rank in core.members:
            core.join(JoinAsk(worker=rank, recipe="{}", dimension=core.replica.z_D.size), f"s{rank}", 0.0)
        return core

    core = server()
    assert core.leave(1, DONE, 0.0) == []
    assert core.finished is None
    assert [type(effect) for effect in core.leave(LEAD, DONE, 0.0)][-1] is events.Finished
    core = server()
    others = [rank for rank in core.members if rank != LEAD]
    for rank in others:
        core.leave(rank, DONE, 0.0)
    core.join(JoinAsk(worker=others[0], recipe="{}", dimension=core.replica.z_D.size), "back", 0.0)
    core.leave(LEAD, "", 0.0)
    assert core.finished is None, "one of them is back"
    core = server()
    for rank in reversed(core.members):
        assert core.finished is None
        core.leave(rank, DONE, 0.0)
    assert core.finished == DONE
