"""The first offer to a server of linked programs: what is taken, what is refused, and who comes next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np
import pytest

from saddlebag.errors import ConfigError
from saddlebag.proto.checkpoint import arrays_to_bytes
from saddlebag.proto.endpoint import SERVICE, ServerSecurity
from saddlebag.proto.handshake import PROTOCOL
from saddlebag.proto.seal import sealed
from saddlebag.proto.v1 import parameter_server_pb2 as pb
from saddlebag.server.lobby import Lobby

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

START = np.array([1.0, -2.0, 3.0])


def dimension_of(terms: str) -> int:
    if terms != "{}":
        raise ConfigError("these are no terms")
    return len(START)


def beside_lobby(work: Callable[[str], Coroutine[Any, Any, None]], token: str = "") -> tuple[str, list[float]]:
    """What a lobby takes while `work` offers at its address, then a good offer ends it."""

    async def both() -> tuple[str, list[float]]:
        bound: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        lobby = Lobby(dimension_of, token=token)
        first = asyncio.create_task(lobby.first("127.0.0.1:0", ServerSecurity(), bound.set_result))
        address = await bound
        await work(address)
        await offer(address, [piece(token=token), data(file(START))])
        terms, start_D, _ = await asyncio.wait_for(first, 20)
        return terms, start_D.tolist()

    return asyncio.run(both())


def piece(**given: Any) -> bytes:
    fields: dict[str, Any] = {"protocol": PROTOCOL, "terms": "{}", "total": len(file(START)), **given}
    return sealed(pb.OfferPiece(**fields).SerializeToString())


def data(raw: bytes) -> bytes:
    return sealed(pb.OfferPiece(data=raw).SerializeToString())


def file(start_D: np.ndarray) -> bytes:
    return arrays_to_bytes({"start": start_D}, {})


async def offer(address: str, pieces: list[bytes]) -> tuple[grpc.StatusCode, str]:
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(f"/{SERVICE}/Offer")()
        try:
            for raw in pieces:
                await call.write(raw)
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            pass
        return await call.code(), await call.details() or ""


def test_a_start_of_float32_or_float64_is_taken() -> None:
    async def nothing(address: str) -> None:
        del address

    assert beside_lobby(nothing) == ("{}", START.tolist())


@pytest.mark.parametrize(
    ("pieces", "code", "message"),
    [
        ([b"\xff\xff\xff"], grpc.StatusCode.FAILED_PRECONDITION, ""),
        ([piece(protocol=1)], grpc.StatusCode.FAILED_PRECONDITION, "version"),
        ([piece(terms="[]")], grpc.StatusCode.FAILED_PRECONDITION, "these are no terms"),
        ([piece(total=0)], grpc.StatusCode.INVALID_ARGUMENT, "a start of 3 coordinates takes up to"),
        ([piece(total=1 << 40)], grpc.StatusCode.INVALID_ARGUMENT, "a start of 3 coordinates takes up to"),
        ([piece(total=5), data(b"too long")], grpc.StatusCode.INVALID_ARGUMENT, "a start of 5 bytes was announced, more came"),
        ([piece(total=5), data(b"12345")], grpc.StatusCode.FAILED_PRECONDITION, "the start is damaged"),
        ([piece(total=len(file(START[:2]))), data(file(START[:2]))], grpc.StatusCode.INVALID_ARGUMENT, "3 finite numbers"),
        ([piece(), data(file(START * np.nan))], grpc.StatusCode.INVALID_ARGUMENT, "a start must be 3 finite numbers"),
        ([piece()], grpc.StatusCode.OK, ""),  # gone before its start has come
    ],
)
def test_what_is_no_offer_is_refused_and_the_next_one_taken(pieces: list[bytes], code: grpc.StatusCode, message: str) -> None:
    found: list[tuple[grpc.StatusCode, str]] = []

    async def work(address: str) -> None:
        found.append(await offer(address, pieces))

    assert beside_lobby(work) == ("{}", START.tolist())
    if message:
        assert found[0][0] == code, found
        assert message in found[0][1]


def test_a_wrong_token_is_refused() -> None:
    found: list[tuple[grpc.StatusCode, str]] = []

    async def work(address: str) -> None:
        found.append(await offer(address, [piece(token="guess")]))

    beside_lobby(work, token="secret of the run")
    assert found[0][0] == grpc.StatusCode.FAILED_PRECONDITION
    assert "the token is wrong" in found[0][1]


def test_who_wants_to_join_is_told_to_come_again() -> None:
    async def work(address: str) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(f"/{SERVICE}/Join")(b"")
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE

    beside_lobby(work)
