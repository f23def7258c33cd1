"""A whole deployment on this machine: a SuperLink with TLS, SuperNodes that authenticate, and a run of this app on them.

    python deploy.py                                  # a session
    python deploy.py --mode messages --rounds 12      # a Flower message to each client and round
    python deploy.py --mode messages --kill 20        # one SuperNode is killed after 20 s, and started again

Prints the results as one line of JSON. Certificates and keys are made for this run and live in a temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import ipaddress
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE, HOST = Path(__file__).resolve().parent, "127.0.0.1"
REJOIN_S = 70  # Flower refuses a SuperNode until the one that was killed has missed its heartbeats
PEM = serialization.Encoding.PEM


def write_certificates(folder: Path) -> None:
    """A certificate authority, and a server certificate that it signed for this host."""
    now, names = datetime.datetime.now(datetime.UTC), ("ca", "server")
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in names}
    subjects = {name: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"example {name}")]) for name in names}
    for name in names:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subjects[name])
            .issuer_name(subjects["ca"])
            .public_key(keys[name].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[name].public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys["ca"].public_key()), critical=False)
        )
        if name == "ca":
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        else:
            hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        (folder / f"{name}.crt").write_bytes(builder.sign(keys["ca"], hashes.SHA256()).public_bytes(PEM))
        _write_key(folder / f"{name}.key", keys[name], serialization.PrivateFormat.PKCS8)


def write_node_key(folder: Path, node: int) -> None:
    """The key by which a SuperNode is known."""
    key = ec.generate_private_key(ec.SECP384R1())
    _write_key(folder / f"node{node}", key, serialization.PrivateFormat.OpenSSH)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (folder / f"node{node}.pub").write_bytes(public)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> None:
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(PEM, form, serialization.NoEncryption()))


def free_ports(count: int) -> list[int]:
    """Some that nobody listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]


class Deployment:
    """The processes of one deployment; they end with the `with` block."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.folder, self.nodes = folder, nodes
        self.port, *self._ports = free_ports(nodes + 1)
        home = folder / "home"
        home.mkdir()
        address, ca = f'address = "{HOST}:{self.port}"', f'root-certificates = "{folder}/ca.crt"'
        table = f'[superlink]\ndefault = "here"\n\n[superlink.here]\n{address}\n{ca}\n'
        (home / "config.toml").write_text(table)
        switches = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
        switches["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] = "1"  # else every run installs everything anew
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))  # Flower starts its own commands
        self._environment = {**os.environ, **switches, "FLWR_HOME": str(home), "PATH": path}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            path = Path(sys.executable).parent / command[0]
            arguments = [str(path), *command[1:]]
            self._running[name] = subprocess.Popen(
                arguments, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )

    def flwr(self, *arguments: str, timeout_s: float = 60) -> str:
        """Run Flower's command line; returns what it prints."""
        command = [str(Path(sys.executable).parent / "flwr"), *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode:
            raise RuntimeError(f"flwr {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def up(self) -> Iterator[Deployment]:
        """Start a SuperLink, register and start the SuperNodes."""
        tls = [f"--ssl-{option}file={self.folder}/{file}" for option, file in TLS_FILES]
        try:
            self._start(
                "superlink", "flower-superlink", *tls, "--enable-supernode-auth", f"--host={HOST}", f"--port={self.port}"
            )
            self._await_superlink()
            for node in range(self.nodes):
                self.flwr("supernode", "register", str(self.folder / f"node{node}.pub"), "here")
                self.start_node(node)
            yield self
        finally:
            for name in list(self._running):
                self.kill(name)

    def _await_superlink(self) -> None:
        for _ in range(300):
            if self._running["superlink"].poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1):
                return
            time.sleep(0.2)
        raise RuntimeError(f"no SuperLink: {(self.folder / 'superlink.log').read_text()[-2000:]}")

    def start_node(self, node: int) -> None:
        """Start a SuperNode."""
        self._start(
            f"node{node}",
            "flower-supernode",
            f"--root-certificates={self.folder}/ca.crt",
            f"--superlink={HOST}:{self.port}",
            f"--auth-supernode-private-key={self.folder}/node{node}",
            f"--node-config=partition-id={node} num-partitions={self.nodes}",
            f"--port={self._ports[node]}",
        )

    def kill(self, name: str) -> None:
        """End a process and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._running[name].pid, 9)
        self._running.pop(name).wait()


TLS_FILES = (("ca-cert", "ca.crt"), ("cert", "server.crt"), ("key", "server.key"))


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """One run of the app; returns its results and when it was done."""
    write_certificates(folder)
    for node in range(arguments.clients):
        write_node_key(folder, node)
    output = folder / "result.json"
    config: dict[str, object] = {"mode": arguments.mode, "clients": arguments.clients, "max-rounds": arguments.rounds}
    config |= {"output": str(output), "session-ca": str(folder / "ca.crt"), "merit": arguments.merit, "every": arguments.every}
    config |= {"session-certificate": str(folder / "server.crt"), "session-key": str(folder / "server.key")}
    with Deployment(folder, arguments.clients).up() as deployment:
        begin_s = time.monotonic()
        text = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
        deployment.flwr("run", str(HERE), "here", "--run-config", text)
        down_at, up_at = arguments.kill or float("inf"), (arguments.kill or float("inf")) + REJOIN_S
        while not output.exists() or not output.stat().st_size:
            elapsed_s = time.monotonic() - begin_s
            if elapsed_s > arguments.timeout:
                raise RuntimeError(f"no result within {arguments.timeout} s: {deployment.flwr('ls', 'here', '--format=json')}")
            if elapsed_s > down_at:
                deployment.kill("node1")
                down_at = float("inf")
            if elapsed_s > up_at:
                deployment.start_node(1)
                up_at = float("inf")
            time.sleep(0.2)
        time.sleep(0.2)
        return {"seconds": round(time.monotonic() - begin_s, 1), **json.loads(output.read_text())}


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("session", "messages"), default="session")
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--merit", type=float, default=0.01)
    parser.add_argument("--every", type=int, default=50, help="rounds between two records")
    parser.add_argument("--kill", type=float, default=0.0, help="seconds after which SuperNode 1 is killed; 0 for never")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds")
    parser.add_argument("--keep", type=Path, help="a folder for certificates and logs, kept afterwards")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sys.stdout.write(json.dumps(run(arguments, folder.resolve())) + "\n")


if __name__ == "__main__":
    main()
