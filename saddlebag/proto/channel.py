"""How a client connects: options that follow the lease, no proxy on the way to this machine, TLS where it is asked for."""

from __future__ import annotations

import os
import urllib.parse
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from saddlebag.proto.address import parse_address
from saddlebag.proto.endpoint import LEASE_S, MESSAGE_OPTIONS, ClientSecurity, pings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.proto.address import Address

__all__ = ["client_options", "open_aio_channel", "open_channel", "proxy_of"]

_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")  # in the order in which gRPC looks
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")


def client_options(place: Address, lease_s: float = LEASE_S) -> list[tuple[str, int]]:
    """Options of a channel to a server that is to be heard of within a lease."""
    proxied = int(not place.is_local)
    return [*MESSAGE_OPTIONS, *pings(lease_s), ("grpc.enable_http_proxy", proxied)]


def open_channel(address: str | Address, security: ClientSecurity | None = None, lease_s: float = LEASE_S) -> grpc.Channel:
    """A channel to a server; nothing is sent yet.

    Args:
        address: as `parse_address` takes it.
        security: TLS files; None for plain text.
        lease_s: within which a silent server is to be noticed.

    Raises:
        ConfigError: the address is none, or a file of TLS is missing or wrong.
    """
    place = parse_address(address) if isinstance(address, str) else address
    credentials = (security or ClientSecurity()).credentials()
    options = client_options(place, lease_s)
    if credentials is None:
        return grpc.insecure_channel(str(place), options=options)
    return grpc.secure_channel(str(place), credentials, options=options)


def open_aio_channel(place: Address, security: ClientSecurity, lease_s: float = LEASE_S) -> grpc.aio.Channel:
    """The same for asyncio, with a connection of its own; errors as `open_channel`."""
    options = [*client_options(place, lease_s), ("grpc.use_local_subchannel_pool", 1)]
    credentials = security.credentials()
    if credentials is None:
        return grpc.aio.insecure_channel(str(place), options=options)
    return grpc.aio.secure_channel(str(place), credentials, options=options)


def proxy_of(place: Address, environment: Mapping[str, str] | None = None) -> str:
    """The proxy through which gRPC goes to an address, without its password, and who says so; empty for none.

    Example:
        >>> proxy_of(parse_address("example.org:7777"), {"http_proxy": "http://me:secret@10.0.0.1:3128"})
        'the proxy 10.0.0.1:3128 of $http_proxy'
        >>> proxy_of(parse_address("127.0.0.1:7777"), {"http_proxy": "http://10.0.0.1:3128"})
        ''
    """
    given = os.environ if environment is None else environment
    name = next((name for name in _PROXIES if given.get(name)), None)
    if name is None or place.is_local:
        return ""
    spared = next((given[key] for key in _EXCEPTIONS if given.get(key)), "")
    if any(place.host.endswith(end.strip()) for end in spared.split(",") if end.strip()):
        return ""
    where = urllib.parse.urlsplit(given[name] if "//" in given[name] else f"//{given[name]}")
    return f"the proxy {where.netloc.rpartition('@')[2]} of ${name}"
