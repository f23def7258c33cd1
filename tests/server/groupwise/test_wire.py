"""The client of the prediction service on a bad wire: what was cut, held up or changed is asked again, and counts once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.client.groupwise.client import GroupwiseClient
from saddlebag.client.groupwise.requests import predict_request
from saddlebag.errors import PeerLost
from saddlebag.proto.endpoint import ServerSecurity
from saddlebag.proto.groupwise import GROUPWISE_SERVICE
from saddlebag.proto.seal import is_sealed
from saddlebag.proto.v1 import groupwise_pb2 as pb
from saddlebag.server.groupwise.service import GroupwiseService
from saddlebag.server.groupwise.shell import GroupwiseShell

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 4


class Wire:
    """A service, and a proxy before it, in a thread of their own.

    Attributes:
        hurt: of bytes that pass, one bit is flipped, once.
        cut: the next answer ends the connection instead.
        held: no answer passes while it is cleared.
    """

    def __init__(self, service: GroupwiseService) -> None:
        self.hurt, self.cut, self.hits = b"", False, 0
        self._service, self._ready, self._over = service, threading.Event(), asyncio.Event()
        self.held = threading.Event()
        self.held.set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(20)

    async def _serve(self) -> None:
        self._loop, shell = asyncio.get_running_loop(), GroupwiseShell(self._service)
        port = await shell.start("127.0.0.1:0", ServerSecurity())
        proxy = await asyncio.start_server(lambda r, w: self._between(port, r, w), "127.0.0.1", 0)
        self.address = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        self._ready.set()
        run = asyncio.create_task(shell.run())
        await self._over.wait()
        proxy.close()
        shell.stop()
        await run

    async def _between(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await asyncio.gather(self._pump(reader, back, up=True), self._pump(there, writer, up=False))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                while not up and not self.held.is_set():
                    await asyncio.sleep(0.01)
                if not up and self.cut:
                    self.cut, self.hits = False, self.hits + 1
                    break
                if self.hurt and (at := data.find(self.hurt)) >= 0:
                    self.hurt, self.hits = b"", self.hits + 1
                    data = data[: at + 3] + bytes((data[at + 3] ^ 0x10,)) + data[at + 4 :]
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def stop(self) -> None:
        self.held.set()
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)


@pytest.fixture
def wire(make_core: Any) -> Iterator[Wire]:
    made = Wire(GroupwiseService(make_core()))
    yield made
    made.stop()


def again(call: Any, *given: Any) -> tuple[Any, int]:
    """Repeated until it is answered, and how often it was not."""
    for lost in range(20):
        try:
            return call(*given), lost
        except PeerLost:
            continue
    raise AssertionError("no answer")


@pytest.mark.parametrize("fault", ["request", "prediction", "label", "cut", "held"])
def test_what_is_lost_on_the_way_is_asked_again_and_counts_once(fault: str, wire: Wire, make_core: Any, rows: Any) -> None:
    reference, rng = make_core(), np.random.default_rng(0)
    with GroupwiseClient(wire.address, timeout_s=20.0) as client:
        for number in range(3):
            x_ND, member_NG, label_N = rows(rng, ROWS)
            first, block = reference.predict(x_ND, member_NG)
            if number == 1 and fault in ("request", "prediction"):
                wire.hurt = (x_ND if fault == "request" else block.value_N).tobytes()
            predicted, lost = again(client.predict, x_ND, member_NG)
            assert lost == wire.hits if number == 1 else not lost
            np.testing.assert_array_equal(predicted.value_N, block.value_N)
            if number == 1 and fault == "label":
                wire.hurt = label_N.tobytes()
            if number == 1 and fault == "cut":
                wire.cut = True
            if number == 1 and fault == "held":
                wire.held.clear()
                client._timeout_s = 0.3
                with pytest.raises(PeerLost):
                    client.feedback(predicted.ticket_N, label_N)
                wire.held.set()
                wire.hits, client._timeout_s = 1, 20.0
            outcome_N, _ = again(client.feedback, predicted.ticket_N, label_N)
            assert set(outcome_N) == {2 if number == 1 and fault in ("cut", "held") else 1}
            reference.feedback(range(first, first + ROWS), label_N)
        assert wire.hits == 1, "the wire did what was asked of it"
        report = client.report()
    assert [expert.regret for expert in report.experts] == [account.regret for account in reference.accounts()]
    assert report.learned == 3 * ROWS


def test_a_client_of_another_language_may_leave_checksums_out(wire: Wire, rows: Any) -> None:
    x_ND, member_NG, _ = rows(np.random.default_rng(0), ROWS)
    with GroupwiseClient(wire.address) as client:
        request = predict_request(client.about, x_ND, member_NG, False)
        plain = client._channel.unary_unary(f"/{GROUPWISE_SERVICE}/Predict")(request.SerializeToString(), timeout=20)
        assert pb.PredictReply.FromString(plain).predictions == client.predict(x_ND, member_NG).value_N.tobytes()
        assert not is_sealed(plain)
