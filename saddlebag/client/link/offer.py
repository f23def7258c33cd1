"""A program's offer to a server that waits for its first one: the terms, and where they are wanted, the start."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import numpy as np

from saddlebag.client.calls import Refusals
from saddlebag.errors import BrokenStream, ConfigError, PeerLost
from saddlebag.proto.address import parse_address
from saddlebag.proto.channel import open_aio_channel
from saddlebag.proto.checkpoint import arrays_to_bytes
from saddlebag.proto.endpoint import SERVICE
from saddlebag.proto.frames import FRAME_BYTES
from saddlebag.proto.handshake import PROTOCOL
from saddlebag.proto.seal import opened, sealed
from saddlebag.proto.v1 import parameter_server_pb2 as pb

if TYPE_CHECKING:
    from saddlebag.client.account import ClientLedger
    from saddlebag.compression import Vector
    from saddlebag.proto.endpoint import ClientSecurity

__all__ = ["offer"]

_PAUSE_S = 0.2


async def offer(
    address: str,
    security: ClientSecurity,
    terms: str,
    start_D: Vector,
    *,
    worker: int,
    token: str,
    give_up_s: float,
    ledger: ClientLedger,
) -> None:
    """Bring terms and start to a server that has none; nothing is sent but the terms where it has.

    Raises:
        ConfigError: the server refuses the terms.
        PeerLost: there is no server within `give_up_s`.
    """
    deadline, place = time.monotonic() + give_up_s, parse_address(address, "the server's address")
    refusals = Refusals()
    while True:
        try:
            async with open_aio_channel(place, security) as channel:
                await _offer(channel, terms, start_D, worker, token, ledger)
                return
        except BrokenStream as error:
            reason = str(error)
        except asyncio.InvalidStateError:  # the server has ended the stream
            reason = "the server ended the offer"
        except grpc.aio.AioRpcError as error:
            reason = error.details() or error.code().name
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:  # the run has begun
                return
            if refusals.believes(error):
                raise ConfigError(f"the server at {address} refused these terms: {reason}") from error
        if time.monotonic() > deadline:
            raise PeerLost(f"no server at {address} for {give_up_s:g} s; last answer: {reason}")
        await asyncio.sleep(_PAUSE_S)


async def _offer(channel: grpc.aio.Channel, terms: str, start_D: Vector, worker: int, token: str, ledger: ClientLedger) -> None:
    exact = bool((start_D.astype(np.float32) == start_D).all())
    data = arrays_to_bytes({"start": start_D.astype(np.float32) if exact else start_D}, {})
    call = channel.stream_stream(f"/{SERVICE}/Offer")()

    async def say(piece: pb.OfferPiece) -> None:
        raw = sealed(piece.SerializeToString())
        ledger.up += len(raw)
        await call.write(raw)

    await say(pb.OfferPiece(protocol=PROTOCOL, terms=terms, worker=worker, token=token, total=len(data)))
    if (raw := await call.read()) is not grpc.aio.EOF:
        opened(raw, "an OfferReply")
        if pb.OfferReply.FromString(raw).wanted:
            for at in range(0, len(data), FRAME_BYTES):
                await say(pb.OfferPiece(data=data[at : at + FRAME_BYTES]))
    await call.done_writing()
    while await call.read() is not grpc.aio.EOF:
        pass
    if (code := await call.code()) != grpc.StatusCode.OK:
        metadata = (await call.initial_metadata(), await call.trailing_metadata())
        raise grpc.aio.AioRpcError(code, *metadata, await call.details())
