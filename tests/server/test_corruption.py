"""Flipped bits, lost, repeated and reordered messages between a server and its workers: they cost reconnects, never a bit."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from saddlebag.algorithms import AnyMethod, Judge, Outcome, Stop, digest
from saddlebag.client.calls import Refusals
from saddlebag.client.core import WorkerCore
from saddlebag.client.shell import WorkerShell
from saddlebag.errors import BrokenStream, ConfigError
from saddlebag.proto.endpoint import RUN_OVER, SERVICE, ClientSecurity, ServerSecurity
from saddlebag.proto.frames import frames_of
from saddlebag.proto.handshake import PROTOCOL
from saddlebag.proto.seal import TEXT_SEAL, seal_of_text
from saddlebag.proto.v1 import parameter_server_pb2 as pb
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings
from saddlebag.server.shell import ServerShell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from saddlebag.algorithms.problems import BilinearGame

STOP = Stop(max_rounds=60, every=20)
CALM = 10  # rounds at the end: a server that is done waits for a lease until everybody has heard it, not for ever
BOUND_S = 60.0


class Cluster:
    """A server and four workers on loopback, with something in between.

    Args:
        change: makes of the bytes that one read of a connection gave those that are passed on; told the way, "up" or "down".
    """

    def __init__(self, problem: Any, method: AnyMethod, change: Callable[[bytes, str], bytes]) -> None:
        self.problem, self.method, self.change = problem, method, change
        self.notes: list[str] = []
        self.settings = ServerSettings(num_workers=problem.num_workers, seed=7, progress_s=0.6, lease_s=1.5)
        self.core = ServerCore(method, Judge(problem, STOP), problem.start(), self.settings, time.monotonic())
        self.server = ServerShell(self.core, note=self.notes.append)
        self.workers: list[WorkerShell] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                calm = self.core.round >= (STOP.max_rounds or 0) - CALM
                writer.write(data if calm else self.change(data, way))
                await writer.drain()
        writer.close()

    async def _between(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        self.writers += [writer, back]
        with contextlib.suppress(asyncio.CancelledError):  # the test is over
            await asyncio.gather(self._pump(reader, back, "up"), self._pump(there, writer, "down"))

    def _worker(self, rank: int) -> WorkerShell:
        core = WorkerCore(self.method, self.problem.operator(rank), self.problem.start(), worker=rank, seed=7)
        options: dict[str, Any] = {"recipe": "{}", "give_up_s": BOUND_S, "note": self.notes.append}
        options |= {"progress_s": 0.6, "lease_s": 1.5}
        return WorkerShell(core, **options)

    async def _run(self, security: ServerSecurity, theirs: ClientSecurity) -> None:
        port = await self.server.start("127.0.0.1:0", security)
        serving = asyncio.create_task(self.server.run())
        proxy = await asyncio.start_server(lambda r, w: self._between(port, r, w), "127.0.0.1", 0)
        place = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        self.workers = [self._worker(rank) for rank in range(self.problem.num_workers)]
        try:
            await asyncio.gather(*(shell.run(place, theirs) for shell in self.workers))
            await serving
        finally:
            proxy.close()
            for writer in self.writers:
                writer.transport.abort()
            serving.cancel()

    def run(self, expected: Outcome, security: ServerSecurity | None = None, theirs: ClientSecurity | None = None) -> None:
        """Until the end; the iterates are those of `expected`, and so are the bytes of the trajectory."""
        asyncio.run(asyncio.wait_for(self._run(security or ServerSecurity(), theirs or ClientSecurity()), BOUND_S))
        assert self.core.finished == "max_rounds"
        assert digest(self.core.replica) == digest(expected.replica)
        assert {digest(shell._core.replica) for shell in self.workers} == {digest(expected.replica)}
        ledger = self.core.ledger
        assert (ledger.up.payload, self.core.down_bytes) == (expected.up_bytes, expected.down_bytes)
        assert (ledger.epochs, ledger.digest_mismatches) == (1, 0)


class Flips:
    """Flips one bit of one in `every` pieces, `most` times in all."""

    def __init__(self, seed: int, *, every: int, most: int) -> None:
        self._rng, self._every, self.left = random.Random(seed), every, most

    def __call__(self, data: bytes, way: str) -> bytes:
        if not self.left or self._rng.randrange(self._every):
            return data
        self.left -= 1
        hurt = bytearray(data)
        hurt[self._rng.randrange(len(hurt))] ^= 1 << self._rng.randrange(8)
        return bytes(hurt)


@pytest.mark.parametrize("seed", [1, 2])
def test_flipped_bits_anywhere_on_the_wire(
    seed: int, game: BilinearGame, game_method: AnyMethod, reference: Callable[..., Outcome]
) -> None:
    """In frames, in the calls beside them, in what HTTP/2 and gRPC put around them: joins and refusals included."""
    flips = Flips(seed, every=12, most=25)
    Cluster(game, game_method, flips).run(reference(game, game_method, STOP))
    assert flips.left < 10


def test_flipped_bits_under_tls(
    game: BilinearGame, game_method: AnyMethod, reference: Callable[..., Outcome], pair: tuple[Path, Path]
) -> None:
    flips = Flips(5, every=12, most=15)
    certificate, key = pair
    security, theirs = ServerSecurity(certificate=certificate, key=key), ClientSecurity(ca=certificate)
    Cluster(game, game_method, flips).run(reference(game, game_method, STOP), security, theirs)
    assert flips.left < 5


def test_one_bit_of_a_length_ends_the_stream_and_not_the_round(
    game: BilinearGame, game_method: AnyMethod, reference: Callable[..., Outcome]
) -> None:
    """gRPC waits for bytes that nobody sends, while heartbeats renew the lease; the round's deadline is an hour."""
    done: list[str] = []

    def change(data: bytes, way: str) -> bytes:
        if len(done) == 2 or way != ("down" if done else "up"):
            return data
        for at in range(len(data) - 14):  # HTTP/2: length, kind 0, flags, stream; gRPC: not compressed, length
            size, kind, plain = int.from_bytes(data[at : at + 3], "big"), data[at + 3], data[at + 9]
            if 30 < size < 60 and kind == plain == 0 and int.from_bytes(data[at + 10 : at + 14], "big") == size - 5:
                done.append(way)
                return data[: at + 13] + bytes((data[at + 13] ^ 0x40,)) + data[at + 14 :]
        return data

    cluster = Cluster(game, game_method, change)
    cluster.run(reference(game, game_method, STOP))
    assert done == ["up", "down"]
    assert any("was sent and has not come for" in note for note in cluster.notes), cluster.notes


