"""Sites whose servers are workers of another server, over real ports."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import saddlebag as sb
from saddlebag.errors import ConfigError, PeerLost
from saddlebag.launch.link.above import AboveSection, read_above
from saddlebag.launch.link.host import host
from saddlebag.launch.recipe.server_section import ServerSection

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_S = 60.0
FULL = {"up": {"name": "identity", "dtype": "float64"}, "down": {"name": "identity", "dtype": "float64"}}
AVERAGE = {"name": "local_average", **FULL}


class Served:
    """A host in a thread."""

    def __init__(self, out: Path, **given: Any) -> None:
        bound: queue.Queue[str] = queue.Queue()
        self.result: dict[str, Any] = {}
        self.failure: Exception | None = None
        section = ServerSection(lease_s=LONG_S, address="127.0.0.1:0")

        def serve() -> None:
            try:
                self.result = host(out, **{"server": section, "listening": bound.put, **given})
            except ConfigError as error:
                self.failure = error

        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()
        self.address = bound.get(timeout=LONG_S)

    def end(self) -> dict[str, Any]:
        self._thread.join(LONG_S)
        assert not self._thread.is_alive()
        return self.result


def network(seed: int = 0) -> nn.Sequential:
    """The same in every thread: the global generator is not asked."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(0.5 * torch.randn(value.shape, generator=generator, dtype=value.dtype))
    return model


def values(model: nn.Module) -> np.ndarray:
    return torch.cat([value.detach().reshape(-1) for value in model.parameters()]).numpy()


