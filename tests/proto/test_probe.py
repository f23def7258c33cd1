"""Why there is no connection, by name: every way in which two ends can misfit."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from concurrent import futures
from typing import TYPE_CHECKING

import grpc
import pytest

from saddlebag.errors import ConfigError
from saddlebag.proto.address import Address, parse_address
from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity
from saddlebag.proto.probe import probe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPENSSL = shutil.which("openssl")
with_openssl = pytest.mark.skipif(OPENSSL is None, reason="needs the openssl command to make certificates")


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of self-signed certificates and keys: `here` for 127.0.0.1, `other` for another name."""
    folder = tmp_path_factory.mktemp("pem")
    for name, subject in (("here", "IP:127.0.0.1"), ("other", "DNS:other.example")):
        command = f"{OPENSSL} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name}"
        files = [
            "-addext",
            f"subjectAltName={subject}",
            "-keyout",
            str(folder / f"{name}.key"),
            "-out",
            str(folder / f"{name}.pem"),
        ]
        subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return folder


@contextlib.contextmanager
def serving(security: ServerSecurity) -> Iterator[Address]:
    """A gRPC server without calls."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    credentials = security.credentials()
    port = (
        server.add_insecure_port("127.0.0.1:0") if credentials is None else server.add_secure_port("127.0.0.1:0", credentials)
    )
    server.start()
    try:
        yield Address("127.0.0.1", port)
    finally:
        server.stop(None).wait()


def said(place: Address, security: ClientSecurity) -> tuple[str, bool]:
    found = probe(place, security)
    return (found.text, found.lasting) if found else ("", False)


@with_openssl
def test_two_ends_that_do_not_fit(pem: Path) -> None:
    here, other = ({"certificate": pem / f"{name}.pem", "key": pem / f"{name}.key"} for name in ("here", "other"))
    plain, trusting = ClientSecurity(), ClientSecurity(ca=pem / "here.pem")
    with serving(ServerSecurity()) as place:
        assert said(place, plain) == ("", False)
        text, lasting = said(place, trusting)
        assert "this side speaks TLS, and the server plain text" in text
        assert lasting
    with serving(ServerSecurity(**here)) as place:
        assert said(place, trusting) == ("", False)
        assert said(place, plain) == ("the server speaks TLS, and this side plain text: give --tls-ca", True)
        text, lasting = said(place, ClientSecurity(ca=pem / "other.pem"))
        assert f"the server's certificate is not trusted with {pem / 'other.pem'}" in text
        assert lasting
    with serving(ServerSecurity(**other)) as place:
        text, lasting = said(place, ClientSecurity(ca=pem / "other.pem"))
        assert "the server's certificate is not for 127.0.0.1" in text
        assert lasting
    with serving(ServerSecurity(**here, ca=pem / "here.pem")) as place:
        assert said(place, ClientSecurity(ca=pem / "here.pem", **here)) == ("", False)
        assert said(place, plain) == ("the server speaks TLS, and this side plain text: give --tls-ca", True)
        assert said(place, trusting) == ("the server asks for a certificate of this side: give --tls-cert and --tls-key", True)
        text, lasting = said(place, ClientSecurity(ca=pem / "here.pem", **other))
        assert f"the server does not accept the certificate {pem / 'other.pem'}" in text
        assert lasting


@with_openssl
def test_tls_that_is_no_grpc(pem: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem / "here.pem", pem / "here.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(3):  # a finding that lasts is one that came three times
                with contextlib.suppress(OSError):
                    context.wrap_socket(listener.accept()[0], server_side=True).close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        place = Address("127.0.0.1", listener.getsockname()[1])
        assert said(place, ClientSecurity(ca=pem / "here.pem")) == ("a server with TLS answers, but no gRPC server", True)
        thread.join(10)


def test_nobody_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        assert said(parse_address(address), ClientSecurity()) == ("nothing listens there", False)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:  # it never answers
        place = Address("127.0.0.1", listener.getsockname()[1])
        assert probe(place, ClientSecurity(), timeout_s=0.2) is None  # as far as can be seen without TLS
    assert said(parse_address(f"unix:{tmp_path}/x.sock"), ClientSecurity()) == ("there is no such socket", False)
    monkeypatch.setenv("http_proxy", "http://me:secret@10.0.0.1:3128")
    assert said(parse_address("server.example:7"), ClientSecurity()) == (
        "the way there leads through the proxy 10.0.0.1:3128 of $http_proxy; name server.example in $no_proxy to go directly",
        False,
    )


@with_openssl
@pytest.mark.parametrize("side", [ServerSecurity, ClientSecurity])
def test_a_wrong_file_is_named(pem: Path, tmp_path: Path, side: type[ServerSecurity] | type[ClientSecurity]) -> None:
    good, key, other, text = pem / "here.pem", pem / "here.key", pem / "other.key", tmp_path / "notes.txt"
    text.write_text("no PEM")
    locked = tmp_path / "locked.key"
    command = f"{OPENSSL} ec -aes256 -passout pass:secret -in {key} -out {locked}"
    subprocess.run(command.split(), check=True, capture_output=True)
    for files, message in (
        ({"certificate": text, "key": key}, "notes.txt holds no certificate in PEM"),
        ({"certificate": key, "key": key}, "here.key holds no certificate in PEM"),
        ({"certificate": good, "key": text}, "notes.txt holds no private key in PEM, or one with a password"),
        ({"certificate": good, "key": good}, "here.pem holds no private key in PEM, or one with a password"),
        ({"certificate": good, "key": locked}, "locked.key holds no private key in PEM, or one with a password"),
        ({"certificate": good, "key": other}, r"other.key is not that of the certificate .*here.pem"),
        ({"certificate": good, "key": key, "ca": text}, "notes.txt holds no CA certificate in PEM"),
    ):
        with pytest.raises(ConfigError, match=message):
            side(**files).credentials()


@with_openssl
@pytest.mark.parametrize("damaged", [1, 2])
def test_a_handshake_that_was_damaged_on_the_way_is_no_lasting_finding(pem: Path, damaged: int) -> None:
    """A server ends a connection whose bits make no sense as it ends one that shows no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem / "here.pem", pem / "here.key")
    context.set_alpn_protocols(["h2"])
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for number in range(damaged + 1):
                with context.wrap_socket(listener.accept()[0], server_side=True) as secured:
                    if number == damaged:
                        secured.sendall(b"gRPC's first frame")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        place = Address("127.0.0.1", listener.getsockname()[1])
        assert said(place, ClientSecurity(ca=pem / "here.pem")) == ("", False)
        thread.join(10)
