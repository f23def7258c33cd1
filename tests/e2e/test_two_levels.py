"""A site below another server: its server is a process that is killed twice, and no bit of the end is another."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import saddlebag as sb
from tests.launch.link.test_two_levels import Served, network, values

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

STEPS, KILLED = 60, (17, 40)
METHOD = {"name": "sparse_loco"}


def site(folder: Path, above: str, address: str, *more: str) -> tuple[subprocess.Popen[str], str]:
    text = f"[above]\naddress = {json.dumps(above)}\nrank = 0\nperiod = 2\nmethod = {{ name = 'sparse_loco' }}\n"
    (folder / "site.toml").write_text(text)
    command = [sys.executable, "-m", "saddlebag", "host", "--workers", "1", "--out", str(folder / "site")]
    command += ["--address", address, "--above", str(folder / "site.toml"), *more]
    served = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert served.stderr is not None
    line = served.stderr.readline()  # waiting for 1 programs at HOST:PORT; results in ...
    assert " at " in line, line
    return served, line.split(" at ")[1].split(";")[0]


def whole(folder: Path, *, disturbed: bool) -> list[np.ndarray]:
    """The ends of the site's program and of one that is a worker of the server above itself."""
    folder.mkdir()
    above = Served(folder / "above", workers=2)
    served, address = site(folder, above.address, "127.0.0.1:0")
    models, kills = [network(), network()], threading.Semaphore(0)

    def program(number: int, at: str, rank: int, every: int) -> None:
        generator = torch.Generator().manual_seed(number)
        optimizer = torch.optim.SGD(models[number].parameters(), 0.05)
        with sb.join(at, models[number], optimizer, method=METHOD, every=every, rank=rank) as link:
            for step in range(STEPS):
                x = torch.randn(8, 4, generator=generator, dtype=torch.float64)
                optimizer.zero_grad()
                ((models[number](x) - x.sum(1, keepdim=True)) ** 2).mean().backward()
                optimizer.step()
                link.step()
                if number == 0 and step in KILLED:
                    kills.release()

    threads = [threading.Thread(target=program, args=args) for args in ((0, address, 0, 1), (1, above.address, 1, 2))]
    for thread in threads:
        thread.start()
    for _ in KILLED if disturbed else ():
        assert kills.acquire(timeout=60)
        served.send_signal(signal.SIGKILL)
        served.communicate(timeout=30)
        served, _ = site(folder, above.address, address, "--resume")
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    _, text = served.communicate(timeout=60)
    assert served.returncode == 0, text
    assert json.loads((folder / "site" / "result.json").read_text())["rounds"] == STEPS
    assert above.end()["rounds"] == STEPS // 2
    return [values(model) for model in models]


def test_a_killed_server_of_a_site_changes_no_bit(tmp_path: Path) -> None:
    undisturbed = whole(tmp_path / "undisturbed", disturbed=False)
    disturbed = whole(tmp_path / "disturbed", disturbed=True)
    for found, expected in zip(disturbed, undisturbed, strict=True):
        assert np.array_equal(found, expected)
    assert np.allclose(undisturbed[0], undisturbed[1], rtol=0, atol=1e-6)
