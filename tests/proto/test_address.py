"""What people write for an address, and what becomes of it."""

from __future__ import annotations

import pytest

from saddlebag.errors import ConfigError
from saddlebag.proto.address import parse_address
from saddlebag.proto.channel import client_options, proxy_of


@pytest.mark.parametrize(
    ("text", "read", "local"),
    [
        ("127.0.0.1:7777", "127.0.0.1:7777", True),
        ("127.8.9.1:65535", "127.8.9.1:65535", True),
        ("localhost:1", "localhost:1", True),
        ("[::1]:7777", "[::1]:7777", True),
        ("[0:0:0:0:0:0:0:1]:7777", "[::1]:7777", True),
        ("unix:/run/x.sock", "unix:/run/x.sock", True),
        ("unix:///run/x.sock", "unix:/run/x.sock", True),
        ("unix:x.sock", "unix:x.sock", True),
        ("0.0.0.0:7777", "0.0.0.0:7777", False),
        ("[::]:7777", "[::]:7777", False),
        ("server.example:80", "server.example:80", False),
        ("saddlebag-server-0-0.saddlebag:7777", "saddlebag-server-0-0.saddlebag:7777", False),
    ],
)
def test_addresses(text: str, read: str, local: bool) -> None:
    place = parse_address(text)
    assert (str(place), place.is_local) == (read, local)
    assert parse_address(str(place)) == place
    assert dict(client_options(place))["grpc.enable_http_proxy"] == int(not local)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the port is missing"),
        ("127.0.0.1", "the port is missing"),
        (":23914", "the host is missing"),
        ("127.0.0.1:", r"the port must lie in \[1, 65535\]"),
        ("127.0.0.1:0", r"the port must lie in \[1, 65535\]"),
        ("127.0.0.1:99999", r"the port must lie in \[1, 65535\]"),
        ("127.0.0.1:-1", r"the port must lie in \[1, 65535\]"),
        ("127.0.0.1:7e3", r"the port must lie in \[1, 65535\]"),
        ("127.0.0.1:\u0667\u0667", r"the port must lie in \[1, 65535\]"),
        ("::1:7777", "an IPv6 address goes in brackets"),
        ("[::1:7777", "an IPv6 address goes in brackets"),
        ("[::g]:7777", "is no IPv6 address"),
        ("256.0.0.1:7777", "is no host"),
        ("http://server:7777", "leave out .http://."),
        ("a b:7777", "is no host"),
        ("h" * 64 + ":7777", "is no host"),  # what IDNA's codec ends with an error of its own kind
        ("a." * 127 + ":7777", "is no host"),
        ("unix:", "the path is empty"),
    ],
)
def test_what_is_no_address(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"address must be HOST:PORT, .*{reason}"):
        parse_address(text)


def test_any_port_is_for_servers() -> None:
    assert parse_address("127.0.0.1:0", listening=True).port == 0


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, ""),
        ({"http_proxy": ""}, ""),
        ({"HTTP_PROXY": "http://p:1"}, ""),  # gRPC does not read it
        ({"http_proxy": "http://p:1"}, "the proxy p:1 of $http_proxy"),
        ({"http_proxy": "p:1"}, "the proxy p:1 of $http_proxy"),
        ({"http_proxy": "http://p:1", "grpc_proxy": "http://q:2"}, "the proxy q:2 of $grpc_proxy"),
        ({"https_proxy": "http://me:secret@p:1"}, "the proxy p:1 of $https_proxy"),
        ({"http_proxy": "http://p:1", "no_proxy": "example"}, ""),
        ({"http_proxy": "http://p:1", "no_proxy": "other, .example"}, ""),
        ({"http_proxy": "http://p:1", "no_proxy": "other"}, "the proxy p:1 of $http_proxy"),
    ],
)
def test_the_proxy_is_named_without_its_password(environment: dict[str, str], told: str) -> None:
    assert proxy_of(parse_address("server.example:80"), environment) == told
    for local in ("127.0.0.1:80", "[::1]:80", "localhost:80", "unix:/run/x.sock"):
        assert proxy_of(parse_address(local), environment) == ""
