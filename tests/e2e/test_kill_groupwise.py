from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.client.groupwise.client import GroupwiseClient
from saddlebag.errors import PeerLost
from saddlebag.launch.groupwise.serving import make_core
from tests.chaos.kills import SERVICE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

BATCHES, ROWS = 40, 8


class Served:
    """The service as a process that is killed and started again."""

    def __init__(self, folder: Path, recipe: Path) -> None:
        self.folder, self.recipe, self.process = folder, recipe, None
        self.start()

    def start(self) -> None:
        address = self.folder / "address.json"
        address.unlink(missing_ok=True)
        command = [sys.executable, "-m", "saddlebag", "groupwise", "serve", str(self.recipe)]
        command += ["--address", "127.0.0.1:0", "--out", str(self.folder), "--checkpoint-every", "10"]
        log = self.folder.parent / "service.log"
        with log.open("ab") as file:
            self.process: Any = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)
        deadline = time.monotonic() + 60
        while not address.is_file():
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.address = json.loads(address.read_text())["address"]

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.start()


@pytest.mark.timeout(300)
def test_kill_9_at_random_moments_loses_no_answered_call(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = rng.random((100, 3))
    lines = ["age,dose,outcome", *(",".join(f"{value:.6f}" for value in row) for row in table)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(SERVICE)
    reference = make_core(recipe, [], max_rows=64, max_pending=1000)
    served, dice = Served(tmp_path / "service", recipe), random.Random(1)
    client = GroupwiseClient(served.address)

    def call(name: str, *arguments: Any) -> Any:
        """Repeat until it is answered; now and then the server dies first."""
        nonlocal client
        for _ in range(5):
            if dice.random() < 0.06:
                served.kill()
            try:
                return getattr(client, name)(*arguments)
            except PeerLost:
                client.close()
                client = GroupwiseClient(served.address, identity=client.identity)
        raise AssertionError("five deaths in a row")

    kills = served.process.pid
    for _ in range(BATCHES):
        x_ND = np.column_stack((rng.random((ROWS, 2)), np.ones(ROWS)))
        member_NG = np.column_stack((x_ND[:, 0] < 0.4, x_ND[:, 1] >= 0.5, np.ones(ROWS, bool)))
        label_N = 0.5 * x_ND[:, 0] + 0.5 * member_NG[:, 1]
        first, block = reference.predict(x_ND, member_NG)
        predicted = call("predict", x_ND, member_NG)
        assert np.array_equal(predicted.value_N, block.value_N)
        reference.feedback(range(first, first + ROWS), label_N)
        assert (call("feedback", predicted.ticket_N, label_N) <= 2).all()  # applied, or repeated after a death
    report = client.report()
    assert [(a.name, a.regret, a.bound) for a in report.experts] == [(a.name, a.regret, a.bound) for a in reference.accounts()]
    assert report.learned == BATCHES * ROWS
    assert served.process.pid != kills, "nothing was killed"
    client.close()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0
