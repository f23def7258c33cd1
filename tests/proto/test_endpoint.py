from __future__ import annotations

from pathlib import Path

import pytest

from saddlebag.errors import ConfigError
from saddlebag.proto.endpoint import SERVER_OPTIONS, SERVICE, ClientSecurity, ServerSecurity, is_loopback, pings
from saddlebag.proto.v1 import parameter_server_pb2 as pb

CERTIFICATE, KEY, CA = Path("server.pem"), Path("server.key"), Path("ca.pem")


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "unix:/tmp/socket", "unix:///tmp/socket"]
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "::",
        "[::]",
        "10.0.0.1",
        "192.168.1.2",
        "example.org",
        "localhost.example.org",
        "127.0.0.1.example.org",
        "",
        "128.0.0.1",
    ],
)
def test_reachable_from_outside(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("security", "has_token"),
    [
        (ServerSecurity(), False),
        (ServerSecurity(), True),  # a token in plain text is no secret
        (ServerSecurity(certificate=CERTIFICATE, key=KEY), False),  # encrypted, but for anybody
        (ServerSecurity(ca=CA), True),
    ],
    ids=["nothing", "token", "certificate", "ca"],
)
def test_strangers_are_not_served_unless_that_is_asked_for(security: ServerSecurity, has_token: bool) -> None:
    warnings: list[str] = []
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 can be reached from other machines: give --tls-cert"):
        security.require_safe("0.0.0.0", has_token, warnings.append)
    assert warnings == []
    security.require_safe("127.0.0.1", has_token, warnings.append)
    assert warnings == []


def test_insecure_warns() -> None:
    warnings: list[str] = []
    ServerSecurity(insecure=True).require_safe("10.0.0.1", False, warnings.append)
    (warning,) = warnings
    assert warning.startswith("serving 10.0.0.1 without TLS")
    ServerSecurity(insecure=True).require_safe("::1", False, warnings.append)
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("security", "has_token"),
    [
        (ServerSecurity(certificate=CERTIFICATE, key=KEY), True),
        (ServerSecurity(certificate=CERTIFICATE, key=KEY, ca=CA), False),
    ],
    ids=["token", "mutual"],
)
def test_tls_with_authentication_is_safe(security: ServerSecurity, has_token: bool) -> None:
    security.require_safe("0.0.0.0", has_token, pytest.fail)


@pytest.mark.parametrize("security", [ServerSecurity, ClientSecurity])
def test_certificate_and_key_go_together(security: type[ServerSecurity] | type[ClientSecurity]) -> None:
    for files in ({"certificate": CERTIFICATE}, {"key": KEY}):
        with pytest.raises(ConfigError, match="--tls-cert and --tls-key go together"):
            security(**files).credentials()
    assert security().credentials() is None


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(ConfigError, match=r"cannot read the certificate .*missing\.pem: No such file"):
        ServerSecurity(certificate=missing, key=missing).credentials()
    with pytest.raises(ConfigError, match=r"cannot read the CA certificate .*missing\.pem: No such file"):
        ClientSecurity(ca=missing).credentials()


def test_the_service_is_the_schemas() -> None:
    assert pb.DESCRIPTOR.services_by_name["ParameterServer"].full_name == SERVICE


@pytest.mark.parametrize("lease_s", [3.0, 10.0, 60.0])
def test_a_silent_end_is_noticed_within_the_lease(lease_s: float) -> None:
    options = dict(pings(lease_s))
    assert options["grpc.keepalive_time_ms"] + options["grpc.http2.ping_timeout_ms"] <= 1000 * max(lease_s, 3.9)
    assert options["grpc.keepalive_time_ms"] > dict(SERVER_OPTIONS)["grpc.http2.min_ping_interval_without_data_ms"]
