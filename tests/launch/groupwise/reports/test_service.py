"""`saddlebag groupwise report HOST:PORT`: a running service asked as any client asks it."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from saddlebag.launch import cli
from saddlebag.launch.groupwise.serving import make_parts
from saddlebag.proto.endpoint import ServerSecurity
from saddlebag.server.groupwise.service import GroupwiseService
from saddlebag.server.groupwise.shell import GroupwiseShell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECIPE = """
[data]
source = "rows.csv"
[features]
numeric = ["x"]
intercept = true
[label]
column = "y"
[groups]
"[red]low[/]" = "x < 0.5"
[intervals]
targets = [0.9]
[calibration]
bins = 5
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a service with a secret, which has learned 40 labels."""
    rng = np.random.default_rng(0)
    rows = rng.random((60, 2))
    (tmp_path / "rows.csv").write_text("\n".join(["x,y", *(f"{x:.3f},{y:.3f}" for x, y in rows)]) + "\n")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    core, encoder = make_parts(tmp_path / "recipe.toml", [], max_rows=64, max_pending=64)
    service = GroupwiseService(core, None, encoder=encoder)
    for x, y in rows[:40]:
        first, _ = core.predict(np.array([[x, 1.0]]), np.array([[x < 0.5, True]]))
        core.feedback([first], np.array([y]))
    found, ready = {}, threading.Event()

    async def run() -> None:
        shell = GroupwiseShell(service, token="secret")
        found["port"] = await shell.start("127.0.0.1:0", ServerSecurity())
        found["stop"] = (asyncio.get_running_loop(), shell.stop)
        ready.set()
        await shell.run()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(60)
    yield f"127.0.0.1:{found['port']}"
    loop, stop = found["stop"]
    loop.call_soon_threadsafe(stop)
    thread.join(60)


def saddlebag(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        cli.main([str(argument) for argument in arguments])
    return exit_.value.code or 0  # type: ignore[return-value]


def test_the_report_of_a_service_as_table_json_and_page(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("secret\n")
    assert saddlebag("groupwise", "report", address, "--html", "--token-file", "token") == 0
    text = capsys.readouterr().out
    for part in ("[red]low[/]", "always_on", "40 predictions, 40 labels", "calibration", "page in report.html"):
        assert part in text, part
    page = (tmp_path / "report.html").read_text()
    assert "[red]low[/]" in page
    assert "Renewed" not in page
    assert saddlebag("groupwise", "report", address, "--json", "--token-file", "token") == 0
    values = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in values["experts"]] == ["[red]low[/]", "always_on"]
    assert values["experts"][1]["rounds"] == 40
    assert sum(values["calibrated"][1]["rounds"]) == 40


def test_what_cannot_be_reported_is_said_in_a_line(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert saddlebag("groupwise", "report", address) == 2
    assert "must hold the server's secret" in capsys.readouterr().err
    assert saddlebag("groupwise", "report", address, "--plot", "a.png") == 2
    assert "--plot draws the curves of a run; a service keeps none" in capsys.readouterr().err
    assert saddlebag("groupwise", "report", "127.0.0.1:1") != 0
    assert "no answer from the server at 127.0.0.1:1" in capsys.readouterr().err
    assert saddlebag("groupwise", "report", "nowhere") == 2
    assert "cannot be read" in capsys.readouterr().err
