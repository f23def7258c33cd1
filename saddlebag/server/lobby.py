"""Where a server of linked programs waits for the first of them: it brings the terms of the run and the start.

The port serves nothing else meanwhile; who wants to join is told to come again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import DecodeError

from saddlebag.errors import RemoteProtocolError, SaddlebagError
from saddlebag.proto.address import parse_address
from saddlebag.proto.checkpoint import bytes_to_arrays
from saddlebag.proto.endpoint import SERVICE, ServerSecurity
from saddlebag.proto.handshake import PROTOCOL, other_version, require_same_recipe
from saddlebag.proto.seal import opened, sealed
from saddlebag.proto.v1 import parameter_server_pb2 as pb
from saddlebag.server.calls import names_of, refuse, status_of
from saddlebag.server.port import open_port, serve_until
from saddlebag.server.roster import recognise

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.compression import Vector

__all__ = ["Lobby"]

_OVERHEAD = 1 << 12  # of a safetensors file with one array


class Lobby:
    """Waits for the first offer.

    Args:
        dimension_of: the number of coordinates of terms; raises `ConfigError` where they are none.
        token: that everybody must know; empty for none.
        note: told what a person should know.
    """

    def __init__(
        self, dimension_of: Callable[[str], int], *, token: str = "", note: Callable[[str], None] = lambda text: None
    ) -> None:
        self._dimension_of, self._token, self._note = dimension_of, token, note
        self._turn, self._there = asyncio.Lock(), asyncio.Event()
        self._taken: tuple[str, Vector] | None = None

    async def first(self, address: str, security: ServerSecurity, listening: Callable[[str], None]) -> tuple[str, Vector, str]:
        """Terms and start, float64 (D,), of the first program, and the address that was served; the port is free again.

        Raises:
            ConfigError: the port is in use, or the address is not loopback and the server not secured.
            StateError: gRPC has closed the port by itself.
        """
        methods = {
            "Offer": grpc.stream_stream_rpc_method_handler(self._offer),
            "Join": grpc.unary_unary_rpc_method_handler(_come_again),
        }
        given: dict[str, Any] = {"has_token": bool(self._token), "warn": self._note}
        server, port = await open_port(SERVICE, methods, address, security, **given)
        bound = str(parse_address(address, listening=True).at(port))
        listening(bound)
        try:
            await serve_until(server, self._there)
        finally:
            await server.stop(grace=1.0)
        assert self._taken is not None
        return (*self._taken, bound)

    async def _offer(self, requests: Any, context: Any) -> None:
        del requests  # read through the context
        try:
            await self._serve(context)
        except SaddlebagError as error:
            await refuse(context, status_of(error), str(error))

    async def _serve(self, context: Any) -> None:
        first = await _piece(context)
        if first is None:
            return
        if first.protocol != PROTOCOL:
            raise other_version(first.protocol)
        recognise(first.worker, first.token, names_of(context), secret=self._token, recipe=first.terms)
        d = self._dimension_of(first.terms)
        async with self._turn:  # who comes second waits for the first one's start, or its end
            if self._taken is not None:
                require_same_recipe(first.terms, self._taken[0])
                await context.write(sealed(pb.OfferReply(wanted=False).SerializeToString()))
                return
            await context.write(sealed(pb.OfferReply(wanted=True).SerializeToString()))
            data = await _start_bytes(context, first.total, d)
            if data is None:
                return
            self._taken = first.terms, _start(data, d)
            await context.write(sealed(pb.OfferReply(taken=True).SerializeToString()))
            self._there.set()


async def _piece(context: Any) -> pb.OfferPiece | None:
    raw = await context.read()
    if raw is grpc.aio.EOF:
        return None
    opened(raw, "an OfferPiece")
    try:
        piece: pb.OfferPiece = pb.OfferPiece.FromString(raw)
        return piece
    except DecodeError:
        raise RemoteProtocolError("these bytes are no OfferPiece") from None


async def _start_bytes(context: Any, total: int, d: int) -> bytes | None:
    """The file of the start; None where the program is gone before its end."""
    if not 0 < total <= 8 * d + _OVERHEAD:
        raise RemoteProtocolError(f"a start of {d} coordinates takes up to {8 * d + _OVERHEAD} bytes, {total} are announced")
    data = bytearray()
    while len(data) < total:
        piece = await _piece(context)
        if piece is None:
            return None
        data += piece.data
    if len(data) > total:
        raise RemoteProtocolError(f"a start of {total} bytes was announced, more came")
    return bytes(data)


def _start(data: bytes, d: int) -> Vector:
    """The vector of a start's file."""
    start = bytes_to_arrays(data, "the start").get("start")
    if start is None or start.shape != (d,) or start.dtype not in (np.float32, np.float64) or not np.isfinite(start).all():
        raise RemoteProtocolError(f"a start must be {d} finite numbers")
    return start.astype(np.float64)


async def _come_again(raw: bytes, context: Any) -> None:
    del raw
    await context.abort(grpc.StatusCode.UNAVAILABLE, "the run has not begun")
