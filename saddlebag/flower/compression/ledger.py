"""Bytes of Flower's messages, by direction, as Flower would serialise them; simulations report them too."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from flwr.supercore.inflatable.inflatable_object import no_object_id_recompute

if TYPE_CHECKING:
    from flwr.app import RecordDict

__all__ = ["Ledger", "serialised_bytes"]


def serialised_bytes(content: RecordDict, known: dict[str, tuple[int, list[str]]] | None = None) -> int:
    """Length of a message's content on Flower's wire: the object and all that it refers to, each distinct object once.

    Args:
        content: of the message.
        known: sizes found so far, by Flower's names, which are digests of what they name; filled. Messages that share a
            model serialise it once.
    """
    sizes = {} if known is None else known
    names: set[str] = set()

    def find(name: str, node: Any) -> None:
        if name not in sizes:
            children = node.children or {}
            sizes[name] = (len(node.deflate()), list(children))
            for child_name, child in children.items():
                find(child_name, child)

    def collect(name: str) -> None:
        if name not in names:
            names.add(name)
            for child_name in sizes[name][1]:
                collect(child_name)

    with no_object_id_recompute():  # else each level digests again all that is below it
        for name, record in (content.children or {}).items():
            find(name, record)
            collect(name)
        return len(content.deflate()) + sum(sizes[name][0] for name in names)


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
