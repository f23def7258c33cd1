"""The server of rounds that close at a quorum: from where a worker may go on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.job import Job
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.proto.codec import decode
from saddlebag.proto.frames import frames_of, read_frame
from saddlebag.proto.handshake import JoinAsk
from saddlebag.server import effects as events
from saddlebag.server.quorum.merging import MergingCore

if TYPE_CHECKING:
    from saddlebag.client.core import WorkerCore

METHOD = {
    "name": "diloco",
    "local_steps": 2,
    "local_step_size": 0.02,
    "up": {"name": "top_k", "k": 2},
    "down": {"name": "grid"},
}


def job() -> Job:
    problem = {"name": "bilinear", "n": 4, "regularisation": 0.2}
    return Job.lead(recipe_from_dict({"workers": 2, "seed": 7, "problem": problem, "method": METHOD}), "grpc")


def core_of(led: Job) -> MergingCore:
    core = led.server_core(0.0, quorum=1)
    assert isinstance(core, MergingCore)
    return core


class Alone:
    """One worker, which is quorum enough, and a server."""

    def __init__(self) -> None:
        self.led = job()
        self.core = core_of(self.led)
        self.worker: WorkerCore = self.led.worker_core(0)
        self.counts: list[Any] = []
        self.ask(0, (0,))
        self.core.opened(0, "0-0")

    def ask(self, rank: int, rounds: tuple[int, ...], life: int = 0) -> Any:
        recipe, dimension = self.core.settings.recipe, len(self.core.replica.z_D)
        ask = JoinAsk(worker=rank, recipe=recipe, dimension=dimension, rounds=rounds, epoch=0, order=1 + life)
        answer, effects = self.core.join(ask, f"{rank}-{life}", 0.0)
        self.counts += [effect for effect in effects if isinstance(effect, events.Counts)]
        return answer

    def round(self) -> None:
        """Worker 0's uplink, and the end of the round."""
        here: dict[str, Any] = {"epoch": 0, "round_": self.core.round, "sender": 1}
        self.worker.merging = True
        buffers, _ = self.worker.step()
        for frame in frames_of(buffers, **here):
            self.core.frame(0, frame, 0.0)
        self.core.finish_round(1e9)
        delivery = self.core.delivery(0, self.worker.round)
        assert delivery is not None
        frames = [read_frame(frame) for frame in delivery.frames]
        data = b"".join(frame.data for frame in frames)
        round_, sizes = self.worker.awaits(frames[0].round)
        self.worker.take(round_, decode(data, sizes, dataclasses.replace(self.worker.draws, round=round_)), frames[0].counted)


def test_what_a_worker_held_before_it_began_anew_is_of_no_use() -> None:
    """The log says that its memory began there: an uplink of an older one could not be computed again."""
    alone = Alone()
    alone.round()
    assert alone.ask(1, ()).fresh
    assert [effect.arrivals.joined for effect in alone.counts] == [(1,)]
    assert alone.core.round == 1
    assert alone.ask(1, (0,), life=1).fresh, "it died before it had the answer, and holds the start still"


def test_a_server_that_died_still_knows_who_began_anew() -> None:
    """From its checkpoint, and from the log, where that happened after the checkpoint had been taken."""
    alone = Alone()
    alone.round()
    alone.ask(1, ())
    facts = alone.core.facts()
    again = core_of(alone.led)
    again.take_facts(facts)
    assert again.facts()["begun"] == [0, 1]
    again.recall((0,))
    assert again.facts()["begun"] == [0, 1]
    again.round = 2
    again.recall((0,))
    assert again.facts()["begun"] == [2, 1]
    del facts["begun"]  # of an earlier release
    again.take_facts(facts)


def test_a_worker_that_does_not_know_of_quorums_is_told() -> None:
    alone = Alone()
    recipe, dimension = alone.core.settings.recipe, len(alone.core.replica.z_D)
    with pytest.raises(ConfigError, match="worker 1 is of a release that does not know rounds with a quorum"):
        alone.core.join(JoinAsk(worker=1, recipe=recipe, dimension=dimension), "1-0", 0.0)
