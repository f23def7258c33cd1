"""The server and its workers over real gRPC on loopback, in one process: one trajectory, honest bytes, hostile peers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import socket
import threading
import time
import types
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from saddlebag.algorithms import AnyMethod, Judge, Outcome, Record, Stop, digest, extragradient, masha1
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.client.core import WorkerCore
from saddlebag.client.shell import WorkerShell
from saddlebag.compression import Identity, RandK
from saddlebag.errors import BrokenStream, ConfigError, PeerLost, StateError
from saddlebag.proto.address import parse_address
from saddlebag.proto.checkpoint import CheckpointStore
from saddlebag.proto.endpoint import SERVICE, ClientSecurity, ServerSecurity
from saddlebag.proto.frames import frames_of, read_frame
from saddlebag.proto.handshake import PROTOCOL, SESSION_KEY, JoinAsk
from saddlebag.proto.pace import Pace, Patience
from saddlebag.proto.seal import sealed
from saddlebag.proto.v1 import parameter_server_pb2 as pb
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings
from saddlebag.server.shell import ServerShell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STOP = Stop(max_rounds=40, every=5)


class Cluster:
    """A server and its workers on loopback."""

    def __init__(self, problem: Any, method: AnyMethod, stop: Stop = STOP, **settings: Any) -> None:
        self.problem, self.method = problem, method
        self.notes: list[str] = []
        settings = {"num_workers": problem.num_workers, "seed": 7, **settings}
        core = ServerCore(method, Judge(problem, stop), problem.start(), ServerSettings(**settings), time.monotonic())
        self.history: list[Record] = []
        self.server = ServerShell(core, note=self.notes.append, observe=self.history.append)
        self.core = core
        self.address = ""

    async def start(self, **security: Any) -> asyncio.Task[None]:
        port = await self.server.start("127.0.0.1:0", ServerSecurity(**security))
        self.address = f"127.0.0.1:{port}"
        return asyncio.create_task(self.server.run())

    def worker(self, rank: int, **options: Any) -> WorkerShell:
        core = WorkerCore(self.method, self.problem.operator(rank), self.problem.start(), worker=rank, seed=7)
        return WorkerShell(core, **{"recipe": "{}", "give_up_s": 10.0, **options})

    async def run(self, *, address: str | None = None, shuffle: random.Random | None = None) -> list[WorkerShell]:
        serving = await self.start()
        shells = [self.worker(rank) for rank in range(self.problem.num_workers)]
        if shuffle:
            for shell in shells:
                _delay(shell, shuffle)
        await asyncio.gather(*(shell.run(address or self.address, ClientSecurity()) for shell in shells))
        await serving
        return shells


def _delay(shell: WorkerShell, rng: random.Random) -> None:
    """Let uplinks arrive in a shuffled order."""
    step = shell._core.step

    def delayed() -> Any:
        time.sleep(rng.choice([0.0, 0.0, 0.002]))
        return step()

    shell._core.step = delayed  # type: ignore[method-assign]


def test_the_trajectory_is_that_of_simulate_and_the_bytes_are_those_of_both_ends(
    game: BilinearGame, game_method: AnyMethod, reference: Callable[..., Outcome]
) -> None:
    expected = reference(game, game_method, STOP)
    cluster = Cluster(game, game_method)
    shells = asyncio.run(cluster.run(shuffle=random.Random(1)))
    assert digest(cluster.core.replica) == digest(expected.replica)
    assert {digest(shell._core.replica) for shell in shells} == {digest(expected.replica)}
    ledger = cluster.core.ledger
    assert (ledger.up.payload, ledger.down.payload) == (expected.up_bytes, expected.down_bytes)
    assert (ledger.up.repeated, ledger.down.repeated) == (0, 0)
    assert sum(shell.ledger.up for shell in shells) == ledger.up.transport
    assert sum(shell.ledger.down for shell in shells) == ledger.down.transport


def test_a_worker_whose_replica_differs_takes_the_servers_and_the_run_goes_on(
    game: BilinearGame, game_method: AnyMethod
) -> None:
    """Its own stream is ended from within its own call, while it waits for a downlink."""

    async def main() -> Cluster:
        cluster = Cluster(game, game_method)
        serving = await cluster.start()
        shells = [cluster.worker(rank) for rank in range(4)]
        core, apply = shells[2]._core, shells[2]._core.apply

        def corrupt(down: Any) -> None:
            apply(down)
            if core.round == 9:
                core.replica = dataclasses.replace(core.replica, z_D=core.replica.z_D + 1e-9)

        core.apply = corrupt  # type: ignore[method-assign]
        await asyncio.wait_for(asyncio.gather(*(shell.run(cluster.address, ClientSecurity()) for shell in shells)), 30)
        await serving
        assert {digest(shell._core.replica) for shell in shells} == {digest(cluster.core.replica)}
        return cluster

    cluster = asyncio.run(main())
    assert cluster.core.ledger.digest_mismatches == 1
    assert cluster.core.finished == "max_rounds"


@pytest.mark.parametrize("participants", [1, 2])
def test_idle_workers_catch_up_on_the_same_trajectory_with_the_same_bytes(
    game: BilinearGame, reference: Callable[..., Outcome], participants: int, tmp_path: Path
) -> None:
    method = masha1(game, up=RandK(fraction=0.25), down=Identity(), step_size=0.2, participants=participants)
    expected = reference(game, method, STOP)

    async def main() -> tuple[Cluster, list[WorkerShell]]:
        cluster = Cluster(game, method, checkpoint_every=5)
        serving = await cluster.start()
        stores = [CheckpointStore(tmp_path, f"worker-{rank}") for rank in range(4)]
        shells = [cluster.worker(rank, store=stores[rank]) for rank in range(4)]
        for shell in shells:
            _delay(shell, random.Random(2))
        await asyncio.gather(*(shell.run(cluster.address, ClientSecurity()) for shell in shells))
        await serving
        return cluster, shells

    cluster, shells = asyncio.run(main())
    assert {digest(shell._core.replica) for shell in shells} == {digest(expected.replica)}
    ledger = cluster.core.ledger
    assert (ledger.up.payload, ledger.down.payload) == (expected.up_bytes, expected.down_bytes)
    assert cluster.core.down_bytes == expected.down_bytes
    assert (ledger.up.repeated, ledger.down.repeated) == (0, 0)
    assert sum(shell.ledger.down for shell in shells) == ledger.down.transport
    everybody = reference(game, dataclasses.replace(method, participants=None), STOP)
    assert expected.up_bytes < 0.7 * everybody.up_bytes
    assert expected.down_bytes < 0.8 * everybody.down_bytes


def test_counted_bytes_are_what_crossed_the_socket(reference: Callable[..., Outcome]) -> None:
    """A proxy counts TCP bytes: between the ledger's total and that plus HTTP/2's own few bytes a frame."""
    game = BilinearGame(n=400, num_workers=2, regularisation=0.2)
    method = extragradient(game, step_size=0.1)
    counted = {"up": 0, "down": 0}

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        try:
            while data := await reader.read(1 << 16):
                counted[way] += len(data)
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def main() -> Cluster:
        cluster = Cluster(game, method, Stop(max_rounds=30, every=30))
        serving = await cluster.start()
        host, port = cluster.address.split(":")

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            await asyncio.gather(pump(reader, far_writer, "up"), pump(far_reader, writer, "down"))

        proxy = await asyncio.start_server(forward, "127.0.0.1", 0)
        address = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        await asyncio.gather(*(cluster.worker(rank).run(address, ClientSecurity()) for rank in range(2)))
        await serving
        proxy.close()
        return cluster

    cluster = asyncio.run(main())
    for way, traffic in (("up", cluster.core.ledger.up), ("down", cluster.core.ledger.down)):
        assert traffic.transport <= counted[way] <= 1.01 * traffic.transport + 8192, way


def test_health_and_reflection(game: BilinearGame, game_method: AnyMethod) -> None:
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    async def main() -> tuple[int, list[str]]:
        cluster = Cluster(game, game_method)
        serving = await cluster.start()
        async with grpc.aio.insecure_channel(cluster.address) as channel:
            reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))

        def services() -> list[str]:
            with grpc.insecure_channel(cluster.address) as plain:
                return list(ProtoReflectionDescriptorDatabase(plain).get_services())

        names = await asyncio.to_thread(services)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return reply.status, names

    status, names = asyncio.run(main())
    assert status == health_pb2.HealthCheckResponse.SERVING
    assert SERVICE in names


def test_a_worker_with_another_recipe_is_told_which_field_differs(game: BilinearGame, game_method: AnyMethod) -> None:
    async def main() -> None:
        cluster = Cluster(game, game_method, recipe='{"method":{"step_size":0.1}}')
        serving = await cluster.start()
        shell = cluster.worker(0, recipe='{"method":{"step_size":0.3}}')
        with pytest.raises(ConfigError, match=r"recipes differ: method\.step_size is 0\.3 there and 0\.1 here"):
            await shell.run(cluster.address, ClientSecurity())
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(main())


def test_hostile_peers_get_clean_errors_and_the_run_goes_on(
    game: BilinearGame, game_method: AnyMethod, reference: Callable[..., Outcome]
) -> None:
    rng = np.random.default_rng(0)

    async def raw_bytes(address: str) -> None:
        host, port = address.split(":")
        for size in (0, 1, 9, 24, 500, 70_000):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(rng.bytes(size))
            writer.close()
            del reader

    async def calls(channel: grpc.aio.Channel, session: str) -> list[grpc.StatusCode]:
        codes = []
        for method in ("Join", "Heartbeat", "Leave", "Nonsense"):
            for body in (b"", b"\xff" * 40, rng.bytes(300), sealed(b"\xff" * 40), sealed(b"")):
                try:
                    await channel.unary_unary(f"/{SERVICE}/{method}")(body, timeout=5)
                except grpc.aio.AioRpcError as error:
                    codes.append(error.code())
        here = {"epoch": 0, "round_": 0, "sender": 1}
        garbage = [
            b"",
            b"\xff" * 50,
            sealed(b"\xff" * 50),
            rng.bytes(1000),
            next(frames_of([b"\x09" * 40], **here)),
            next(frames_of([b"\x01" * 9000], **here)),
        ]
        for body in garbage:
            join = channel.unary_unary(f"/{SERVICE}/Join")
            ask = pb.JoinRequest(protocol=PROTOCOL, worker=0, recipe="{}", dimension=12)
            reply = pb.JoinReply.FromString(await join(sealed(ask.SerializeToString())))
            for metadata in ((), ((SESSION_KEY, session),), ((SESSION_KEY, reply.session),)):
                call = channel.stream_stream(f"/{SERVICE}/Exchange")(metadata=metadata, timeout=5)
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # refused before it is written
                    await call.write(body)
                    await call.done_writing()
                codes.append(await call.code())
        return codes

    async def main() -> tuple[Cluster, list[grpc.StatusCode]]:
        cluster = Cluster(game, game_method)
        serving = await cluster.start()
        await raw_bytes(cluster.address)
        async with grpc.aio.insecure_channel(cluster.address) as channel:
            codes = await calls(channel, "0" * 32)
        shells = [cluster.worker(rank) for rank in range(4)]
        await asyncio.gather(*(shell.run(cluster.address, ClientSecurity()) for shell in shells))
        await serving
        return cluster, codes

    cluster, codes = asyncio.run(main())
    assert digest(cluster.core.replica) == digest(reference(game, game_method, STOP).replica)
    allowed = {
        grpc.StatusCode.DATA_LOSS,  # no checksum
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.OK,  # an empty stream, or a frame that is stale
    }
    assert set(codes) <= allowed, set(codes) - allowed
    ledger = cluster.core.ledger
    for traffic in (ledger.up, ledger.down):
        assert traffic.transport == traffic.payload + traffic.framing + traffic.control + traffic.repeated


def test_a_second_process_with_a_rank_that_lives_ends_nothing(
    game: BilinearGame, game_method: AnyMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saddlebag.client.waiting._BEYOND_S", 0.0)

    async def main() -> Cluster:
        cluster = Cluster(game, game_method)
        serving = await cluster.start()
        first = asyncio.create_task(cluster.worker(0).run(cluster.address, ClientSecurity()))
        await asyncio.sleep(0.3)
        notes: list[str] = []
        with pytest.raises(ConfigError, match="refused worker 0: another process is worker 0; it was heard of"):
            await cluster.worker(0, lease_s=0.3, note=notes.append).run(cluster.address, ClientSecurity())
        assert [note for note in notes if "trying again for 0.3 s" in note] == notes
        others = [cluster.worker(rank).run(cluster.address, ClientSecurity()) for rank in range(1, 4)]
        await asyncio.gather(first, *others)
        await serving
        return cluster

    cluster = asyncio.run(main())
    assert (cluster.core.finished, cluster.core.ledger.epochs, cluster.core.ledger.rejoins) == ("max_rounds", 1, 0)


def test_who_shows_the_session_is_the_same_worker_come_back(game: BilinearGame, game_method: AnyMethod) -> None:
    """Its old stream hangs still, as after a cut of the network that only one end has seen."""

    async def main() -> None:
        cluster = Cluster(game, game_method)
        serving = await cluster.start()
        async with grpc.aio.insecure_channel(cluster.address) as channel:
            join = channel.unary_unary(f"/{SERVICE}/Join", lambda ask: sealed(ask.SerializeToString()), pb.JoinReply.FromString)
            ask = pb.JoinRequest(protocol=PROTOCOL, worker=0, recipe="{}", dimension=12)
            session = ((SESSION_KEY, (await join(ask)).session),)
            old = channel.stream_stream(f"/{SERVICE}/Exchange")(metadata=session)
            while not cluster.core.roster._seats[0].streams:
                await asyncio.sleep(0.01)
            for shown in ((), ((SESSION_KEY, "0" * 32),)):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await join(ask, metadata=shown)
                assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS
            assert (await join(ask, metadata=session)).session != session[0][1]
            assert await old.code() == grpc.StatusCode.ALREADY_EXISTS
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(main())


def test_a_worker_whose_process_dies_is_missed_within_two_seconds(game: BilinearGame, game_method: AnyMethod) -> None:
    """At default settings but for the policy: "drop" goes on without it."""

    async def main() -> Cluster:
        cluster = Cluster(game, game_method, Stop(max_rounds=10**6, every=10**6), on_lost="drop")
        serving = await cluster.start()
        tasks = [asyncio.create_task(cluster.worker(rank).run(cluster.address, ClientSecurity())) for rank in range(4)]
        while cluster.core.round < 5:
            await asyncio.sleep(0.01)
        tasks[1].cancel()
        begin = time.monotonic()
        while len(cluster.core.members) == 4:
            await asyncio.sleep(0.01)
        assert 0.9 < time.monotonic() - begin < 2.0
        before = cluster.core.round
        while cluster.core.round < before + 5:
            await asyncio.sleep(0.01)
        for task in (serving, *tasks):
            task.cancel()
        await asyncio.gather(serving, *tasks, return_exceptions=True)
        return cluster

    cluster = asyncio.run(asyncio.wait_for(main(), 60))
    assert cluster.core.members == (0, 2, 3)
    assert any("worker 1: its stream broke 1." in note for note in cluster.notes), cluster.notes


def test_a_port_in_use_is_a_clear_error(game: BilinearGame, game_method: AnyMethod) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"cannot listen on {address}: the port is in use"):
            asyncio.run(Cluster(game, game_method).server.start(address, ServerSecurity()))


def test_beyond_loopback_the_server_is_closed_by_default(game: BilinearGame, game_method: AnyMethod) -> None:
    with pytest.raises(ConfigError, match="--tls-cert"):
        asyncio.run(Cluster(game, game_method).server.start("0.0.0.0:0", ServerSecurity()))


def test_no_server_is_a_clear_error(game: BilinearGame, game_method: AnyMethod) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(PeerLost, match=f"no server at {address}"):
        asyncio.run(Cluster(game, game_method).worker(0, give_up_s=0.3).run(address, ClientSecurity()))


def test_no_proxy_stands_between_processes_of_one_machine(
    game: BilinearGame, game_method: AnyMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nothing listens
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    cluster = Cluster(game, game_method)
    asyncio.run(cluster.run())
    assert cluster.core.finished == "max_rounds"


@pytest.mark.parametrize("every", [1, 1000])
def test_divergence_ends_the_run_alike_under_both_drivers(
    game: BilinearGame, reference: Callable[..., Outcome], every: int
) -> None:
    """With rare evaluations it is a message that overflows, on a worker."""
    method, stop = extragradient(game, step_size=1e9), Stop(max_rounds=500, every=every)
    expected = reference(game, method, stop)
    assert expected.reason == "diverged"
    cluster = Cluster(game, method, stop)
    asyncio.run(cluster.run())
    assert (cluster.core.finished, cluster.core.round) == (expected.reason, expected.rounds)
    assert repr(cluster.history) == repr(list(expected.history)) != "[]"  # NaN is not itself
    assert digest(cluster.core.replica) == digest(expected.replica)
    ledger = cluster.core.ledger
    assert (ledger.up.payload, cluster.core.down_bytes) == (expected.up_bytes, expected.down_bytes)
    for traffic in (ledger.up, ledger.down):
        assert traffic.transport == traffic.payload + traffic.framing + traffic.control + traffic.repeated


def test_a_checkpoint_that_cannot_be_written_ends_the_run_with_the_reason(
    game: BilinearGame, game_method: AnyMethod, tmp_path: Path
) -> None:
    (tmp_path / "full").write_text("a file where a folder should be")

    async def main() -> None:
        cluster = Cluster(game, game_method, checkpoint_every=5)
        cluster.server._store = CheckpointStore(tmp_path / "full", "server")
        serving = await cluster.start()
        workers = [
            asyncio.create_task(cluster.worker(rank, give_up_s=0.5).run(cluster.address, ClientSecurity())) for rank in range(4)
        ]
        with pytest.raises(StateError, match="cannot write checkpoint"):
            await asyncio.wait_for(serving, 20)
        assert all(isinstance(end, ConfigError | PeerLost) for end in await asyncio.gather(*workers, return_exceptions=True))

    asyncio.run(main())


class _SlowDisk(CheckpointStore):
    """Takes the first checkpoint only when it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "server")
        self.free = threading.Event()

    def save(self, round_: int, arrays: Any, meta: Any) -> None:
        assert self.free.wait(20)
        super().save(round_, arrays, meta)


