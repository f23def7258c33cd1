"""The service's accounts as Prometheus metrics, one series a group."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError
from saddlebag.proto.address import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from saddlebag.proto.v1 import groupwise_pb2 as pb

_ACCOUNT = {
    "rounds": "Rounds in which the expert was awake.",
    "loss": "Our loss on the expert's rounds.",
    "own_loss": "The expert's own loss on them.",
    "regret": "Our loss less the expert's own.",
    "bound": "The proven bound on the regret.",
    "weight": "Share of the weight if all experts were awake.",
}
_TOTALS = {
    "predicted": "Predictions given out.",
    "learned": "Labels learned.",
    "repeated": "Labels that came again.",
    "unknown": "Labels for tickets that are not known.",
    "pending": "Tickets that wait for their label.",
    "forgotten": "Tickets that were forgotten for want of room.",
    "fell_back": "Rounds in which all awake experts had weight 0.",
    "orphans": "Rounds in which nobody was awake.",
}
_TIMEOUT_S = 5.0


class _Collector:
    """Asks the service, in its own loop, when somebody scrapes."""

    def __init__(self, report: Callable[[], pb.ReportReply], loop: asyncio.AbstractEventLoop) -> None:
        self._report, self._loop = report, loop

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        async def ask() -> pb.ReportReply:
            return self._report()

        report = asyncio.run_coroutine_threadsafe(ask(), self._loop).result(_TIMEOUT_S)
        for field, text in _ACCOUNT.items():
            family = GaugeMetricFamily(f"saddlebag_groupwise_{field}", text, labels=["expert"])
            for account in report.experts:
                family.add_metric([account.name], getattr(account, field))
            yield family
        for field, text in _TOTALS.items():
            yield GaugeMetricFamily(f"saddlebag_groupwise_{field}_total", text, value=getattr(report, field))
        watched = GaugeMetricFamily("saddlebag_groupwise_first_alarm", "Round of a first alarm.", labels=["kind", "group"])
        for alarm in report.watched:
            watched.add_metric([alarm.kind, alarm.group], alarm.round)
        yield watched
        yield GaugeMetricFamily("saddlebag_groupwise_alarms", "What the theory rules out.", value=len(report.alarms))


def serve_metrics(address: str, report: Callable[[], pb.ReportReply], loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Answer scrapes at HOST:PORT; returns what ends it.

    Raises:
        ConfigError: prometheus-client is not installed, or the address cannot be used.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError as error:
        raise ConfigError("--metrics needs the package prometheus-client: pip install 'saddlebag[metrics]'") from error
    place = parse_address(address, "--metrics", listening=True)
    if not place.is_local or place.path:
        raise ConfigError(f"--metrics must be HOST:PORT on loopback, for scrapes have no authentication; got {address!r}")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(report, loop))  # type: ignore[arg-type, unused-ignore]
    try:
        server, thread = start_http_server(place.port, place.host, registry)
    except OSError as error:
        raise ConfigError(f"cannot serve metrics at {address}: {error.strerror}") from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
