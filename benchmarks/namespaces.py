"""Machines that are none: network namespaces on one switch, each with its own address and, where asked, a limited link.

    with namespaces(2, rate_mbit=100) as nodes:
        server = nodes[0].popen([sys.executable, "serve.py", nodes[0].address])
        nodes[1].run([sys.executable, "work.py", nodes[0].address], timeout=60)

Needs root and iproute2 (`apt-get install iproute2`); `unavailable()` says what is missing. Everything, the switch included,
lies in namespaces with names of their own, so several users do not meet and nothing of the machine's network changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SUBNET = "10.77.0"
_MOST = 250
_BURST_BYTES = 64 << 10  # of a token bucket: a few frames of segmentation offload, far below a message
_LATENCY_MS = 50  # what waits longer than this for the link is dropped, and TCP slows down
_END_S = 5.0


@dataclasses.dataclass(frozen=True)
class Namespace:
    """One machine: a name, its address on the switch, and commands that run inside."""

    name: str
    address: str

    def popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """`subprocess.Popen` inside; the process ends with the namespace at the latest."""
        return subprocess.Popen(["ip", "netns", "exec", self.name, *command], **options)

    def run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        """`subprocess.run` inside."""
        return subprocess.run(["ip", "netns", "exec", self.name, *command], **options)

    def pids(self) -> list[int]:
        """The processes inside, those of `popen` and all that came of them."""
        return [int(pid) for pid in _ip("netns", "pids", self.name).split()]

    def kill(self) -> None:
        """SIGKILL for every process inside: the machine loses its power, its disk stays."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def transmitted_bytes(self) -> int:
        """What has left on the link; headers count once for each packet that the kernel has not yet cut for the wire."""
        counter = ["cat", "/sys/class/net/eth0/statistics/tx_bytes"]
        return int(self.run(counter, capture_output=True, text=True, check=True).stdout)

    def received_bytes(self) -> int:
        """What has arrived on the link, counted in the same way."""
        counter = ["cat", "/sys/class/net/eth0/statistics/rx_bytes"]
        return int(self.run(counter, capture_output=True, text=True, check=True).stdout)


@contextlib.contextmanager
def namespaces(count: int, *, rate_mbit: float | None = None, first_mbit: float | None = None) -> Iterator[list[Namespace]]:
    """`count` namespaces on one switch; each sends and receives at most `rate_mbit` Mbit/s (`tc tbf` at both ends).

    The first one has `first_mbit` in its place, where that is given: a server behind another link than its workers.

    At the end, also after an error, what runs inside is killed and everything is removed.

    Raises:
        RuntimeError: the machine does not allow it; the message says why.
        ValueError: `count` or `rate_mbit` is out of range.
    """
    if not 1 <= count <= _MOST:
        raise ValueError(f"count must lie in 1..{_MOST}, got {count}")
    if rate_mbit is not None and not rate_mbit > 0:
        raise ValueError(f"rate_mbit must be positive, got {rate_mbit}")
    reason = unavailable()
    if reason is not None:
        raise RuntimeError(reason)
    prefix = f"sb{secrets.token_hex(4)}"
    switch, nodes = f"{prefix}-s", [Namespace(f"{prefix}-{i}", f"{_SUBNET}.{i + 1}") for i in range(count)]
    try:
        _add_switch(switch)
        for number, node in enumerate(nodes):
            _add_node(node, switch, f"port{number}", first_mbit if first_mbit is not None and number == 0 else rate_mbit)
        yield nodes
    finally:
        for name in (switch, *(node.name for node in nodes)):
            with contextlib.suppress(RuntimeError):
                _remove(name)


def _add_switch(name: str) -> None:
    _ip("netns", "add", name)
    _ip("-n", name, "link", "add", "bridge", "type", "bridge", "stp_state", "0", "forward_delay", "0")
    _ip("-n", name, "link", "set", "bridge", "up")


def _add_node(node: Namespace, switch: str, port: str, rate_mbit: float | None) -> None:
    _ip("netns", "add", node.name)
    _ip("-n", node.name, "link", "set", "lo", "up")
    _ip("-n", node.name, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", switch)
    _ip("-n", node.name, "addr", "add", f"{node.address}/24", "dev", "eth0")
    _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
    _ip("-n", node.name, "link", "set", "eth0", "up")
    if rate_mbit is not None:
        for namespace, device in ((node.name, "eth0"), (switch, port)):
            _limit(namespace, device, rate_mbit)


def _limit(namespace: str, device: str, rate_mbit: float) -> None:
    """A token bucket on what leaves a device."""
    rate = ["rate", f"{round(rate_mbit * 1e6)}bit", "burst", f"{_BURST_BYTES}b", "latency", f"{_LATENCY_MS}ms"]
    _call("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "tbf", *rate)


def _remove(name: str) -> None:
    """Kill what runs inside, then delete the namespace; its devices go with it."""
    here = Namespace(name, "")
    deadline = time.monotonic() + _END_S
    while here.pids() and time.monotonic() < deadline:
        here.kill()
        time.sleep(0.02)
    _ip("netns", "del", name)


@functools.cache
def unavailable() -> str | None:
    """Why this machine has no such namespaces; None when it has."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return f"there is no command {tool!r}; install iproute2"
    probe = f"sb{secrets.token_hex(4)}-p"
    try:
        try:
            _add_switch(probe)
            _ip("-n", probe, "link", "add", "eth0", "type", "veth", "peer", "name", "port0")
            _limit(probe, "eth0", 1.0)
        finally:
            if Path(f"/run/netns/{probe}").exists():
                _remove(probe)
    except RuntimeError as error:
        return f"the kernel allows no network namespaces, bridges or token buckets: {error}"
    return None


def _ip(*arguments: str) -> str:
    return _call("ip", *arguments)


def _call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
