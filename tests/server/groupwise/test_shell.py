from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from saddlebag.client.groupwise.client import GroupwiseClient, Predicted
from saddlebag.errors import ConfigError, PeerLost, RemoteProtocolError
from saddlebag.proto.endpoint import ServerSecurity
from saddlebag.proto.groupwise import GROUPWISE_SERVICE
from saddlebag.server.groupwise.service import GroupwiseService
from saddlebag.server.groupwise.shell import GroupwiseShell

if TYPE_CHECKING:
    from collections.abc import Iterator


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
