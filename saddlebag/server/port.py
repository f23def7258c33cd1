"""Opening a port: what every service of Saddlebag has beside its own calls."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from saddlebag.errors import ConfigError
from saddlebag.proto.address import parse_address
from saddlebag.proto.endpoint import LEASE_S, MESSAGE_OPTIONS, SERVER_OPTIONS, ServerSecurity, pings

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["open_port", "require_free"]

_REFUSED = "the port is in use or the address is not of this machine"


def require_free(
    address: str, security: ServerSecurity, *, has_token: bool, warn: Callable[[str], None] = lambda text: None
) -> None:
    """Refuse an address that `open_port` would refuse, before anything is done for it.

    Raises:
        ConfigError: as `open_port`.
    """
    place = parse_address(address, listening=True)
    security.require_safe(place.name, has_token, warn)
    security.credentials()
    if place.path:
        folder = Path(place.path).parent
        if not folder.is_dir():
            raise ConfigError(f"cannot listen on {place}: there is no folder {folder}")
        return
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, where in found[:1]:
            with socket.socket(family, kind, protocol) as probe:
                if os.name != "nt":  # as gRPC does: a port whose connections are winding down is free
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
                probe.listen(1)
    except OSError as error:
        raise ConfigError(f"cannot listen on {place}: {_why(error)}") from error


def _why(error: OSError) -> str:
    """Why an address cannot be had."""
    if isinstance(error, socket.gaierror):
        return "the name is not known here"
    known = {
        errno.EADDRINUSE: "the port is in use",
        errno.EADDRNOTAVAIL: "the address is not of this machine",
        errno.EACCES: "this user may not open the port",
    }
    return known.get(error.errno or 0, error.strerror or str(error))


async def open_port(
    service: str,
    handler: grpc.GenericRpcHandler,
    address: str,
    security: ServerSecurity,
    *,
    has_token: bool,
    warn: Callable[[str], None],
    servicer: health.aio.HealthServicer | None = None,
    lease_s: float = LEASE_S,
) -> tuple[grpc.aio.Server, int]:
    """Serve a service with health and reflection beside it; returns the started server and its port.

    Args:
        service: its name.
        handler: its calls.
        address: HOST:PORT.
        security: how.
        has_token: whether the calls ask for a secret.
        warn: told what is not secured.
        servicer: answers questions about health; for services that can say they are ill.
        lease_s: within which a silent client is to be noticed.

    Raises:
        ConfigError: the port is in use, or the address is not loopback and the server not secured.
    """
    place = parse_address(address, listening=True)
    security.require_safe(place.name, has_token, warn)
    server = grpc.aio.server(options=[*MESSAGE_OPTIONS, *SERVER_OPTIONS, *pings(lease_s)])
    server.add_generic_rpc_handlers((handler,))
    servicer = servicer or health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection((service, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    credentials = security.credentials()
    try:
        port: int = (
            server.add_insecure_port(str(place)) if credentials is None else server.add_secure_port(str(place), credentials)
        )
    except RuntimeError:
        port = 0
    if port == 0:
        raise ConfigError(f"cannot listen on {place}: {_REFUSED}")
    await server.start()
    return server, port
