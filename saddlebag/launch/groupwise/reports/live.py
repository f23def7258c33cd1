"""The service as a page that renews itself: every group's rounds, losses, regret, coverage and alarms, on loopback."""

from __future__ import annotations

import asyncio
import http.server
import threading
from html import escape
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError
from saddlebag.launch.groupwise.alarms import SAID
from saddlebag.launch.pages.frame import head_cells, number_cell, page
from saddlebag.proto.address import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.proto.v1 import groupwise_pb2 as pb

_RENEWED_S = 5
_TIMEOUT_S = 5.0


def live_page(report: pb.ReportReply, *, renewed: bool = True) -> str:
    """The page of a service's report; losses as labels are scaled.

    Example:
        >>> from saddlebag.proto.v1 import groupwise_pb2 as pb
        >>> "12 labels" in live_page(pb.ReportReply(learned=12))
        True
    """
    alarms = "".join(f"<li>{escape(alarm)}</li>" for alarm in alarms_of(report))
    facts = facts_of(report) + (f" Renewed every {_RENEWED_S} seconds." if renewed else "")
    parts = [
        f"<header><h1>Predictions for every group</h1><p class=facts>{facts}</p></header><main>",
        f'<section class="alarms"><h2>Alarms</h2><ul>{alarms}</ul></section>' if alarms else "<p class=calm>No alarms.</p>",
        _table(report),
        "</main>",
    ]
    return page("saddlebag groupwise serve", "\n".join(parts))


def alarms_of(report: pb.ReportReply) -> list[str]:
    """All alarms in words."""
    return [*report.alarms, *(f"{a.group}: {SAID[a.kind]}, first alarm after label {a.round:,}" for a in report.watched)]


def facts_of(report: pb.ReportReply) -> str:
    """How much there was, in a sentence."""
    return (
        f"{report.predicted:,} predictions, {report.learned:,} labels; {report.pending:,} wait for theirs, "
        f"{report.forgotten:,} were forgotten."
    )


def numbers_of(report: pb.ReportReply) -> tuple[list[str], list[tuple[str, list[tuple[float | None, str]]]]]:
    """Heads of the columns after the name, and for each expert its name, and its numbers with how they are shown."""
    targets = sorted({each.target for each in report.coverage})
    held = {(each.group, each.target): each for each in report.coverage}
    levels = {each.group: each for each in report.calibrated}
    heads = ["rounds", "mean loss, ours", "mean loss, own model", "regret to own model", "its bound"]
    for target in targets:
        heads += [f"label held, {target:.4g} asked for", "bound on the error", "mean width"]
    heads += ["calibration error"] if levels else []
    rows = []
    for expert in report.experts:
        count = max(expert.rounds, 1e-300)
        numbers = [expert.rounds, expert.loss / count, expert.own_loss / count, expert.regret, expert.bound]
        for target in targets:
            each = held.get((expert.name, target))
            numbers += [each.held, each.bound, each.width] if each is not None else [float("nan")] * 3
        if levels:
            numbers.append(_distance(levels[expert.name]) if expert.name in levels else float("nan"))
        rows.append((expert.name, [_shown(value) for value in numbers]))
    return heads, rows


def _table(report: pb.ReportReply) -> str:
    heads, rows = numbers_of(report)
    lines = []
    for name, shown in rows:
        cells = [number_cell(head, *each) for head, each in zip(heads, shown, strict=True)]
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    body = f"<thead><tr>{head_cells(['group', *heads])}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<section><h2>All groups</h2><div class="wide"><table>{body}</table></div></section>'


def _distance(levels: pb.Calibrated) -> float:
    """The mean distance of labels from calibrated probabilities, over the levels by their rounds."""
    lost = sum(rounds * abs(error) for rounds, error in zip(levels.rounds, levels.error, strict=True))
    return float(lost / sum(levels.rounds))


def _shown(value: float) -> tuple[float | None, str]:
    if value != value:  # NaN
        return None, "-"
    return value, f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def _handler(page_now: Callable[[], str]) -> type[http.server.BaseHTTPRequestHandler]:
    """What answers a browser: one page; anything else is 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = _TIMEOUT_S  # of a client that says nothing

        def do_GET(self) -> None:
            if self.path != "/":
                self.send_error(404)
                return
            try:
                body = page_now().encode()
            except TimeoutError:
                self.send_error(503)
                return
            self.send_response(200)
            for name, value in (("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))):
                self.send_header(name, value)
            self.send_header("Refresh", str(_RENEWED_S))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, its name in the library
            """Nothing: the service has its own lines."""

    return Handler


def serve_page(address: str, report: Callable[[], pb.ReportReply], loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Answer GET / at HOST:PORT with the page; returns what ends it.

    Raises:
        ConfigError: the address is not on loopback, or cannot be used.
    """
    place = parse_address(address, "--page", listening=True)
    if not place.is_local or place.path:
        raise ConfigError(f"--page must be HOST:PORT on loopback, for the page has no authentication; got {address!r}")

    async def ask() -> pb.ReportReply:
        return report()

    def page_now() -> str:
        return live_page(asyncio.run_coroutine_threadsafe(ask(), loop).result(_TIMEOUT_S))

    try:
        server = http.server.ThreadingHTTPServer((place.host, place.port), _handler(page_now))
    except OSError as error:
        raise ConfigError(f"cannot serve the page at {address}: {error.strerror}") from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="page", daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
