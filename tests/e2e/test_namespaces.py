"""The network that benchmarks and tests of several nodes run in: it limits a link, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from namespaces import Namespace, namespaces, unavailable

pytestmark = pytest.mark.e2e

_BYTES = 1 << 20
_RECEIVE = """
import socket, sys, time
server = socket.create_server((sys.argv[1], 5000))
print("listening", flush=True)
client, _ = server.accept()
begin, count = time.monotonic(), 0
while data := client.recv(1 << 16):
    count += len(data)
print(count, time.monotonic() - begin)
"""
_SEND = f"import socket, sys; socket.create_connection((sys.argv[1], 5000)).sendall(bytes({_BYTES}))"


@pytest.fixture(autouse=True)
def _namespaces_exist() -> None:
    if (reason := unavailable()) is not None:
        pytest.skip(reason)


def _existing() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


def test_a_link_is_as_slow_as_asked_and_nothing_is_left() -> None:
    with namespaces(2, rate_mbit=20) as nodes:
        receiver = nodes[0].popen([sys.executable, "-c", _RECEIVE, nodes[0].address], stdout=subprocess.PIPE, text=True)
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "listening\n"
        nodes[1].run([sys.executable, "-c", _SEND, nodes[0].address], check=True, timeout=60)
        count, seconds = map(float, receiver.communicate(timeout=60)[0].split())
        assert count == _BYTES
        assert seconds > 0.8 * 8 * _BYTES / 20e6  # a burst of 64 KiB and what TCP buffers go faster
        assert nodes[1].transmitted_bytes() > _BYTES
        assert nodes[0].received_bytes() > _BYTES
        names = [node.name for node in nodes]
        assert all(name in _existing() for name in names)
    assert not any(name in _existing() for name in names)


def test_what_runs_inside_ends_with_the_namespace_also_after_an_error() -> None:
    def fail() -> tuple[Namespace, subprocess.Popen[bytes]]:
        with namespaces(1) as nodes:
            child = nodes[0].popen([sys.executable, "-c", "import time; time.sleep(600)"])
            while not nodes[0].pids():
                time.sleep(0.01)
            kept.append((nodes[0], child))
            raise ZeroDivisionError

    kept: list[tuple[Namespace, subprocess.Popen[bytes]]] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    node, child = kept[0]
    assert child.wait(timeout=10) == -9
    assert node.name not in _existing()


@pytest.mark.parametrize(("count", "rate", "message"), [(0, None, "count must lie"), (2, 0.0, "rate_mbit must be positive")])
def test_arguments_are_checked(count: int, rate: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=message), namespaces(count, rate_mbit=rate):
        pass
