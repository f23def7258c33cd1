"""Advice with real clocks and a real link: no claim about speed, only that everything is measured and adds up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-m", "saddlebag"]
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_link_to_an_echo_server_is_measured() -> None:
    with subprocess.Popen([*CLI, "echo", "--seconds", "60"], env=ENV, stdout=subprocess.PIPE, text=True) as echo:
        try:
            assert echo.stdout is not None
            line = echo.stdout.readline()
            assert line.startswith("answering for 60 s at 127.0.0.1:")
            command = [
                *CLI,
                "advise",
                "--d",
                "20000",
                "--link",
                line.split()[-1],
                "--workers",
                "2",
                "--only",
                "top_k",
                "--json",
            ]
            done = subprocess.run(command, env=ENV, capture_output=True, text=True, check=False)
        finally:
            echo.terminate()
    assert (done.returncode, done.stderr) == (0, "")
    values = json.loads(done.stdout)
    assert values["link"]["source"] == f"measured to {line.split()[-1]}"
    assert values["transport"]["source"] == "measured over loopback"
    for link in (values["link"], values["transport"]):
        assert min(link["up"], link["down"]) > 1e6
        assert 0 < link["latency_s"] < 1
    assert {each["costs"]["name"] for each in values["rounds"]} == {"identity", "top_k"}
    for each in values["rounds"]:
        assert each["up_s"] > values["link"]["latency_s"]
        assert each["server_s"] > 0