class _Stream:
    """The context of a stream that keeps the rounds of the downlinks written to it."""

    def __init__(self) -> None:
        self.rounds: list[int] = []

    async def write(self, frame: bytes) -> None:
        self.rounds.append(read_frame(frame).round)


def test_no_worker_comes_to_a_checkpoint_before_the_one_before_is_on_disk(
    game: BilinearGame, game_method: AnyMethod, tmp_path: Path
) -> None:
    """Nor one whose stream is still busy with older downlinks: killed, the server would come back too far behind it."""

    async def main() -> None:
        cluster = Cluster(game, game_method, checkpoint_every=5)
        cluster.server._store = disk = _SlowDisk(tmp_path)
        serving = await cluster.start()
        shells = [cluster.worker(rank) for rank in range(4)]
        running = [asyncio.create_task(shell.run(cluster.address, ClientSecurity())) for shell in shells]
        while cluster.core.round < 10:
            await asyncio.sleep(0.01)
        roster, stream = cluster.core.roster, _Stream()
        roster.set_resume(0, 0, 0)
        busy = asyncio.create_task(cluster.server._serve(0, roster._seats[0].session, stream, Pace(Patience(10.0))))
        while 8 not in stream.rounds:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        assert stream.rounds == list(range(9))
        assert [shell._core.round for shell in shells] == [9] * 4
        busy.cancel()
        disk.free.set()
        await asyncio.gather(*running, serving)

    asyncio.run(main())