def together(*programs: Callable[[], object]) -> None:
    threads = [threading.Thread(target=program, daemon=True) for program in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
        assert not thread.is_alive()


def trained(address: str, rank: int, number: int, steps: int, method: Any = AVERAGE, **given: Any) -> np.ndarray:
    """The end of a program: rank at its server, number among all."""
    model = network(given.pop("seed", 0))
    generator = torch.Generator().manual_seed(number)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    with sb.join(address, model, optimizer, method=method, every=2, rank=rank, **given) as link:
        for _ in range(steps):
            x = torch.randn(8, 4, generator=generator, dtype=torch.float64)
            optimizer.zero_grad()
            ((model(x) - x.sum(1, keepdim=True)) ** 2).mean().backward()
            optimizer.step()
            link.step()
    return values(model)


def ends(*programs: tuple[str, int, int], **given: Any) -> list[np.ndarray]:
    found: dict[int, np.ndarray] = {}

    def run(address: str, rank: int, number: int) -> None:
        found[number] = trained(address, rank, number, **given)

    together(*(lambda each=each: run(*each) for each in programs))
    return [found[number] for number in sorted(found)]


def section(above: Served, rank: int, period: int, method: Any = AVERAGE) -> AboveSection:
    return AboveSection(address=above.address, rank=rank, period=period, method=method)


def test_two_sites_of_two_with_plain_averages_are_one_server_of_four(tmp_path: Path) -> None:
    flat = Served(tmp_path / "flat", workers=4)
    expected = ends(*((flat.address, rank, rank) for rank in range(4)), steps=12)
    flat.end()
    above = Served(tmp_path / "above", workers=2)
    sites = [Served(tmp_path / f"site-{rank}", workers=2, above=section(above, rank, 1)) for rank in range(2)]
    found = ends(*((sites[number // 2].address, number % 2, number) for number in range(4)), steps=12)
    assert [site.end()["rounds"] for site in sites] == [6, 6]
    assert above.end()["rounds"] == 6
    for each in found:
        assert np.allclose(each, expected[0], rtol=0, atol=1e-6), "what comes down travels as float32"
    assert not np.allclose(expected[0], values(network()), atol=0.1), "nothing was trained"


def test_a_site_goes_its_own_way_between_exchanges_and_starts_where_the_run_above_does(tmp_path: Path) -> None:
    """Period 2, three rounds: after the second all agree, after the third each site has its own point."""
    above = Served(tmp_path / "above", workers=2)
    momentum = {"name": "diloco", "step_size": 0.7, "momentum": 0.6, **FULL}
    sites = [Served(tmp_path / f"site-{rank}", workers=1, above=section(above, rank, 2, momentum)) for rank in range(2)]
    states: dict[tuple[int, int], np.ndarray] = {}

    def program(number: int) -> None:
        model = network(number)  # each site would begin elsewhere
        link = sb.join(sites[number].address, model, method=AVERAGE, every=1, rank=0)
        link.begin()
        states[number, 0] = values(model)
        for round_ in range(1, 4):
            with torch.no_grad():
                model[0].weight += 1.0 + number
            link.step()
            states[number, round_] = values(model)
        link.finish()

    together(lambda: program(0), lambda: program(1))
    for site in sites:
        site.end()
    above.end()
    assert np.array_equal(states[0, 0], states[1, 0])
    moved = states[0, 2] - states[0, 0]
    assert np.allclose(states[0, 1] - states[0, 0], np.where(np.arange(49) < 32, 1.0, 0.0))
    assert np.allclose(states[1, 1] - states[1, 0], np.where(np.arange(49) < 32, 2.0, 0.0))
    assert np.allclose(states[0, 2], states[1, 2], rtol=0, atol=1e-6)
    assert np.allclose(moved[:32], 0.7 * (1 + 0.6) * (2.0 + 4.0) / 2), "Nesterov outside, of the mean way of two rounds"
    assert np.allclose((states[1, 3] - states[0, 3])[:32], 1.0)


def test_a_site_of_sparse_messages_gets_a_sparse_part_from_above(tmp_path: Path) -> None:
    """Nobody pays 4 bytes a parameter, and what is left out comes later: programs train, and sites stay near each other."""
    sparse = {"name": "local_average", **{way: {"name": "top_k", "k": 8} for way in ("up", "down")}}
    above = Served(tmp_path / "above", workers=2)
    sites = [Served(tmp_path / f"site-{rank}", workers=1, above=section(above, rank, 1, sparse)) for rank in range(2)]
    found = ends(*((sites[number].address, 0, number) for number in range(2)), steps=120, method=sparse)
    for site in sites:
        result = site.end()
        full = 4 * len(found[0]) * result["rounds"]
        assert result["down_bytes"] < 0.8 * full, "two sparse parts a round are less than one in full"
    above.end()
    start = np.abs(values(network()) - found[0]).max()
    assert start > 0.3, "nothing was trained"
    assert np.allclose(found[0], found[1], rtol=0, atol=1e-5), "what came from above is as sparse as the compressor leaves"


def test_a_site_ends_when_the_run_above_does(tmp_path: Path) -> None:
    above = Served(tmp_path / "above", workers=1, rounds=2)
    site = Served(tmp_path / "site", workers=1, above=section(above, 0, 2))
    trained(site.address, 0, 0, 40)
    assert above.end()["reason"] == "max_rounds"
    result = site.end()
    assert (result["reason"], result["rounds"]) == ("done", 4)


def test_what_sites_say_above_must_agree(tmp_path: Path) -> None:
    above = Served(tmp_path / "above", workers=2)
    first = Served(tmp_path / "first", workers=1, above=section(above, 0, 1))
    other = Served(tmp_path / "other", workers=1, above=section(above, 1, 3))
    link = sb.join(first.address, network(), method=AVERAGE, every=2, rank=0)
    link.begin()
    with pytest.raises(PeerLost):  # its host has gone
        sb.join(other.address, network(), method=AVERAGE, every=2, rank=0, give_up_s=3.0).begin()
    other.end()
    assert "every is 6 there and 2 here" in str(other.failure)
    link.finish()
    first.end()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"server": ServerSection(quorum=1)}, "waits for all of its members.* leave quorum, weights and balance out"),
        ({"server": ServerSection(balance=True)}, "waits for all of its members"),
        ({"checkpoint_every": 2}, "--checkpoint-every must be 1, got 2"),
    ],
)
def test_what_does_not_combine_is_refused(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    above = AboveSection(address="localhost:1", rank=0, period=1)
    with pytest.raises(ConfigError, match=message):
        host(tmp_path / "run", **{"workers": 2, "server": ServerSection(), "above": above, **given})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[above]\naddress = 'hub:1'\nrank = 0", "above.period is missing; give a whole number"),
        ("[above]\naddress = 'hub:1'\nrank = 0\nperiod = 0", "above.period must be a whole number of rounds from 1, got 0"),
        ("[above]\naddress = 'hub:1'\nrank = -1\nperiod = 1", r"above.rank must lie in \[0, 65536\), got -1"),
        (
            "[above]\naddress = 'hub:1'\nrank = 0\nperiod = 1\nmethot = 'x'",
            "above.methot is no known key; did you mean 'method'",
        ),
        ("[below]\n", r"must hold one table, \[above\], got below"),
    ],
)
def test_the_table_is_read_strictly(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_above(tmp_path / "site.toml", Path.read_text)


def test_files_of_the_table_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("[above]\naddress = 'hub:1'\nrank = 0\nperiod = 1\ntoken_file = 'secret'")
    (tmp_path / "secret").write_text("of the run")
    read = read_above(tmp_path / "site.toml", Path.read_text)
    assert (read.token, read.token_file) == ("of the run", str(tmp_path / "secret"))
    assert "of the run" not in repr(read)
