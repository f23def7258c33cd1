"""Flipped bits in checkpoints, the server's and workers': the run comes back on the same bits, from the checkpoints before."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import AnyMethod, Judge, Outcome, Stop, digest
from saddlebag.client.core import WorkerCore
from saddlebag.client.keeping import Keeper
from saddlebag.client.shell import WorkerShell
from saddlebag.errors import BrokenStream
from saddlebag.proto.checkpoint import WORKER_KEEPS, CheckpointStore
from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity
from saddlebag.proto.handshake import JoinAnswer
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings
from saddlebag.server.shell import ServerShell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.algorithms.problems import BilinearGame

STOP, EVERY = Stop(max_rounds=60, every=20), 5
BOUND_S = 60.0


class Processes:
    """A server and its workers, as they start from what is in a folder."""

    def __init__(self, problem: Any, method: AnyMethod, folder: Path) -> None:
        self.notes: list[str] = []
        settings = ServerSettings(num_workers=problem.num_workers, seed=7, checkpoint_every=EVERY)
        self.core = ServerCore(method, Judge(problem, STOP), problem.start(), settings, time.monotonic())
        store = CheckpointStore(folder, "server")
        if (saved := store.newest(self.notes.append)) is not None:
            self.core.restore(*saved, time.monotonic())
            store.forget_after(self.core.round)
        self.server = ServerShell(self.core, store=store, note=self.notes.append)
        self.workers: list[WorkerShell] = []
        for rank in range(problem.num_workers):
            worker = WorkerCore(method, problem.operator(rank), problem.start(), worker=rank, seed=7)
            kept = CheckpointStore(folder, f"worker-{rank}", keep=WORKER_KEEPS)
            if (saved := kept.newest(self.notes.append)) is not None:
                worker.restore(*saved)
            options: dict[str, Any] = {"recipe": "{}", "give_up_s": BOUND_S, "note": self.notes.append, "store": kept}
            self.workers.append(WorkerShell(worker, **options))

    async def run(self, until: int) -> None:
        """To the end, or until all of them are killed after a round."""
        address = f"127.0.0.1:{await self.server.start('127.0.0.1:0', ServerSecurity())}"
        serving = asyncio.create_task(self.server.run())
        running = [asyncio.create_task(shell.run(address, ClientSecurity())) for shell in self.workers]
        while self.core.round < until and self.core.finished is None:
            await asyncio.sleep(0.002)
        if self.core.finished is None:
            for task in running:
                task.cancel()
            self.server.stop()
        await asyncio.gather(*running, serving, return_exceptions=True)


def flip(path: Path, rng: np.random.Generator) -> None:
    hurt = bytearray(path.read_bytes())
    hurt[int(rng.integers(len(hurt)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(hurt)


@pytest.mark.parametrize("who", [("server",), ("worker-1",), ("server", "worker-0", "worker-1", "worker-2", "worker-3")])
def test_a_flipped_bit_in_the_newest_checkpoints(
    who: tuple[str, ...], game: BilinearGame, game_method: AnyMethod, reference: Callable[..., Outcome], tmp_path: Path
) -> None:
    expected, rng = reference(game, game_method, STOP), np.random.default_rng(len(who))
    for seed in range(2):
        folder = tmp_path / str(seed)
        asyncio.run(asyncio.wait_for(Processes(game, game_method, folder).run(23), BOUND_S))
        hurt = [max(folder.glob(f"{name}-*.safetensors")) for name in who]
        for path in hurt:
            flip(path, rng)
        again = Processes(game, game_method, folder)
        asyncio.run(asyncio.wait_for(again.run(10**6), BOUND_S))
        assert digest(again.core.replica) == digest(expected.replica)
        assert {digest(shell._core.replica) for shell in again.workers} == {digest(expected.replica)}
        assert (again.core.ledger.up.payload, again.core.down_bytes) == (expected.up_bytes, expected.down_bytes)
        assert (again.core.ledger.epochs, again.core.ledger.digest_mismatches) == (1, 0)
        for path in hurt:
            assert any(f"checkpoint {path} is damaged" in note for note in again.notes), (path, again.notes)


def test_a_worker_names_no_damaged_checkpoint_twice(game: BilinearGame, game_method: AnyMethod, tmp_path: Path) -> None:
    store, rng = CheckpointStore(tmp_path, "worker-0", keep=WORKER_KEEPS), np.random.default_rng(0)
    core = WorkerCore(game_method, game.operator(0), game.start(), worker=0, seed=7)
    for round_ in (5, 10, 15):
        core.round = round_
        store.save(round_, *core.capture())
    core.round = 17
    keeper = Keeper(core, store)
    data = store.path(10).read_bytes()
    store.path(10).write_bytes(data[:-1] + bytes((data[-1] ^ 1,)))
    answer = JoinAnswer(
        epoch=0,
        round=17,
        resume=10,
        fresh=False,
        heal=False,
        epoch_start=0,
        session="",
        resolved="",
        members=(0,),
        lease_s=1.0,
        checkpoint_every=5,
    )
    assert keeper.rounds() == [5, 10, 15, 17]
    with pytest.raises(BrokenStream, match=r"is damaged .*; it goes on from another one"):
        keeper.go_to(answer)
    assert keeper.rounds() == [5, 15, 17]
    flip(store.path(15), rng)
    store.path(5).write_bytes(b"no file of ours")
    assert 5 not in keeper.rounds()
    assert core.round == 17
