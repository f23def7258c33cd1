"""Linked programs whose rounds close at a quorum, with weights and unlike numbers of steps, over a real port."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import saddlebag as sb
from saddlebag.algorithms.merging import replayed
from saddlebag.client.link.vector import ModelVector
from saddlebag.errors import ConfigError
from saddlebag.launch.job import Job
from saddlebag.launch.link.host import host
from saddlebag.launch.link.terms import Terms
from saddlebag.launch.recipe.server_section import ServerSection
from saddlebag.launch.results.arrivals import ARRIVALS, read_arrivals
from saddlebag.proto.checkpoint import CheckpointStore
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.compression import Draws, Vector
    from saddlebag.server.quorum.merging import MergingCore

FULL = {"up": {"name": "identity", "dtype": "float64"}, "down": {"name": "identity", "dtype": "float64"}}
AVERAGE = {"name": "local_average", **FULL}
LONG_S = 60.0


class Hosted:
    """A server in a thread, whose core can be looked at."""

    core: MergingCore

    def __init__(
        self, out: Path, monkeypatch: pytest.MonkeyPatch, workers: int = 2, rounds: int | None = None, **server: Any
    ) -> None:
        bound: queue.Queue[str] = queue.Queue()
        self.result: dict[str, Any] = {}
        make = Job.server_core

        def watched(job: Job, *given: Any, **more: Any) -> Any:
            self.core = make(job, *given, **more)
            return self.core

        monkeypatch.setattr(Job, "server_core", watched)
        section = ServerSection(lease_s=LONG_S, address="127.0.0.1:0", **server)
        ways: dict[str, Any] = {
            "workers": workers,
            "rounds": rounds,
            "server": section,
            "listening": bound.put,
            "note": lambda text: print(time.monotonic(), "SERVER", text, flush=True),
        }
        self._thread = threading.Thread(target=lambda: self.result.update(host(out, **ways)), daemon=True)
        self._thread.start()
        self.address = bound.get(timeout=LONG_S)

    def wait_for(self, happened: Callable[[MergingCore], bool]) -> None:
        end = time.monotonic() + LONG_S
        while not happened(self.core):
            assert time.monotonic() < end
            time.sleep(0.01)

    def end(self) -> dict[str, Any]:
        self._thread.join(LONG_S)
        assert not self._thread.is_alive()
        return self.result


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def values(model: nn.Module) -> np.ndarray:
    return torch.cat([value.detach().reshape(-1) for value in model.parameters()]).numpy()


def aside(*programs: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=program, daemon=True) for program in programs]
    for thread in threads:
        thread.start()
    return threads


def together(*programs: Callable[[], object]) -> None:
    for thread in aside(*programs):
        thread.join(LONG_S)
        assert not thread.is_alive()


def test_samples_weigh_in_the_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Hosted(tmp_path / "run", monkeypatch, weights="samples")
    models = [network(), network()]

    def program(rank: int) -> None:
        with sb.join(served.address, models[rank], None, method=AVERAGE, every=2, rank=rank) as link:
            link.begin()
            with torch.no_grad():
                models[rank][0].weight += 1.0 + rank
            link.step(samples=1 + 2 * rank)
            link.step(samples=1 + 2 * rank)

    together(lambda: program(0), lambda: program(1))
    assert served.end()["rounds"] == 1
    assert np.array_equal(values(models[0]), values(models[1]))
    assert np.allclose(values(models[0])[:32] - values(network())[:32], (1 * 2 + 2 * 6) / 8)


def test_a_round_closes_at_its_quorum_and_counts_who_is_late_for_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker 2 begins with the others, and brings its change when they have ended two rounds."""
    served = Hosted(tmp_path / "run", monkeypatch, workers=3, quorum=2)
    models = [network() for _ in range(3)]
    links = [sb.join(served.address, model, None, method=AVERAGE, every=1, rank=rank) for rank, model in enumerate(models)]
    for link in links:
        link.begin()
    start_D = values(models[0])

    def move(rank: int, by: float) -> None:
        with torch.no_grad():
            models[rank][0].weight += by
        links[rank].step()

    for _ in range(2):
        together(lambda: move(0, 1.0), lambda: move(1, 3.0))
    assert links[0].round == 2
    assert np.allclose((values(models[0]) - start_D)[:32], 4.0), "two means of two"
    late = aside(lambda: move(2, 6.0))
    served.wait_for(lambda core: core.pool.has(2))
    move(0, 0.0)
    late[0].join(LONG_S)
    log = read_arrivals(tmp_path / "run" / ARRIVALS)
    assert [(entry.worker, entry.age) for entry in log[2].counted] == [(0, 0), (2, 2)]
    for model in (models[0], models[2]):
        assert np.allclose((values(model) - start_D)[:32], 4.0 + 6.0 / 3**0.5 / 2), "1 / sqrt(1 + 2), of two"
    for link in links:
        link.finish()
    assert served.end()["ledger"]["late_uplinks"] == 1


