"""The page of a running service: what it shows, that nothing in it is markup of others, and where it listens."""

from __future__ import annotations

import asyncio
import http.client
import threading
from typing import TYPE_CHECKING

import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.groupwise.reports.live import live_page, serve_page
from saddlebag.proto.v1 import groupwise_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

REPORT = pb.ReportReply(
    experts=[
        pb.ExpertAccount(name="<b>young</b>", rounds=20, loss=2.0, own_loss=1.0, regret=1.0, bound=3.5),
        pb.ExpertAccount(name="always_on", rounds=40, loss=8.0, own_loss=8.0, regret=0.0, bound=float("nan")),
    ],
    predicted=1234,
    learned=40,
    coverage=[pb.Coverage(group="always_on", target=0.9, rounds=40, held=0.925, bound=1.0, width=0.25)],
    watched=[pb.FirstAlarm(kind="features", group="<b>young</b>", round=17)],
)


def test_groups_coverage_and_alarms_are_shown_and_names_are_text() -> None:
    shown = live_page(REPORT)
    for text in ("1,234 predictions", "0.925", "0.1<", "0.9 asked for", "&lt;b&gt;young&lt;/b&gt;: features drifted"):
        assert text in shown
    assert "<b>" not in shown
    assert "nan" not in shown


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever, daemon=True)
    thread.start()
    yield running
    running.call_soon_threadsafe(running.stop)
    thread.join(20)
    running.close()


def test_the_page_is_served_on_loopback_and_nothing_else_is(loop: asyncio.AbstractEventLoop) -> None:
    with pytest.raises(ConfigError, match="--page must be HOST:PORT on loopback"):
        serve_page("0.0.0.0:8080", lambda: REPORT, loop)
    port = _free_port()
    stop = serve_page(f"127.0.0.1:{port}", lambda: REPORT, loop)
    try:
        answers = []
        for path in ("/", "/other"):
            call = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            call.request("GET", path)
            answer = call.getresponse()
            answers.append((answer.status, answer.getheader("Refresh"), answer.read().decode()))
            call.close()
        with pytest.raises(ConfigError, match="cannot serve the page at"):
            serve_page(f"127.0.0.1:{port}", lambda: REPORT, loop)
    finally:
        stop()
    assert answers[0] == (200, "5", live_page(REPORT))
    assert answers[1][0] == 404


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
