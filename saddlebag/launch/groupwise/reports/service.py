"""The report of a running service, asked for as any client asks: for people, as JSON, as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from saddlebag.client.groupwise import GroupwiseClient
from saddlebag.launch.groupwise.reports.live import alarms_of, facts_of, live_page, numbers_of
from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from saddlebag.proto.endpoint import ClientSecurity
    from saddlebag.proto.v1 import groupwise_pb2 as pb

_STYLE: Any = {"box": None, "pad_edge": False, "padding": (0, 1, 0, 0), "header_style": "bold", "title_justify": "left"}
_WIDTH = 124


def ask_report(address: str, security: ClientSecurity, token: str) -> pb.ReportReply:
    """The service's report of this moment.

    Raises:
        PeerLost: nobody answers at the address.
        ConfigError: the address is none, or the server refuses.
    """
    with GroupwiseClient(address, security=security, token=token) as client:
        return client.report()


def service_values(report: pb.ReportReply) -> dict[str, Any]:
    """The report as plain values, with the names of the schema."""
    values: dict[str, Any] = MessageToDict(report, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return values


def print_service(address: str, report: pb.ReportReply) -> None:
    """The table for people."""
    console = Console(highlight=False)
    if console.width < _WIDTH:
        console = Console(highlight=False, width=_WIDTH)
    heads, rows = numbers_of(report)
    table = Table(title=f"the service at {address}", **_STYLE)
    table.add_column("group", no_wrap=True)
    for head in heads:
        table.add_column(head.replace(", ", ",\n"), justify="right")
    for name, cells in rows:
        table.add_row(escape(name), *(text for _, text in cells))
    console.print(table)
    console.print(facts_of(report))
    for alarm in alarms_of(report):
        console.print(f"[bold red]alarm[/]: {escape(alarm)}")


def write_service_page(report: pb.ReportReply, out: Path) -> None:
    """Write the page; it stays as it is.

    Raises:
        StateError: the file cannot be written.
    """
    write_atomically(out, live_page(report, renewed=False).encode())
