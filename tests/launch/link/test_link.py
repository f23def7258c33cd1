"""Programs with loops of their own, linked over a real port in this process."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import saddlebag as sb
from saddlebag.errors import ConfigError, LocalProtocolError, NotFiniteError, StateError
from saddlebag.launch.link.host import host
from saddlebag.launch.link.terms import Terms
from saddlebag.launch.recipe.server_section import ServerSection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.client.link.link import Link

FULL = {"up": {"name": "identity", "dtype": "float64"}, "down": {"name": "identity", "dtype": "float64"}}
AVERAGE = {"name": "local_average", **FULL}
DILOCO = {"name": "diloco", "step_size": 0.7, "momentum": 0.9, **FULL}


class Hosted:
    """A server in a thread."""

    def __init__(self, out: Path, workers: int = 2, **settings: Any) -> None:
        bound: queue.Queue[str] = queue.Queue()
        self.notes: list[str] = []
        self.result: dict[str, Any] = {}
        section = ServerSection(on_lost=settings.pop("on_lost", "pause"), lease_s=60.0, address="127.0.0.1:0")
        ways: dict[str, Any] = {"listening": bound.put, "note": self.notes.append, **settings}
        self._thread = threading.Thread(
            target=lambda: self.result.update(host(out, workers=workers, server=section, **ways)), daemon=True
        )
        self._thread.start()
        self.address = bound.get(timeout=30)

    def end(self) -> dict[str, Any]:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.result


_GENERATOR = threading.Lock()  # torch has one for all threads, and programs make their models side by side


def network(seed: int = 0) -> nn.Sequential:
    with _GENERATOR, torch.random.fork_rng():
        torch.random.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def batches(rank: int, count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + rank)
    return [torch.randn(8, 4, generator=generator, dtype=torch.float64) for _ in range(count)]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: list[torch.Tensor], after: Callable[[], object]) -> None:
    for x in data:
        optimizer.zero_grad()
        ((model(x) - x.sin().sum(1, keepdim=True)) ** 2).mean().backward()
        optimizer.step()
        after()


def together(programs: list[Callable[[], object]]) -> None:
    """Run programs side by side; the first error of one is raised here."""
    errors: list[BaseException] = []

    def guarded(program: Callable[[], object]) -> None:
        try:
            program()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(program,), daemon=True) for program in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads)


def values(model: nn.Module) -> np.ndarray:
    return torch.cat([value.detach().reshape(-1) for value in model.parameters()]).numpy()


def linked_run(out: Path, method: Any, *, every: int, count: int, make: Callable[[nn.Module], Any]) -> list[np.ndarray]:
    served = Hosted(out)
    models = [network(rank) for rank in (0, 1)]  # the second one begins elsewhere, and is brought to the run's start
    links: list[Link] = []

    def program(rank: int) -> None:
        optimizer = make(models[rank])
        link = sb.join(served.address, models[rank], optimizer, method=method, every=every, rank=rank)
        links.append(link)
        link.begin() if rank == 0 else started.wait(30)
        started.set()
        with link:
            train(models[rank], optimizer, batches(rank, count), link.step)

    started = threading.Event()
    together([lambda: program(0), lambda: program(1)])
    result = served.end()
    assert result["reason"] == "done"
    assert result["rounds"] == -(-count // every)
    assert all(link.over and link.bytes_up > 0 and link.bytes_down > 0 for link in links)
    return [values(model) for model in models]


def test_local_average_of_one_plain_step_is_data_parallel_sgd(tmp_path: Path) -> None:
    found = linked_run(tmp_path / "run", AVERAGE, every=1, count=6, make=lambda model: torch.optim.SGD(model.parameters(), 0.1))
    model = network(0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for pair in zip(batches(0, 6), batches(1, 6), strict=True):  # the mean gradient, as DDP's
        optimizer.zero_grad()
        for x in pair:
            (((model(x) - x.sin().sum(1, keepdim=True)) ** 2).mean() / 2).backward()
        optimizer.step()
    assert np.allclose(found[0], values(model), rtol=0, atol=1e-12)
    assert np.array_equal(found[0], found[1])


def test_diloco_with_the_programs_adamw_is_the_algorithm(tmp_path: Path) -> None:
    make = lambda model: torch.optim.AdamW(model.parameters(), 0.01)  # noqa: E731
    found = linked_run(tmp_path / "run", DILOCO, every=5, count=23, make=make)  # the last three steps are exchanged by `finish`
    models = [network(0), network(0)]
    optimizers, data = [make(model) for model in models], [batches(rank, 23) for rank in (0, 1)]
    z_D, m_D = values(models[0]), np.zeros(len(values(models[0])))
    for start in range(0, 23, 5):
        for model, optimizer, x in zip(models, optimizers, data, strict=True):
            train(model, optimizer, x[start : start + 5], lambda: None)
        delta_D = z_D - np.mean([values(model) for model in models], axis=0)
        m_D = 0.9 * m_D + delta_D
        z_D = z_D - 0.7 * (delta_D + 0.9 * m_D)
        for model in models:
            nn.utils.vector_to_parameters(torch.from_numpy(z_D.copy()), model.parameters())
    assert np.allclose(found[0], z_D, rtol=0, atol=1e-12)


def test_a_program_that_was_killed_goes_on_from_its_own_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    """Model, optimizer, place in the data and the link's state: as if it had never been away."""
    ends: dict[bool, np.ndarray] = {}
    for killed in (False, True):
        served = Hosted(tmp_path / str(killed))

        def steady(served: Hosted = served) -> None:
            model = network(0)
            optimizer = torch.optim.AdamW(model.parameters(), 0.01)
            with sb.join(served.address, model, optimizer, every=3, rank=0) as link:
                train(model, optimizer, batches(0, 12), link.step)

        def fragile(served: Hosted = served, killed: bool = killed) -> None:
            model = network(0)
            optimizer = torch.optim.AdamW(model.parameters(), 0.01)
            link = sb.join(served.address, model, optimizer, every=3, rank=1)
            train(model, optimizer, batches(1, 12)[:5], link.step)
            if killed:  # two steps into the second round; a second process takes its rank
                saved = (model.state_dict(), optimizer.state_dict(), link.state_dict())
                link.drop()
                model = network(7)
                optimizer = torch.optim.AdamW(model.parameters(), 0.01)
                link = sb.join(served.address, model, optimizer, every=3, rank=1)
                model.load_state_dict(saved[0])
                optimizer.load_state_dict(saved[1])
                link.load_state_dict(saved[2])
            train(model, optimizer, batches(1, 12)[5:], link.step)
            link.finish()
            ends[killed] = values(model)

        together([steady, fragile])
        assert served.end()["rounds"] == 4
    assert np.array_equal(ends[True], ends[False])


