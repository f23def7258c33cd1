"""TLS with real certificates: a run goes through, and strangers do not get in."""

from __future__ import annotations

import asyncio
import subprocess
import time
from typing import TYPE_CHECKING

import grpc.aio
import pytest

from saddlebag.algorithms import AnyMethod, Judge, Stop, digest
from saddlebag.client.core import WorkerCore
from saddlebag.client.shell import WorkerShell
from saddlebag.errors import ConfigError
from saddlebag.proto.address import parse_address
from saddlebag.proto.channel import open_aio_channel
from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings
from saddlebag.server.shell import ServerShell

if TYPE_CHECKING:
    from pathlib import Path

    from saddlebag.algorithms.problems import BilinearGame


@pytest.mark.parametrize("mutual", [False, True])
def test_a_run_over_tls(game: BilinearGame, game_method: AnyMethod, pair: tuple[Path, Path], mutual: bool) -> None:
    certificate, key = pair
    stop = Stop(max_rounds=12)

    def worker(rank: int, token: str = "secret") -> WorkerShell:
        core = WorkerCore(game_method, game.operator(rank), game.start(), worker=rank, seed=7)
        return WorkerShell(core, recipe="{}", token=token, give_up_s=2.0)

    async def main() -> tuple[ServerCore, list[WorkerShell]]:
        settings = ServerSettings(num_workers=4, seed=7, token="secret")
        core = ServerCore(game_method, Judge(game, stop), game.start(), settings, time.monotonic())
        server = ServerShell(core)
        security = ServerSecurity(certificate=certificate, key=key, ca=certificate if mutual else None)
        address = f"127.0.0.1:{await server.start('127.0.0.1:0', security)}"
        serving = asyncio.create_task(server.run())
        trusted = ClientSecurity(ca=certificate, **({"certificate": certificate, "key": key} if mutual else {}))
        with pytest.raises(ConfigError, match="the server speaks TLS, and this side plain text"):
            await worker(0).run(address, ClientSecurity())
        if mutual:
            with pytest.raises(ConfigError, match="the server asks for a certificate of this side"):
                await worker(0).run(address, ClientSecurity(ca=certificate))
        with pytest.raises(ConfigError, match="token is wrong"):
            await worker(0, token="guess").run(address, trusted)
        shells = [worker(rank) for rank in range(4)]
        await asyncio.gather(*(shell.run(address, trusted) for shell in shells))
        await serving
        return core, shells

    core, shells = asyncio.run(main())
    assert core.finished == "max_rounds"
    assert {digest(shell._core.replica) for shell in shells} == {digest(core.replica)}


def test_a_certificate_for_a_worker_lets_in_that_worker(
    game: BilinearGame, game_method: AnyMethod, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    certificate, key = pair
    own_key, own = tmp_path / "own.key", tmp_path / "own.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=worker-2"
    subprocess.run([*command.split(), "-keyout", str(own_key), "-out", str(own)], check=True, capture_output=True)

    async def main() -> list[str]:
        core = ServerCore(
            game_method, Judge(game, Stop(max_rounds=2)), game.start(), ServerSettings(num_workers=4, seed=7), time.monotonic()
        )
        server = ServerShell(core)
        port = await server.start("127.0.0.1:0", ServerSecurity(certificate=certificate, key=key, ca=own))
        place = parse_address(f"127.0.0.1:{port}")
        answers = []
        for rank in (1, 2):
            core_of_rank = WorkerCore(game_method, game.operator(rank), game.start(), worker=rank, seed=7)
            async with open_aio_channel(place, ClientSecurity(ca=certificate, certificate=own, key=own_key)) as channel:
                try:
                    await WorkerShell(core_of_rank, recipe="{}")._join(channel)
                    answers.append("admitted")
                except grpc.aio.AioRpcError as error:
                    answers.append(str(error.details()))
        assert server._server is not None
        await server._server.stop(None)
        return answers

    assert asyncio.run(main()) == ["the certificate is for worker 2, not for worker 1", "admitted"]