async def _never() -> bytes:
    await asyncio.Event().wait()
    raise AssertionError("never")


def test_a_stream_of_an_epoch_that_ended_before_it_came_is_not_served(game: BilinearGame, game_method: AnyMethod) -> None:
    """Else its worker would send uplinks that are stale, and both would wait for each other while heartbeats go on."""
    cluster = Cluster(game, game_method, on_lost="drop")
    core = cluster.core
    joins = [JoinAsk(worker=rank, recipe="{}", dimension=core.replica.z_D.size, rounds=(0,)) for rank in range(4)]
    sessions = [core.join(ask, f"s{ask.worker}", 0.0)[0].session for ask in joins]
    core.leave(3, "", 0.0)
    assert core.epoch == 1
    stream = types.SimpleNamespace(read=_never, write=_never)
    asyncio.run(asyncio.wait_for(cluster.server._serve(0, sessions[0], stream, Pace(core.patience[0])), 5))


def test_a_worker_whose_epoch_ends_before_its_snapshot_comes_joins_again(game: BilinearGame, game_method: AnyMethod) -> None:
    async def main() -> Cluster:
        cluster = Cluster(game, game_method, on_lost="drop", lease_s=20.0)
        serving, core = await cluster.start(), cluster.core
        core._new_epoch((0, 1, 2, 3), "all begin from a snapshot", time.monotonic())
        snapshot, calls = cluster.server.snapshot, 0

        async def late(request: bytes, context: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 1:
                async with cluster.server._busy:
                    await cluster.server._apply(core._new_epoch((0, 1, 2, 3), "once more", time.monotonic()))
            async for chunk in snapshot(request, context):
                yield chunk

        cluster.server.snapshot = late  # type: ignore[method-assign]
        core.epoch_start = core.round = 3  # an epoch that does not begin with the run
        core.log.clear(3)
        core.deliveries.arrears.reset(3)
        core.open_round(time.monotonic())
        shells = [cluster.worker(rank) for rank in range(4)]
        await asyncio.wait_for(asyncio.gather(*(shell.run(cluster.address, ClientSecurity()) for shell in shells)), 30)
        await serving
        assert {digest(shell._core.replica) for shell in shells} == {digest(core.replica)}
        assert calls > 4, "the first was in vain"
        return cluster

    assert asyncio.run(main()).core.finished == "max_rounds"


def test_a_worker_that_dies_with_the_last_downlink_on_its_way_gets_it_when_it_is_back(
    game: BilinearGame, game_method: AnyMethod
) -> None:
    """The server has handed it over, which does not say that anybody has it."""

    class Died(Exception):
        pass

    def die(round_: int, *more: Any) -> None:
        raise Died

    async def main() -> None:
        cluster = Cluster(game, game_method)
        serving = await cluster.start()
        shells = [cluster.worker(rank) for rank in range(4)]
        take = shells[3]._core.take
        shells[3]._core.take = lambda round_, *more: (die if round_ == 39 else take)(round_, *more)  # type: ignore[method-assign]
        *others, last = await asyncio.gather(
            *(shell.run(cluster.address, ClientSecurity()) for shell in shells), return_exceptions=True
        )
        assert others == [None] * 3
        assert isinstance(last, Died)
        again = cluster.worker(3, give_up_s=2.0)
        await again.run(cluster.address, ClientSecurity())
        assert digest(again._core.replica) == digest(cluster.core.replica)
        await serving

    asyncio.run(main())


def test_nobody_joins_an_epoch_that_is_not_on_disk(game: BilinearGame, game_method: AnyMethod, tmp_path: Path) -> None:
    """Killed before, the server would begin another epoch of that number, and whoever had joined the first would fit it."""

    async def main() -> None:
        cluster = Cluster(game, game_method, checkpoint_every=5, on_lost="drop")
        cluster.server._store = disk = _SlowDisk(tmp_path)
        core = cluster.core
        core.begin_epoch(core.members)  # the number of an epoch that begins later than at round 0
        core.round = 10
        leaving = cluster.server._apply(core._new_epoch((0, 1, 2), "worker 3 left", time.monotonic()))

        async def begin() -> None:
            async with cluster.server._busy:
                await leaving

        begun = asyncio.create_task(begin())
        await asyncio.wait([begun], timeout=0.2)
        assert cluster.server._busy.locked(), "joins wait"
        assert not begun.done()
        disk.free.set()
        await asyncio.wait_for(begun, 10)

    asyncio.run(main())


class Caller:
    """The context of a call that nobody made."""

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def auth_context(self) -> dict[str, Any]:
        return {}


class SlowStore:
    """A disk that is busy until it is told."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def save(self, round_: int, arrays: Any, meta: Any) -> None:
        self.begun.set()
        assert self.go_on.wait(60)


def test_a_join_whose_caller_has_gone_still_keeps_the_next_one_waiting(
    game: BilinearGame, game_method: AnyMethod, network: Callable[..., Any]
) -> None:
    """Else it would be told of an epoch that no disk has: a server that died then would begin another one of its number."""
    net = network(game, game_method, Stop(max_rounds=9), rng=random.Random(0), on_lost="drop", checkpoint_every=5)
    while net.server.round < 4:
        if net.server.round == 2 and net.server.epoch == 0:  # in later epochs, nobody can begin at the start
            net.apply(net.server.leave(3, "gone", 0.0))
        for rank in net.server.members:
            net.turn(rank)
    store: Any = SlowStore()
    shell = ServerShell(net.server, store=store)

    def asks(rank: int) -> Any:
        request = pb.JoinRequest(protocol=PROTOCOL, worker=rank, recipe="{}", dimension=len(game.start()))
        return asyncio.create_task(shell.join(request, Caller()))

    async def main() -> int:
        first = asks(0)
        await asyncio.to_thread(store.begun.wait, 60)
        first.cancel()
        second = asks(1)
        await asyncio.wait([second], timeout=0.1)
        early = second.done()
        store.go_on.set()
        reply = await second
        assert not early
        return int(reply.epoch)

    assert asyncio.run(main()) == 2


def test_an_uplink_that_is_there_whole_is_not_sent_again(
    game: BilinearGame, game_method: AnyMethod, network: Callable[..., Any], reference: Callable[..., Outcome]
) -> None:
    """Nobody would read it; with a downlink longer than gRPC's windows both ends would write, and wait, for ever."""
    stop = Stop(max_rounds=5)
    net = network(game, game_method, stop, rng=random.Random(0))
    net.join(0)
    buffers, _ = net.workers[0].step()
    for frame in frames_of(buffers, epoch=0, round_=0, sender=1):
        net.server.frame(0, frame, 0.0)
    core = net.server

    async def main() -> None:
        shell = ServerShell(core)
        port = await shell.start("127.0.0.1:0", ServerSecurity())
        serving = asyncio.create_task(shell.run())
        for rank in range(game.num_workers):
            worker = WorkerCore(game_method, game.operator(rank), game.start(), worker=rank, seed=7)
            workers.append(WorkerShell(worker, recipe="{}"))
        await asyncio.gather(*(each.run(f"127.0.0.1:{port}", ClientSecurity()) for each in workers))
        await serving

    workers: list[WorkerShell] = []
    asyncio.run(asyncio.wait_for(main(), 60))
    assert digest(core.replica) == digest(reference(game, game_method, stop).replica)
    assert (core.ledger.up.repeated, core.ledger.stale_frames) == (0, 0)


@pytest.mark.parametrize("busy", ["waits", "sends", ""])
def test_a_worker_on_a_stream_that_the_server_does_not_have_joins_again(
    busy: str, game: BilinearGame, game_method: AnyMethod
) -> None:
    """A flipped bit can hide a call's beginning from the server: nothing comes, and gRPC makes no room for what is sent."""
    asked = 0

    async def ask(*given: Any) -> pb.HeartbeatReply:
        nonlocal asked
        asked += 1
        return pb.HeartbeatReply(stream=False)

    async def main() -> None:
        shell, pace, calls = Cluster(game, game_method).worker(0), Pace(Patience(10.0)), types.SimpleNamespace(ask=ask)
        if busy:
            setattr(pace, busy, True)
        beating = asyncio.create_task(shell._beat(calls, pace, 0.01, asyncio.Event()))  # type: ignore[arg-type]
        while asked < 4 and not beating.done():
            await asyncio.sleep(0.01)
        beating.cancel()
        if busy:
            with pytest.raises(BrokenStream, match="the server has no stream of this worker"):
                await beating

    asyncio.run(main())
    assert (asked == 2) == bool(busy), "a worker that computes has nothing to lose"


def test_a_step_of_a_secure_round_that_nobody_answers_is_said_again(game: BilinearGame, game_method: AnyMethod) -> None:
    """Its call may be hidden from the server by a flipped bit, while heartbeats go on."""
    codes = [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.DEADLINE_EXCEEDED, None, grpc.StatusCode.ABORTED]
    limits: list[float] = []

    async def ask(name: str, request: Any, reply_type: Any, timeout_s: float) -> pb.SecureReply:
        limits.append(timeout_s)
        if (code := codes.pop(0)) is not None:
            raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())
        return pb.SecureReply(data=b"there")

    async def exchange(core: Any, ask: Any, send: Any) -> None:
        assert (await ask(pb.SecureRequest(step=1))).data == b"there"
        with pytest.raises(grpc.aio.AioRpcError):
            await ask(pb.SecureRequest(step=2))

    async def main() -> None:
        shell: Any = Cluster(game, game_method).worker(0)
        calls, securing = types.SimpleNamespace(ask=ask), types.SimpleNamespace(exchange=exchange)
        await shell._send_masked(None, calls, asyncio.Event(), securing, ([], None))

    asyncio.run(main())
    assert not codes
    assert all(0 < limit < 3600 for limit in limits)


