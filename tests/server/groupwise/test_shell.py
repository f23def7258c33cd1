from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from saddlebag.client.groupwise.client import GroupwiseClient, Predicted
from saddlebag.client.groupwise.stream import PredictionStream
from saddlebag.errors import ConfigError, PeerLost, RemoteProtocolError, SaddlebagError, StateError
from saddlebag.proto.endpoint import ServerSecurity
from saddlebag.proto.groupwise import GROUPWISE_SERVICE, join_rows
from saddlebag.proto.v1 import groupwise_pb2 as pb
from saddlebag.server.groupwise.service import GroupwiseService
from saddlebag.server.groupwise.shell import GroupwiseShell, owner_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Running:
    """A service in a thread of its own."""

    def __init__(self, service: GroupwiseService, token: str = "") -> None:
        self.service, self._token = service, token
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(20)

    async def _serve(self) -> None:
        self._shell, self._loop = GroupwiseShell(self.service, token=self._token), asyncio.get_running_loop()
        port = await self._shell.start("127.0.0.1:0", ServerSecurity())
        self.address = f"127.0.0.1:{port}"
        self._ready.set()
        await self._shell.run()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._shell.stop)
        self._thread.join(20)


@pytest.fixture
def running(make_core: Any) -> Iterator[Any]:
    started = []

    def start(**params: Any) -> Running:
        started.append(Running(GroupwiseService(make_core()), **params))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def test_predictions_and_labels_over_grpc_are_those_of_the_core(running: Any, make_core: Any, rows: Any) -> None:
    server, core, rng = running(), make_core(), np.random.default_rng(0)
    with GroupwiseClient(server.address) as client:
        assert list(client.about.groups) == [f"g{g}" for g in range(5)]
        for _ in range(10):
            x_ND, member_NG, label_N = rows(rng, 7)
            first, block = core.predict(x_ND, member_NG)
            predicted = client.predict(x_ND, member_NG, weights=True)
            assert np.array_equal(predicted.value_N, block.value_N)
            assert predicted.weight_NE is not None
            assert np.array_equal(predicted.weight_NE, block.p_NE)
            outcomes = client.feedback(predicted.ticket_N, label_N)
            assert np.array_equal(outcomes, core.feedback(range(first, first + 7), label_N))
        report = client.report()
        assert [(a.name, a.regret, a.bound) for a in report.experts] == [(a.name, a.regret, a.bound) for a in core.accounts()]
        assert (report.predicted, report.learned, report.pending) == (70, 70, 0)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("boom")], ids=["full", "defect"])
@pytest.mark.parametrize("call", ["predict", "stream", "feedback", "report"])
def test_an_error_of_any_class_in_a_call_ends_the_service(make_core: Any, rows: Any, call: str, error: Exception) -> None:
    service = GroupwiseService(make_core())

    def fail(*arguments: Any) -> Any:
        raise error

    setattr(service, call, fail)

    async def main() -> None:
        shell = GroupwiseShell(service)
        address = f"127.0.0.1:{await shell.start('127.0.0.1:0', ServerSecurity())}"
        serving = asyncio.create_task(shell.run())
        async with grpc.aio.insecure_channel(address) as channel:
            method = f"/{GROUPWISE_SERVICE}/{call.capitalize()}"
            answer = channel.unary_stream(method)(b"") if call == "stream" else channel.unary_unary(method)(b"")
            assert await answer.code() == grpc.StatusCode.FAILED_PRECONDITION
        with pytest.raises(SaddlebagError, match=r"No space left on device|RuntimeError: boom"):
            await asyncio.wait_for(serving, 20)

    asyncio.run(main())


def test_a_stream_answers_in_order(running: Any, rows: Any) -> None:
    server, rng = running(), np.random.default_rng(0)
    with GroupwiseClient(server.address) as client, client.stream() as stream:
        for _ in range(5):
            stream.send_rows(*rows(rng, 3)[:2])
        first = stream.receive()
        assert isinstance(first, Predicted)
        stream.send_labels(first.ticket_N, np.full(3, 0.5))
        for _ in range(4):
            assert isinstance(stream.receive(), Predicted)
        outcomes = stream.receive()
        assert isinstance(outcomes, np.ndarray)
        assert outcomes.tolist() == [1, 1, 1]
        stream.send_labels([99], [0.5])
        stream.send_labels([0], [7.0])
        assert isinstance(stream.receive(), np.ndarray)
        with pytest.raises(RemoteProtocolError, match="label 0 must be in"):
            stream.receive()


def test_strangers_are_refused(running: Any, rows: Any) -> None:
    server = running(token="secret")
    for token in ("", "wrong"):
        with pytest.raises(ConfigError, match="secret"):
            GroupwiseClient(server.address, token=token)
    with GroupwiseClient(server.address, token="secret") as client:
        assert client.predict(*rows(np.random.default_rng(0), 2)[:2]).ticket_N.tolist() == [0, 1]


