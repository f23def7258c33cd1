"""A whole Flower deployment on this machine, for trials and tests of an app: SuperLink, TLS, SuperNodes that authenticate.

Flower's own simulation never leaves one machine's memory; this is the smallest thing that runs an app over Flower's network
path, with every process that a real deployment has. Needs Flower 1.40 or later, whose SuperLink speaks HTTP.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlebag.flower.trials.credentials import write_certificates, write_node_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["REJOIN_S", "Deployment"]

REJOIN_S = 70
"""Seconds after which a SuperNode that was killed may come back under its key: until then Flower takes it to be online."""
_HOST, _NAME = "127.0.0.1", "here"
_BIN = Path(sys.executable).parent
_SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # else every run installs everything anew
}
_TLS_FILES = (("ca-cert", "ca.crt"), ("cert", "server.crt"), ("key", "server.key"))
_POLL_S = 0.2


class Deployment:
    """The processes of one deployment; they end with the `with deployment.up()` block.

    Args:
        folder: for certificates, keys and logs (`superlink.log`, `node0.log`, ...); empty.
        nodes: SuperNodes; node i has partition i.
        spare: further keys that the SuperLink knows, for `start_node`.

    Attributes:
        files: paths of the certificates by what they are: `certificate`, `key` and `ca`.
    """

    def __init__(self, folder: Path, nodes: int, spare: int = 0) -> None:
        self.folder, self.nodes, self._keys = folder, nodes, nodes + spare
        self.files = {"certificate": folder / "server.crt", "key": folder / "server.key", "ca": folder / "ca.crt"}
        self.port, *self._ports = _free_ports(self._keys + 1)
        home = folder / "home"
        home.mkdir()
        address, ca = f'address = "{_HOST}:{self.port}"', f'root-certificates = "{folder}/ca.crt"'
        (home / "config.toml").write_text(f'[superlink]\ndefault = "{_NAME}"\n\n[superlink.{_NAME}]\n{address}\n{ca}\n')
        path = os.pathsep.join((str(_BIN), os.environ.get("PATH", "")))  # Flower starts its own commands
        self._environment = {**os.environ, **_SWITCHES, "FLWR_HOME": str(home), "PATH": path}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @contextlib.contextmanager
    def up(self) -> Iterator[Deployment]:
        """Write the credentials, start a SuperLink, register the keys and start the SuperNodes.

        Raises:
            RuntimeError: the SuperLink does not start, and what it says.
        """
        write_certificates(self.folder, _HOST)
        tls = [f"--ssl-{option}file={self.folder}/{file}" for option, file in _TLS_FILES]
        try:
            self._start(
                "superlink", "flower-superlink", *tls, "--enable-supernode-auth", f"--host={_HOST}", f"--port={self.port}"
            )
            self._await_superlink()
            for key in range(self._keys):
                write_node_key(self.folder / f"key{key}")
                self.flwr("supernode", "register", str(self.folder / f"key{key}.pub"), _NAME)
            for node in range(self.nodes):
                self.start_node(node)
            yield self
        finally:
            for name in list(self._running):
                self._kill(name)

    def start_node(self, node: int, key: int | None = None) -> None:
        """Start the SuperNode with partition `node`; with another key than its own, a new machine in its place."""
        number = node if key is None else key
        self._start(
            f"node{node}",
            "flower-supernode",
            f"--root-certificates={self.folder}/ca.crt",
            f"--superlink={_HOST}:{self.port}",
            f"--auth-supernode-private-key={self.folder}/key{number}",
            f"--node-config=partition-id={node} num-partitions={self.nodes}",
            f"--port={self._ports[number]}",
        )

    def kill_node(self, node: int) -> None:
        """End a SuperNode and all that it started, at once (SIGKILL)."""
        self._kill(f"node{node}")

    def run_app(self, app: Path, config: Mapping[str, Any]) -> None:
        """Hand an app to the SuperLink, which starts it; returns at once.

        Args:
            app: its folder.
            config: overrides keys of `[tool.flwr.app.config]`.
        """
        text = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
        self.flwr("run", str(app), _NAME, "--run-config", text)

    def await_result(self, output: Path, timeout_s: float, meanwhile: Callable[[], None] = lambda: None) -> Any:
        """What the app wrote into a JSON file as the last thing it did; `meanwhile` is called several times a second.

        Raises:
            RuntimeError: no result within `timeout_s`, and what Flower says of the run.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(OSError, json.JSONDecodeError):  # not there yet, or half written
                return json.loads(output.read_text())
            if time.monotonic() > deadline:
                raise RuntimeError(f"no result within {timeout_s:g} s: {self.flwr('ls', _NAME, '--format=json')}")
            meanwhile()
            time.sleep(_POLL_S)

    def log(self, name: str = "superlink") -> str:
        """What a process has written so far; the ServerApp writes into the SuperLink's log."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def flwr(self, *arguments: str, timeout_s: float = 60) -> str:
        """Run Flower's command line; returns what it prints.

        Raises:
            RuntimeError: it fails, and what it says.
        """
        command = [str(_BIN / "flwr"), *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode:
            raise RuntimeError(f"flwr {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _start(self, name: str, command: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [str(_BIN / command), *arguments], stdout=log, stderr=log, env=self._environment, start_new_session=True
            )

    def _await_superlink(self) -> None:
        for _ in range(300):
            if self._running["superlink"].poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection((_HOST, self.port), timeout=1):
                return
            time.sleep(_POLL_S)
        raise RuntimeError(f"no SuperLink: {self.log()[-2000:]}")

    def _kill(self, name: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._running[name].pid, signal.SIGKILL)
        self._running.pop(name).wait()


def _free_ports(count: int) -> list[int]:
    """Some that nobody listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((_HOST, 0))
        return [probe.getsockname()[1] for probe in probes]
