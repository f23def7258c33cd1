"""Bytes of Flower's messages, by direction, as Flower would serialise them; simulations report them too."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flwr.app import RecordDict

__all__ = ["Ledger", "serialised_bytes"]


def serialised_bytes(content: RecordDict) -> int:
    """Length of a message's content on Flower's wire: the object and all that it refers to, each distinct object once."""
    seen: dict[str, int] = {}

    def visit(node: Any, name: str) -> None:
        if name not in seen:
            seen[name] = len(node.deflate())
            for child_name, child in (node.children or {}).items():
                visit(child, child_name)

    visit(content, "")
    return sum(seen.values())


@dataclasses.dataclass
class Ledger:
    """Totals since the start, in bytes; `plain` is what the same content would have taken uncompressed."""

    up: int = 0
    down: int = 0
    plain_up: int = 0
    plain_down: int = 0
    messages: int = 0

    def metrics(self) -> dict[str, int]:
        """The totals as Flower reports metrics."""
        return {
            "saddlebag-up-bytes": self.up,
            "saddlebag-down-bytes": self.down,
            "saddlebag-plain-up-bytes": self.plain_up,
            "saddlebag-plain-down-bytes": self.plain_down,
        }