@pytest.mark.parametrize("way", ["up", "down"])
def test_one_bit_of_a_length_of_http_takes_all_that_follows_and_the_run_goes_on(
    way: str, game: BilinearGame, game_method: AnyMethod, reference: Callable[..., Outcome]
) -> None:
    """8 KiB more of one connection are a single frame: calls, heartbeats and pings, which gRPC takes for signs of life."""
    done: list[bytes] = []

    def change(data: bytes, direction: str) -> bytes:
        if done or direction != way or cluster.core.round < CALM:
            return data
        for at in range(len(data) - 14):
            size, kind, plain = int.from_bytes(data[at : at + 3], "big"), data[at + 3], data[at + 9]
            if 24 < size < 60 and kind == plain == 0 and int.from_bytes(data[at + 10 : at + 14], "big") == size - 5:
                done.append(data)
                return data[: at + 1] + bytes((data[at + 1] ^ 0x20,)) + data[at + 2 :]
        return data

    cluster = Cluster(game, game_method, change)
    cluster.run(reference(game, game_method, STOP))
    assert done


def test_a_corrupt_frame_is_not_added(game: BilinearGame, game_method: AnyMethod, network: Callable[..., Any]) -> None:
    net = network(game, game_method, STOP, rng=random.Random(0))
    net.join(0)
    buffers, _ = net.workers[0].step()
    frames = list(frames_of(buffers, epoch=0, round_=0, sender=1, frame_bytes=16))
    assert len(frames) > 2
    net.server.frame(0, frames[0], 0.0)
    added = [list(row) for row in net.server._gather._added]
    for bit in range(0, 8 * len(frames[1]), 3):
        hurt = bytearray(frames[1])
        hurt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BrokenStream, match="does not fit its checksum"):
            net.server.frame(0, bytes(hurt), 0.0)
    with pytest.raises(BrokenStream, match="worker 0 sent frame 2 where 1 was due"):
        net.server.frame(0, frames[2], 0.0)
    assert added == net.server._gather._added
    assert net.server.ledger.broken_streams > 8


def refusal(code: grpc.StatusCode, text: str, metadata: Any = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), text)


def test_a_refusal_is_believed_with_its_checksum_or_at_the_third_time() -> None:
    code, refusals = grpc.StatusCode.FAILED_PRECONDITION, Refusals()
    assert refusals.believes(refusal(code, "no", [(TEXT_SEAL, seal_of_text(code.name, "no"))]))
    flipped = refusal(RUN_OVER, "no", [(TEXT_SEAL, seal_of_text(code.name, "no"))])
    assert [refusals.believes(flipped) for _ in range(3)] == [False, False, True]
    refusals = Refusals()
    others = [refusal(code, "a"), refusal(code, "b"), refusal(code, "a"), refusal(code, "a")]
    assert not any(refusals.believes(error) for error in others)
    assert not refusals.believes(refusal(grpc.StatusCode.UNAVAILABLE, "gone"))
    assert not refusals.believes(refusal(code, "a"))  # the third, but not in a row


def test_an_older_worker_is_told_the_versions(game: BilinearGame, game_method: AnyMethod) -> None:
    """It has no checksums: that is another version, not damage."""

    async def main() -> tuple[grpc.StatusCode, str]:
        cluster = Cluster(game, game_method, lambda data, way: data)
        port = await cluster.server.start("127.0.0.1:0", ServerSecurity())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            old = pb.JoinRequest(protocol=1, worker=0, recipe="{}", dimension=12).SerializeToString()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(f"/{SERVICE}/Join")(old, timeout=5)
        serving = asyncio.create_task(cluster.server.run())
        cluster.server.stop()
        await serving
        return caught.value.code(), caught.value.details() or ""

    code, text = asyncio.run(main())
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert text == f"protocol version 1 is not the server's {PROTOCOL}; use the same release"


def test_an_older_server_ends_a_worker_soon(game: BilinearGame, game_method: AnyMethod) -> None:
    """Its refusal has no checksum; it comes again, and again."""

    async def main() -> None:
        cluster = Cluster(game, game_method, lambda data, way: data)

        async def refused(request: bytes, context: Any) -> bytes:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, "protocol version 2 is not the server's 1; use the same release"
            )
            return b""

        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(refused)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Join": handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        with pytest.raises(ConfigError, match="protocol version 2 is not the server's 1"):
            await asyncio.wait_for(cluster._worker(0).run(f"127.0.0.1:{port}", ClientSecurity()), 20)
        await server.stop(None)

    asyncio.run(main())