@pytest.mark.parametrize(
    ("code", "ends"), [("UNAUTHENTICATED", True), ("UNIMPLEMENTED", True), ("DEADLINE_EXCEEDED", False), ("UNAVAILABLE", False)]
)
def test_a_worker_whose_heartbeats_are_refused_joins_again(
    code: str, ends: bool, game: BilinearGame, game_method: AnyMethod
) -> None:
    """HTTP/2 remembers names and metadata for a connection's life, flipped bits among them; a busy server is waited for.

    What is not answered at all goes by other connections: one of them may be stuck.
    """
    asked = others = 0

    async def ask(*given: Any) -> pb.HeartbeatReply:
        nonlocal asked
        asked += 1
        raise grpc.aio.AioRpcError(grpc.StatusCode[code], grpc.aio.Metadata(), grpc.aio.Metadata())

    def by(channel: grpc.aio.Channel) -> Any:
        nonlocal others
        others += 1
        return types.SimpleNamespace(ask=ask, by=by)

    async def main() -> None:
        shell: Any = Cluster(game, game_method).worker(0)
        calls = types.SimpleNamespace(ask=ask, by=by)
        shell._where = parse_address("127.0.0.1:9", "an address"), ClientSecurity()
        beating = asyncio.create_task(shell._beat(calls, Pace(Patience(10.0)), 0.01, asyncio.Event()))
        while asked < 4 and not beating.done():
            await asyncio.sleep(0.01)
        beating.cancel()
        with pytest.raises(BrokenStream if ends else asyncio.CancelledError):
            await beating

    asyncio.run(main())
    assert (asked == 2) == ends
    assert (others > 0) == (code == "DEADLINE_EXCEEDED")