def test_a_late_program_gets_the_runs_point_and_its_place(tmp_path: Path) -> None:
    served = Hosted(tmp_path / "run", workers=2, on_lost="drop")
    model = network(0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    early = sb.join(served.address, model, optimizer, method=AVERAGE, every=2, rank=0)
    late_model = network(5)
    late = sb.join(served.address, late_model, None, method=AVERAGE, every=2, rank=1)
    gone = network(6)
    first = sb.join(served.address, gone, None, method=AVERAGE, every=2, rank=1)
    together(
        [
            lambda: train(model, optimizer, batches(0, 4), early.step),
            lambda: [first.begin(), first.exchange(), first.exchange(), first.finish()],  # two rounds without a step
        ]
    )
    train(model, optimizer, batches(0, 8)[4:6], early.step)  # one round alone
    late.begin()
    assert late.round == 3
    assert late.steps == 6
    assert np.array_equal(values(late_model), values(model))
    together([lambda: train(model, optimizer, batches(0, 8)[6:], early.step), late.exchange])
    assert np.array_equal(values(late_model), values(model))
    late.finish()
    early.finish()
    assert served.end()["rounds"] == 4
    assert any("worker 1 joined without the state of this epoch" in note for note in served.notes)


def test_statistics_of_normalisation_are_averaged_where_asked(tmp_path: Path) -> None:
    served = Hosted(tmp_path / "run")
    models = [nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).double() for _ in range(2)]
    means: list[np.ndarray] = []

    def program(rank: int) -> None:
        model = models[rank]
        optimizer = torch.optim.SGD(model.parameters(), 0.0)
        link = sb.join(served.address, model, optimizer, method=AVERAGE, every=1, rank=rank, buffers="average")
        link.begin()
        model[1].running_mean.fill_(float(rank + 1))
        link.step()
        means.append(model[1].running_mean.numpy().copy())
        link.finish()

    together([lambda: program(0), lambda: program(1)])
    served.end()
    assert [mean.tolist() for mean in means] == [[1.5, 1.5], [1.5, 1.5]]


