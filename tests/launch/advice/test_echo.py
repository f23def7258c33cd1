from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from saddlebag.errors import ConfigError, PeerLost
from saddlebag.launch.advice.echo import MOST_BYTES, SERVICE, _chunks, measure_link, serve_echo
from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity

if TYPE_CHECKING:
    from pathlib import Path

OPENSSL = shutil.which("openssl")


def serving(security: ServerSecurity) -> str:
    """An echo server in a thread; its address."""
    found: list[str] = []
    up = threading.Event()

    def listening(bound: str) -> None:
        found.append(bound)
        up.set()

    options: dict[str, Any] = {"seconds": 20.0, "security": security, "note": print, "listening": listening}
    thread = threading.Thread(target=serve_echo, args=("127.0.0.1:0",), kwargs=options, daemon=True)
    thread.start()
    assert up.wait(10)
    return found[0]


@pytest.fixture
def address() -> str:
    return serving(ServerSecurity())


def test_a_link_is_measured(address: str) -> None:
    link = measure_link(address)
    assert link.source == f"measured to {address}"
    assert 1e6 < link.up < 1e12
    assert 1e6 < link.down < 1e12
    assert 0 < link.latency_s < 1


@pytest.mark.skipif(OPENSSL is None, reason="needs the openssl command to make certificates")
def test_a_link_with_certificates_of_both_sides(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = f"{OPENSSL} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=saddlebag"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    address = serving(ServerSecurity(certificate=certificate, key=key, ca=certificate))
    link = measure_link(address, security=ClientSecurity(certificate=certificate, key=key, ca=certificate))
    assert 1e6 < link.up < 1e12
    for stranger in (None, ClientSecurity(ca=certificate)):
        with pytest.raises(PeerLost):
            measure_link(address, patience_s=0.5, security=stranger)


def test_what_a_peer_may_ask_for_is_bounded(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        send = channel.unary_stream(f"/{SERVICE}/Send")
        assert sum(map(len, send((3_000_000).to_bytes(8, "little"), timeout=10))) == 3_000_000
        with pytest.raises(grpc.RpcError, match="at most"):
            next(send((MOST_BYTES + 1).to_bytes(8, "little"), timeout=10))
        assert list(send(b"", timeout=10)) == []
        swallow = channel.stream_unary(f"/{SERVICE}/Swallow")
        assert int.from_bytes(swallow(_chunks(2_500_000), timeout=10), "little") == 2_500_000
        with pytest.raises(grpc.RpcError, match="larger than max"):
            swallow(iter([bytes(64 << 20)]), timeout=10)
        replies = channel.stream_stream(f"/{SERVICE}/Return")(iter([bytes(1 << 20)] * 2), timeout=10)
        assert [len(reply) for reply in replies] == [8, 8], "what comes back is short, whatever was sent"


def test_nobody_there() -> None:
    with pytest.raises(
        PeerLost, match=r"nothing answers at 127\.0\.0\.1:1: nothing listens there; start 'saddlebag echo' there"
    ):
        measure_link("127.0.0.1:1", patience_s=0.3)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("localhost", "--address must be HOST:PORT"),
        ("localhost:99999", "--address must be HOST:PORT"),
        ("0.0.0.0:0", "can be reached from other machines"),
    ],
)
def test_addresses_that_are_refused(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        serve_echo(address, seconds=1, security=ServerSecurity(), note=print, listening=print)


def test_an_address_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"cannot listen at {taken}"):
            serve_echo(taken, seconds=1, security=ServerSecurity(), note=print, listening=print)
