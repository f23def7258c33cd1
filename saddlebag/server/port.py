"""Opening a port: what every service of Saddlebag has beside its own calls."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from saddlebag.errors import ConfigError, StateError
from saddlebag.proto.address import parse_address
from saddlebag.proto.endpoint import LEASE_S, MESSAGE_OPTIONS, SERVER_ANSWER_S, SERVER_OPTIONS, ServerSecurity, pings
from saddlebag.server.stranger import hardened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["open_port", "require_free", "serve_until", "stays_open"]

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
    methods: Mapping[str, grpc.RpcMethodHandler],
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
        methods: its calls, by name.
        address: HOST:PORT.
        security: how.
        has_token: whether the calls ask for a secret.
        warn: told what is not secured.
        servicer: answers questions about health; for services that can say they are ill.
        lease_s: a fifth of it passes between two pings.

    Raises:
        ConfigError: the port is in use, or the address is not loopback and the server not secured.
    """
    place = parse_address(address, listening=True)
    security.require_safe(place.name, has_token, warn)
    options = [*MESSAGE_OPTIONS, *SERVER_OPTIONS, *pings(lease_s, answer_s=SERVER_ANSWER_S)]
    with hardened():
        server = grpc.aio.server(options=options)
    server.add_registered_method_handlers(service, dict(methods))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))  # before 1.84 these alone count
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


async def stays_open(server: grpc.aio.Server) -> NoReturn:
    """As long as the port is open: for ever, until it is cancelled.

    Raises:
        StateError: gRPC has closed the port by itself; whoever comes would find nobody.
    """
    ended = asyncio.ensure_future(server.wait_for_termination())
    ended.add_done_callback(lambda done: done.cancelled() or done.exception())  # somebody may have stopped to listen
    try:
        await asyncio.shield(ended)  # who cancels gRPC's own waiting breaks its stopping
    except Exception as error:
        raise StateError(f"gRPC has closed the port after an error of its own: {error}") from error
    raise StateError("gRPC has closed the port by itself")


async def serve_until(server: grpc.aio.Server, over: asyncio.Event) -> None:
    """Until the event; errors as `stays_open`."""
    tasks = asyncio.create_task(over.wait()), asyncio.create_task(stays_open(server))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[1].done():
            await tasks[1]
    finally:
        for task in tasks:
            task.cancel()