def test_hostile_bytes_get_a_clean_refusal(running: Any, rows: Any) -> None:
    server = running()
    with grpc.insecure_channel(server.address) as channel:
        for name in ("Predict", "Feedback"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"/{GROUPWISE_SERVICE}/{name}")(b"\xff" * 100, timeout=10)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    with GroupwiseClient(server.address) as client:
        assert len(client.predict(*rows(np.random.default_rng(0), 4)[:2]).value_N) == 4
        with pytest.raises(RemoteProtocolError, match="1 to 64 rows, got 65"):
            client.predict(np.ones((65, 3)), np.ones((65, 5), bool))


def test_nobody_there_is_a_clear_error() -> None:
    with pytest.raises(PeerLost, match="no answer"):
        GroupwiseClient("127.0.0.1:1", timeout_s=2.0)


def test_a_ticket_belongs_to_the_client_that_got_it(running: Any, rows: Any) -> None:
    server = running(token="secret")
    x_ND, member_NG, label_N = rows(np.random.default_rng(0), 2)
    with GroupwiseClient(server.address, token="secret") as alice, GroupwiseClient(server.address, token="secret") as bob:
        predicted = alice.predict(x_ND, member_NG)
        with pytest.raises(RemoteProtocolError, match="ticket 0 was given to another client"):
            bob.feedback(predicted.ticket_N, label_N)
        with bob.stream() as stream:
            stream.send_labels([1], [0.5])
            with pytest.raises(RemoteProtocolError, match="another client"):
                stream.receive()
        assert bob.report().learned == 0
        with GroupwiseClient(server.address, token="secret", identity=alice.identity) as again:  # after a restart, say
            assert again.feedback(predicted.ticket_N[:1], label_N[:1]).tolist() == [1]
        assert alice.feedback(predicted.ticket_N, label_N).tolist() == [2, 1]
    with pytest.raises(ConfigError, match="identity must be"):
        GroupwiseClient(server.address, token="secret", identity="new\nline")


@pytest.mark.parametrize("through", ["call", "stream"])
def test_tables_of_another_shape_are_refused_before_they_are_sent(running: Any, through: str) -> None:
    server = running()
    with GroupwiseClient(server.address) as client, client.stream() as stream:
        send = client.predict if through == "call" else stream.send_rows
        for x_shape, member_shape, message in (
            ((2, 3), (2, 2), "the 5 groups g0, g1, g2, g3, g4, got 2 columns"),
            ((2, 3), (2, 8), "got 8 columns"),
            ((3, 2), (3, 5), "the 3 features a, b, c, got 2 columns"),
            ((1, 6), (1, 5), "got 6 columns"),
        ):
            with pytest.raises(ConfigError, match=message):
                send(np.ones(x_shape), np.ones(member_shape, bool))
        assert client.report().predicted == 0


def test_a_service_that_cannot_record_says_that_it_does_not_serve(make_core: Any, rows: Any, tmp_path: Path) -> None:
    service = GroupwiseService(make_core(), tmp_path)
    ended: list[BaseException] = []

    async def run() -> None:
        shell = GroupwiseShell(service)
        port = await shell.start("127.0.0.1:0", ServerSecurity())
        running = asyncio.create_task(shell.run())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
            request = health_pb2.HealthCheckRequest(service=GROUPWISE_SERVICE)
            assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
            watched = health.Watch(request)
            assert (await watched.read()).status == health_pb2.HealthCheckResponse.SERVING

            def full(*rest: Any) -> None:
                raise StateError("cannot write the journal: No space left on device")

            service.records.journal.append = full  # type: ignore[union-attr, method-assign]
            features, groups = join_rows(*rows(np.random.default_rng(0), 2)[:2])
            call = channel.unary_unary(f"/{GROUPWISE_SERVICE}/Predict", pb.PredictRequest.SerializeToString)
            with pytest.raises(grpc.aio.AioRpcError, match="No space left"):
                await call(pb.PredictRequest(features=features, groups=groups))
            assert (await watched.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        try:
            await running
        except StateError as error:
            ended.append(error)

    asyncio.run(run())
    assert "No space left" in str(ended[0])


def test_a_client_is_known_by_its_certificate_before_what_it_says() -> None:
    assert owner_of([b"alice", b"a.example"], "x") == owner_of([b"a.example", b"alice"], "")
    assert len({owner_of([b"alice"], ""), owner_of([b"bob"], ""), owner_of((), "alice"), owner_of((), "")}) == 4


def test_a_reply_that_does_not_come_is_waited_for_as_long_as_that_of_a_call(running: Any) -> None:
    with GroupwiseClient(running().address) as client:
        given = client._channel, client._metadata, client._address, client.about
        stream = PredictionStream(*given, timeout_s=0.2)
        with pytest.raises(PeerLost, match=r"has not replied for 0\.2 s"):
            stream.receive()  # nothing was asked: the call might as well be hidden from the server
        stream.close()