def test_programs_that_mean_something_else_are_refused_by_name(tmp_path: Path) -> None:
    served = Hosted(tmp_path / "run", workers=1)
    model = network(0)
    link = sb.join(served.address, model, None, every=2, rank=0)
    link.begin()
    with pytest.raises(ConfigError, match="the recipes differ: every is 3 there and 2 here"):
        sb.join(served.address, network(0), None, every=3, rank=0).begin()
    with pytest.raises(ConfigError, match=r"the recipes differ: parameters\.2\.bias"):
        sb.join(served.address, network(0)[:2], None, every=2, rank=0).begin()
    with pytest.raises(ConfigError, match=r"worker rank must lie in \[0, 1\), got 1"):
        sb.join(served.address, network(0), None, every=2, rank=1).begin()
    link.finish()
    served.end()


def test_a_model_that_is_not_finite_is_not_sent(tmp_path: Path) -> None:
    served = Hosted(tmp_path / "run", workers=1)
    model = network(0)
    link = sb.join(served.address, model, None, every=1, rank=0)
    link.begin()
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match="the model is not finite before the exchange of round 0; nothing was sent"):
        link.step()
    link.since = 0
    link.finish()
    served.end()


def test_a_limit_of_rounds_ends_the_run_and_the_program_goes_on_alone(tmp_path: Path) -> None:
    served = Hosted(tmp_path / "run", workers=1, rounds=2)
    model = network(0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    link = sb.join(served.address, model, optimizer, method=AVERAGE, every=1, rank=0)
    train(model, optimizer, batches(0, 5), link.step)
    assert link.over
    link.finish()
    result = served.end()
    assert (result["reason"], result["rounds"]) == ("max_rounds", 2)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["up_bytes"] > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "masha1"}, "a link's method must be one of diloco, local_average, muloco, sparse_loco, got 'masha1'"),
        ({"method": {"name": "diloco", "local_steps": 3}}, "method.local_steps is for steps of ours: in a link"),
        ({"method": {"name": "diloco", "momentun": 3}}, "method.momentun is no known key; did you mean 'momentum'"),
        ({"every": 0}, "every must be a whole number of at least 1, got 0"),
        ({"rank": -1}, r"rank must lie in \[0, 65536\), got -1"),
        ({"buffers": "sum"}, "buffers must be one of keep, average, got 'sum'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sb.join("localhost:1", network(), None, **{"rank": 0, **given})


def test_a_rank_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SADDLEBAG_RANK", raising=False)
    monkeypatch.delenv("GROUP_RANK", raising=False)
    with pytest.raises(ConfigError, match="rank is missing: give join a rank from 0, or set SADDLEBAG_RANK"):
        sb.join("localhost:1", network())
    monkeypatch.setenv("GROUP_RANK", "4")
    assert "worker 4" in repr(sb.join("localhost:1", network()))
    monkeypatch.setenv("SADDLEBAG_RANK", "3")
    assert "worker 3, not begun" in repr(sb.join("localhost:1", network()))


def test_a_state_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    link = sb.join("localhost:1", network(), rank=0)
    with pytest.raises(StateError, match="a link's state has format 1, got 9"):
        link.load_state_dict({"format": 9})
    served = Hosted(tmp_path / "run", workers=1)
    begun = sb.join(served.address, network(), rank=0)
    begun.begin()
    with pytest.raises(LocalProtocolError, match="load a link's state before the model's first forward pass"):
        begun.load_state_dict(begun.state_dict())
    other = sb.join(served.address, network(), every=7, rank=0)
    other.load_state_dict(begun.state_dict())
    with pytest.raises(ConfigError, match="this state of a link is of other terms"):
        other.begin()
    begun.finish()
    served.end()


def test_terms_survive_their_text() -> None:
    terms = Terms.of("sparse_loco", 30, *_tensors())
    assert Terms.parse(terms.text()) == terms
    for text in ("", "{}", "[]", '{"method": 3}', terms.text().replace("[0,", "[5,"), terms.text().replace("[0,2", "[0,-2")):
        with pytest.raises(ConfigError):
            Terms.parse(text)


def _tensors() -> tuple[list[Any], list[Any]]:
    from saddlebag.compression import Tensor

    return [Tensor("b", (2, 3)), Tensor("a", ())], [Tensor("mean", (2,))]


def test_a_program_that_fails_outside_of_its_link_ends(tmp_path: Path) -> None:
    """Its link waits in a thread; a process does not."""
    hosted = Hosted(tmp_path / "run", workers=2)
    text = f"import torch, saddlebag as sb; sb.join({hosted.address!r}, torch.nn.Linear(2, 2), rank=0).begin(); 1 / 0"
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 1
    assert "ZeroDivisionError" in ended.stderr
