"""Linked programs as processes: the server and one of them are killed, and the end is that of the undisturbed run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

PROGRAM = Path(__file__).with_name("linked_program.py")
STEPS, KILLED_AT = 300, 60


def host(out: Path, address: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "saddlebag", "host", "--workers", "2", "--out", str(out), "--address", address]
    return subprocess.Popen([*command, "--on-lost", "pause", *more], stderr=subprocess.PIPE, text=True)


def program(rank: int, address: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), str(rank), address, str(folder / f"{rank}.pt"), str(STEPS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def address_of(served: subprocess.Popen[str]) -> str:
    assert served.stderr is not None
    line = served.stderr.readline()  # waiting for 2 programs at HOST:PORT; results in ...
    assert " at " in line, line
    return line.split(" at ")[1].split(";")[0]


def reached(process: subprocess.Popen[str], step: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"step {step}"):
            return
    raise AssertionError(process.communicate()[1])


def ends(processes: list[subprocess.Popen[str]]) -> list[str]:
    found = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), [text for _, text in found]
    return [out.split()[-1] for out, _ in found]


def killed(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)


def whole(folder: Path, *, disturbed: bool) -> list[str]:
    folder.mkdir()
    served = host(folder / "run", "127.0.0.1:0")
    address = address_of(served)
    programs = [program(rank, address, folder) for rank in (0, 1)]
    if disturbed:
        reached(programs[1], KILLED_AT)
        killed(served)
        served = host(folder / "run", address, "--resume")
        address_of(served)
        reached(programs[1], 2 * KILLED_AT)
        killed(programs[1])
        programs[1] = program(1, address, folder)
    found = ends(programs)
    _, text = served.communicate(timeout=60)
    assert served.returncode == 0, text
    result = json.loads((folder / "run" / "result.json").read_text())
    assert (result["reason"], result["rounds"]) == ("done", STEPS // 2)
    return found


def test_a_killed_server_and_a_killed_program_change_no_bit(tmp_path: Path) -> None:
    undisturbed = whole(tmp_path / "undisturbed", disturbed=False)
    assert undisturbed[0] == undisturbed[1]
    assert whole(tmp_path / "disturbed", disturbed=True) == undisturbed
