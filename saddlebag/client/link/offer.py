"""A program's offer to a server that waits for its first one: the terms, and where they are wanted, the start."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import numpy as np

from saddlebag.client.calls import Refusals
from saddlebag.client.waiting import Waiting
from saddlebag.errors import BrokenStream, ConfigError
from saddlebag.proto.address import parse_address
from saddlebag.proto.channel import open_aio_channel
from saddlebag.proto.checkpoint import arrays_to_bytes
from saddlebag.proto.endpoint import LEASE_S, SERVICE
from saddlebag.proto.frames import FRAME_BYTES
from saddlebag.proto.handshake import PROTOCOL
from saddlebag.proto.seal import opened, sealed
from saddlebag.proto.v1 import parameter_server_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.client.account import ClientLedger
    from saddlebag.compression import Vector
    from saddlebag.proto.endpoint import ClientSecurity

__all__ = ["offer"]

_PAUSE_S = 0.2
_SILENT_S = 60.0  # without an answer, or room for another frame, after which an offer is made again on another connection
_TIMES = 2  # in a row that a server must not know of offers: a flipped bit in the call's name looks the same


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
    place = parse_address(address, "the server's address")
    waiting = Waiting(f"worker {worker}", str(place), give_up_s, lambda text: None)
    refusals, unknown = Refusals(), 0
    while True:
        try:
            async with waiting.spoken(), open_aio_channel(place, security, waiting.slack * LEASE_S) as channel:
                await _offer(channel, terms, start_D, worker, token, ledger, waiting.met)
                return
        except TimeoutError:  # another program's start may be on its way; a silent machine is another error, by pings
            reason = f"no answer for {_SILENT_S:g} s"
            waiting.superseded()
        except BrokenStream as error:
            reason = str(error)
        except asyncio.InvalidStateError:  # the server has ended the stream
            reason = "the server ended the offer"
        except grpc.aio.AioRpcError as error:
            reason = error.details() or error.code().name
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:  # the run has begun
                unknown += 1
                if unknown == _TIMES:
                    return
                continue
            if refusals.believes(error):
                raise ConfigError(f"the server at {address} refused these terms: {reason}") from error
        await asyncio.sleep(min(_PAUSE_S, waiting.failed(reason)))


async def _offer(
    channel: grpc.aio.Channel,
    terms: str,
    start_D: Vector,
    worker: int,
    token: str,
    ledger: ClientLedger,
    met: Callable[[], None],
) -> None:
    exact = bool((start_D.astype(np.float32) == start_D).all())
    data = arrays_to_bytes({"start": start_D.astype(np.float32) if exact else start_D}, {})
    call = channel.stream_stream(f"/{SERVICE}/Offer")()

    async def say(piece: pb.OfferPiece) -> None:
        raw = sealed(piece.SerializeToString())
        ledger.up += len(raw)
        async with asyncio.timeout(_SILENT_S):
            await call.write(raw)

    async def hear() -> bytes | None:
        async with asyncio.timeout(_SILENT_S):
            answer = await call.read()
        return None if answer is grpc.aio.EOF else answer

    await say(pb.OfferPiece(protocol=PROTOCOL, terms=terms, worker=worker, token=token, total=len(data)))
    if (raw := await hear()) is not None:
        met()
        opened(raw, "an OfferReply")
        if pb.OfferReply.FromString(raw).wanted:
            for at in range(0, len(data), FRAME_BYTES):
                await say(pb.OfferPiece(data=data[at : at + FRAME_BYTES]))
    await call.done_writing()
    while await hear() is not None:
        pass
    if (code := await call.code()) != grpc.StatusCode.OK:
        metadata = (await call.initial_metadata(), await call.trailing_metadata())
        raise grpc.aio.AioRpcError(code, *metadata, await call.details())