def test_programs_come_and_go_and_the_log_leads_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of unlike speed; one dies and comes back without a state. Who came when is all that chance decides."""
    served = Hosted(tmp_path / "run", monkeypatch, workers=3, rounds=12, quorum=2, weights="samples")
    method = {"name": "diloco", "step_size": 0.7, "momentum": 0.6, **FULL, "up": {"name": "top_k", "fraction": 0.25}}
    start_D = values(network())

    def stepped(rank: int, z_D: Vector, round_: int) -> Vector:
        return z_D - 0.1 * (z_D - np.cos(np.arange(len(z_D)) * (1 + rank)) - 0.01 * round_)

    def program(rank: int, wait_s: float, *lives: int) -> None:
        model = network()
        for life, steps in enumerate(lives):
            link = sb.join(
                served.address,
                model,
                None,
                method=method,
                every=1,
                rank=rank,
                note=lambda text: print(time.monotonic(), text, flush=True),
            )
            link.begin()
            if life:
                back.set()
            for _ in range(steps):
                never.wait(wait_s)
                if rank == 0 and link.round > 5:
                    back.wait(LONG_S)
                moved_D = stepped(rank, values(model), link.round)
                nn.utils.vector_to_parameters(torch.from_numpy(moved_D), model.parameters())
                link.step(samples=1 + rank)
                if link.over:
                    return
            link.drop()

    never, back = threading.Event(), threading.Event()
    together(lambda: program(0, 0.0, 99), lambda: program(1, 0.01, 3, 99), lambda: program(2, 0.05, 99))
    assert served.end()["rounds"] == 12
    log = read_arrivals(tmp_path / "run" / ARRIVALS)
    assert len(log) == 12
    assert sum(1 in arrivals.joined for arrivals in log) >= 2

    class Programs:
        num_workers, start = 3, staticmethod(lambda: start_D)

        @staticmethod
        def operator(rank: int) -> Callable[[Vector, Draws], Vector]:
            return lambda z_D, draws: z_D - stepped(rank, z_D, draws.round)

    terms = Terms.of(method, 1, ModelVector(network(), None, buffers=False).parameters, ())
    job = terms.lead(terms.recipe(workers=3, seed=0), start_D)
    given: dict[str, Any] = {"seed": 0, "weights": "samples", "wire": LoopbackWire()}
    end = replayed(Programs(), job.method, log, **given)  # type: ignore[arg-type]
    saved = CheckpointStore(tmp_path / "run" / "checkpoints", "server").newest(lambda text: None)
    assert saved is not None
    assert np.array_equal(end.z_D, saved[0]["replica.z_D"])
    assert not np.array_equal(replayed(Programs(), job.method, log[::-1][-1:], **given).z_D, end.z_D)  # type: ignore[arg-type]


def test_unlike_machines_end_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One makes a step in a part of the other's time: it makes all of the steps, the other some, and both are counted."""
    served = Hosted(tmp_path / "run", monkeypatch, rounds=5, balance=True, weights="samples")
    pause = threading.Event()

    def program(rank: int) -> None:
        link = sb.join(served.address, network(), None, method=AVERAGE, every=20, rank=rank)
        link.begin()
        while not link.over:
            pause.wait(0.002 + 0.03 * rank)
            link.step()

    together(lambda: program(0), lambda: program(1))
    assert served.end()["rounds"] == 5
    steps = [[entry.samples for entry in arrivals.counted] for arrivals in read_arrivals(tmp_path / "run" / ARRIVALS)]
    assert steps[0] == [20, 20]
    assert all(slow < 20 for _, slow in steps[1:]), steps


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quorum": 3}, r"quorum must lie in \[0, 2\], the number of workers, got 3"),
        ({"grace_s": -1.0}, "server.grace_s must be 0 or more, got -1.0"),
        ({"weights": "rows"}, "server.weights must be one of equal, samples, got 'rows'"),
        ({"secure": True}, r"server.secure and server.noise are for the workers of a recipe; linked programs send no"),
    ],
)
def test_what_does_not_fit_is_named(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        host(tmp_path / "run", workers=2, server=ServerSection(**given))


def test_samples_are_whole_numbers() -> None:
    link = sb.join("localhost:1", network(), rank=0)
    with pytest.raises(ConfigError, match=r"samples must lie in \[1, 2\^32\), got 0"):
        link.step(samples=0)
