"""Calls of names that nobody knows, text or not: each is refused, and the port stays open; one that closes is told of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from saddlebag.algorithms import AnyMethod, Judge, Stop
from saddlebag.errors import StateError
from saddlebag.proto.endpoint import SERVICE, ServerSecurity
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings
from saddlebag.server.lobby import Lobby
from saddlebag.server.port import open_port, serve_until
from saddlebag.server.shell import ServerShell
from saddlebag.server.stranger import _answers, _reads_names

if TYPE_CHECKING:
    from saddlebag.algorithms.problems import BilinearGame

NAMES: list[Any] = [f"/{SERVICE}/Jo".encode() + b"\xe9n", b"\xff", f"/{SERVICE}/Other", "/other/Echo"]
FEW = 50


async def echo(raw: bytes, context: Any) -> bytes:
    del context
    return raw


@pytest.fixture
def errors() -> list[str]:
    """What the loop was told of: a task that ended with an error, and nobody has asked."""
    return []


async def _port(errors: list[str]) -> tuple[grpc.aio.Server, str]:
    asyncio.get_running_loop().set_exception_handler(lambda loop, told: errors.append(str(told)))
    methods = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    ways: dict[str, Any] = {"has_token": False, "warn": errors.append}
    server, port = await open_port(SERVICE, methods, "127.0.0.1:0", ServerSecurity(), **ways)
    return server, f"127.0.0.1:{port}"


@pytest.mark.parametrize("name", NAMES)
def test_unknown_names_are_refused_and_the_port_stays_open(name: Any, errors: list[str]) -> None:
    async def main() -> None:
        server, place = await _port(errors)
        async with grpc.aio.insecure_channel(place) as channel:
            before = len(asyncio.all_tasks())
            for _ in range(FEW):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary(name)(b"", timeout=20)
                assert caught.value.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN)  # the latter before 1.84
            assert await channel.unary_unary(f"/{SERVICE}/Echo")(b"here", timeout=20) == b"here"
            assert len(asyncio.all_tasks()) < before + FEW
        await server.stop(None)
        async with asyncio.timeout(20):
            while _answers:
                await asyncio.sleep(0.01)

    asyncio.run(main())
    assert not errors or not _reads_names(), "earlier releases drop the task of such a call, with an error"


def test_a_stream_of_an_unknown_name_is_answered_too(errors: list[str]) -> None:
    """Nothing that waits for its answer waits for ever."""

    async def main() -> grpc.StatusCode:
        server, place = await _port(errors)
        async with grpc.aio.insecure_channel(place) as channel:
            call = channel.stream_stream(NAMES[0])(timeout=20)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
        await server.stop(None)
        return caught.value.code()

    assert asyncio.run(main()) in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN)
    assert not errors or not _reads_names()


def test_a_port_that_closes_by_itself_ends_its_run(game: BilinearGame, game_method: AnyMethod) -> None:
    """Whoever comes would find nobody: a supervisor is to start it again."""

    async def of_a_run() -> None:
        settings = ServerSettings(num_workers=game.num_workers, seed=7)
        shell = ServerShell(ServerCore(game_method, Judge(game, Stop(max_rounds=5)), game.start(), settings, 0.0))
        await shell.start("127.0.0.1:0", ServerSecurity())
        run = asyncio.create_task(shell.run())
        assert shell._server is not None
        await shell._server.stop(None)
        await asyncio.wait_for(run, 20)

    async def of_a_service() -> None:
        server, _ = await _port([])
        waits = asyncio.create_task(serve_until(server, asyncio.Event()))
        await server.stop(None)
        await asyncio.wait_for(waits, 20)

    for run in (of_a_run, of_a_service):
        with pytest.raises(StateError, match="gRPC has closed the port by itself"):
            asyncio.run(run())


def test_the_lobby_answers_by_the_names_it_has() -> None:
    async def main() -> grpc.StatusCode:
        places: asyncio.Queue[str] = asyncio.Queue()
        lobby = asyncio.create_task(Lobby(lambda terms: 1).first("127.0.0.1:0", ServerSecurity(), places.put_nowait))
        async with grpc.aio.insecure_channel(await places.get()) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(f"/{SERVICE}/Join")(b"", timeout=20)
        lobby.cancel()
        await asyncio.wait([lobby])
        return caught.value.code()

    assert asyncio.run(main()) == grpc.StatusCode.UNAVAILABLE
