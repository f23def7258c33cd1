"""Whatever is killed, and whenever: no worker is ever without a state that the server can use, and the trajectory stays.

The cores of a server and its workers are joined in memory and save by the rules of their shells. Every moment at which a
process may die is enumerated: before and after each delivery, between a delivery and the checkpoint that is due for it, with
the server's newest checkpoint on disk or still being written, and with each worker alive or killed, too.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.algorithms import AnyMethod, Judge, Problem, Stop, digest
from saddlebag.client.core import WorkerCore
from saddlebag.compression import SERVER, Draws
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.proto.checkpoint import WORKER_KEEPS, crosses, superfluous
from saddlebag.proto.codec import decode
from saddlebag.proto.frames import frames_of, read_frame
from saddlebag.proto.handshake import JoinAsk
from saddlebag.server import effects as ef
from saddlebag.server.core import ServerCore
from saddlebag.server.joining import can_start_fresh, common_round

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS, SEED = 3, 18
Saved = tuple[dict[str, Any], dict[str, Any]]


def game(down: str, participants: int, step: float | str = 0.1) -> tuple[Problem, AnyMethod]:
    method = {"name": "masha1", "step_size": step, "probability": 0.1, "participants": participants}
    method |= {"up": {"name": "rand_k", "fraction": 0.25}, "down": {"name": down}}
    problem = {"name": "bilinear", "n": 8, "regularisation": 0.2}
    table = {"workers": WORKERS, "seed": SEED, "problem": problem, "method": method, "stop": {"max_rounds": 10**6}}
    recipe = recipe_from_dict(table)
    built = build_problem(recipe)
    return built, build_method(resolve(recipe, built), built)


class Fleet:
    """A server, its workers, and what is on their disks."""

    def __init__(self, problem: Problem, method: AnyMethod, every: int) -> None:
        self.problem, self.method, self.every = problem, method, every
        self.core = self.server()
        self.workers = [self.worker(rank) for rank in range(WORKERS)]
        self.cursors = [0] * WORKERS
        self.held: list[dict[int, Saved]] = [{} for _ in range(WORKERS)]
        self.saves: list[ef.Save] = []  # of the server: the last two, the newest of which may still be being written

    def server(self) -> ServerCore:
        settings = ef.ServerSettings(num_workers=WORKERS, seed=SEED, checkpoint_every=self.every)
        never = Stop(max_rounds=10**6, every=10**6)
        return ServerCore(self.method, Judge(self.problem, never), self.problem.start(), settings, 0.0)

    def worker(self, rank: int) -> WorkerCore:
        worker = WorkerCore(self.method, self.problem.operator(rank), self.problem.start(), worker=rank, seed=SEED)
        worker.members = tuple(range(WORKERS))
        return worker

    def play(self) -> Iterator[None]:
        """Rounds without end; yields wherever something may die."""
        while True:
            for rank in range(WORKERS):
                yield from self.pull(rank)
                if self.core.needs_uplink(rank):
                    worker = self.workers[rank]
                    for frame in frames_of(worker.step()[0], epoch=0, round_=self.core.round, sender=rank + 1):
                        self.core.frame(rank, frame, 0.0)
            self.saves = [*self.saves, *(e for e in self.core.finish_round(0.0) if isinstance(e, ef.Save))][-3:]
            yield

    def pull(self, rank: int) -> Iterator[None]:
        """Take what is due to a worker, and save as its shell does."""
        worker = self.workers[rank]
        while (delivery := self.core.delivery(rank, self.cursors[rank])) is not None:
            data, before = b"".join(bytes(read_frame(frame).data) for frame in delivery.frames), worker.round
            if delivery.jump:
                worker.jump(delivery.end, decode(data, worker.catch_up_sizes(), Draws(SEED, delivery.end, SERVER)))
            else:
                worker.ensure_stepped()
                worker.apply(decode(data, worker.downlink_sizes(), worker.draws.of(SERVER)))
            self.cursors[rank] = delivery.end
            yield
            if crosses(before, worker.round, self.every):
                self.save(rank)
                yield

    def save(self, rank: int) -> None:
        held, worker = self.held[rank], self.workers[rank]
        held[worker.round] = worker.capture()
        for old in superfluous(held, worker.round, WORKER_KEEPS):
            del held[old]

    def on_disk(self) -> list[ef.Save | None]:
        """Where the server may come back if it dies now; None for its start.

        Its newest checkpoint may be being written, and the one before that damaged.
        """
        return [*self.saves[-3:]] if len(self.saves) == 3 else [*self.saves, None]

    def ask(self, rank: int, *, killed: bool) -> JoinAsk:
        rounds = {*self.held[rank]} | (set() if killed else {self.workers[rank].round})
        return JoinAsk(worker=rank, recipe="{}", dimension=len(self.problem.start()), rounds=tuple(sorted(rounds or {0})))

    def resumed(self, save: ef.Save | None, killed: bool) -> Fleet:
        """The server from its checkpoint, every worker joined from what it holds, or from its disk alone."""
        fleet = Fleet(self.problem, self.method, self.every)
        fleet.core, fleet.saves = self.after_crash(save), [save] if save is not None else []
        for rank in range(WORKERS):
            ask = self.ask(rank, killed=killed)
            answer, effects = fleet.core.join(ask, "", 0.0)
            assert not effects, "no new epoch"
            held = {round_: state for round_, state in self.held[rank].items() if round_ <= answer.resume}
            worker = self.workers[rank]
            if not answer.fresh and answer.resume:
                state = held[answer.resume] if answer.resume in held else worker.capture()
                fleet.workers[rank].restore(*state)
            fleet.held[rank], fleet.cursors[rank] = held, answer.resume
        return fleet

    def after_crash(self, save: ef.Save | None) -> ServerCore:
        back = self.server()
        if save is not None:
            back.restore(save.arrays, save.meta, 0.0)
        return back


def homeless(core: ServerCore, ask: JoinAsk) -> bool:
    """Whether the worker would start a new epoch: another trajectory."""
    return common_round(core, ask) is None and not can_start_fresh(core, ask.worker)


PATTERNS = [
    pytest.param(down, participants, every, id=f"{participants} of 3, {down}, every {every}")
    for down, participants, every in itertools.product(("natural", "identity"), (1, 2, 3), (1, 2, 7, 25))
]


@pytest.mark.parametrize(("down", "participants", "every"), PATTERNS)
def test_no_crash_point_leaves_a_worker_without_a_state(down: str, participants: int, every: int) -> None:
    fleet, points = Fleet(*game(down, participants), every), 0
    for _ in fleet.play():
        points += 1
        for save in [*fleet.on_disk(), fleet.core]:
            back = save if isinstance(save, ServerCore) else fleet.after_crash(save)
            for rank, killed in itertools.product(range(WORKERS), (False, True)):
                ask = fleet.ask(rank, killed=killed)
                where = f"the server at {back.round} of {fleet.core.round}, worker {rank} holds {ask.rounds}"
                assert not homeless(back, ask), f"{where}, the log begins at {back.log.start(back.round)}"
        if fleet.core.round >= 16 * every + 20:
            break
    assert points > fleet.core.round


@pytest.mark.parametrize(("participants", "every", "step"), [(1, 5, 0.1), (2, 3, 0.1), (3, 2, 0.1), (1, 4, "auto")])
def test_after_every_crash_point_the_run_goes_on_to_the_same_bits(participants: int, every: int, step: float | str) -> None:
    given, end = game("natural", participants, step), 6 * every
    bits = digests(Fleet(*given, every), end + 2 * every)
    fleet = Fleet(*given, every)
    for _ in fleet.play():
        for save, killed in itertools.product(fleet.on_disk(), (False, True)):
            again = digests(fleet.resumed(save, killed), fleet.core.round + 2 * every)
            assert again == {round_: bits[round_] for round_ in again}
        if fleet.core.round >= end:
            break


def digests(fleet: Fleet, until: int) -> dict[int, tuple[int, int]]:
    """By boundary, from the present one on: the digest of the server's replica, and the bytes that it counts as sent."""
    found = {}
    for _ in fleet.play():
        found[fleet.core.round] = (digest(fleet.core.replica), fleet.core.down_bytes)
        if fleet.core.round >= until:
            return found
    raise AssertionError("play does not end")
