"""TLS with real certificates: a run goes through, and strangers do not get in."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from saddlebag.algorithms import AnyMethod, Judge, Stop, digest
from saddlebag.client.core import WorkerCore
from saddlebag.client.shell import WorkerShell
from saddlebag.errors import ConfigError
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