def test_a_process_that_is_stopped_gives_nobody_up(game: BilinearGame, game_method: AnyMethod) -> None:
    """A suspended machine, or one without a processor to spare: its peers were as silent as it was."""

    async def main() -> Cluster:
        cluster = Cluster(game, game_method, stop=Stop(max_rounds=400, every=20), on_lost="drop", lease_s=0.6)
        serving = await cluster.start()
        shells = [cluster.worker(rank, lease_s=5.0) for rank in range(4)]
        running = asyncio.gather(*(shell.run(cluster.address, ClientSecurity()) for shell in shells))
        while cluster.core.round < 5:
            await asyncio.sleep(0.005)
        assert cluster.core.finished is None
        time.sleep(2.0)  # all of it stands still, as under SIGSTOP
        await asyncio.wait_for(running, 60)
        await serving
        return cluster

    core = asyncio.run(main()).core
    assert (core.ledger.epochs, core.finished) == (1, "max_rounds")
    assert core.spent_s > 2.0, "the time is the run's all the same"


@pytest.mark.parametrize("on_lost", ["pause", "drop"])
def test_who_comes_to_a_run_that_is_over_is_told_so_and_the_others_have_their_end(
    game: BilinearGame, game_method: AnyMethod, on_lost: str
) -> None:
    """One holds the end already, one nothing from which it could be reached; another has yet to say that it has the end."""

    async def main() -> tuple[Cluster, list[str]]:
        cluster, notes = Cluster(game, game_method, on_lost=on_lost, log_bytes=1, checkpoint_every=10), []
        serving = await cluster.start()
        shells = [cluster.worker(rank) for rank in range(4)]
        held, taken = asyncio.Event(), shells[3]._thank

        async def late(call: Any) -> None:
            await held.wait()
            await taken(call)

        shells[3]._thank = late  # type: ignore[method-assign]
        running = [asyncio.create_task(shell.run(cluster.address, ClientSecurity())) for shell in shells]
        await asyncio.wait_for(asyncio.gather(*running[:3]), 60)
        again = cluster.worker(0, note=notes.append)
        again._core = shells[0]._core
        for shell in (again, cluster.worker(1, note=notes.append)):
            await asyncio.wait_for(shell.run(cluster.address, ClientSecurity()), 20)
        held.set()
        await asyncio.wait_for(running[3], 20)
        await serving
        return cluster, notes

    cluster, notes = asyncio.run(main())
    assert [note for note in notes if "the run is over: max_rounds" in note] == notes[-2:]
    assert cluster.core.ledger.epochs == 1
