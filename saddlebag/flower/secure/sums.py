"""The server's exchanges of a round of secure aggregation, through a Flower grid; `Aggregation` makes the decisions."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ConfigRecord, Message, RecordDict

from saddlebag.compression import Draws, Levels
from saddlebag.errors import PeerLost, RemoteProtocolError
from saddlebag.flower.compression.ledger import Ledger, serialised_bytes
from saddlebag.flower.compression.packing import PAYLOAD, unpack_payload
from saddlebag.flower.secure.link import ORDERS, SAID, Orders, said, says
from saddlebag.proto.secure.aggregation import Aggregation
from saddlebag.proto.secure.messages import Step
from saddlebag.proto.secure.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flwr.serverapp import Grid


class Sums:
    """Sums of one vector of whole numbers for each client, a round after the other.

    Args:
        threshold: share of a round's clients that must be exceeded by those who unmask a sum; None without masks.
        timeout: seconds to wait for the replies of an exchange beside the training.
        note: called with what a person should know.

    Attributes:
        ledger: bytes of keys, shares and what unmasks.
        context: of the round, in hexadecimal digits.
        open: whether a round is under way.
    """

    def __init__(self, threshold: float | None, timeout: float, note: Callable[[str], None]) -> None:
        self._share, self._timeout, self._note = threshold, timeout, note
        self.ledger, self.open, self.context = Ledger(), False, ""
        self._nodes: tuple[int, ...] = ()

    def close(self) -> None:
        """Give up the round, if one is under way."""
        self.open = False

    def who(self) -> str:
        """Which nodes the workers of a message are."""
        return ", ".join(f"worker {rank} is node {node}" for rank, node in enumerate(self._nodes))

    def begin(self, server_round: int, grid: Grid, messages: Mapping[int, Message], size: int, most: int) -> None:
        """Exchange keys and shares with these nodes, to whom the messages of the training will go.

        Raises:
            PeerLost: fewer than t have replied.
        """
        self._grid, self._group, self._size = grid, str(server_round), size
        self._nodes, self.context, self.open = tuple(sorted(messages)), secrets.token_hex(32), True
        self._kind = next(iter(messages.values())).metadata.message_type
        self._told = dict.fromkeys(range(len(self._nodes)), b"")
        if self._share is None:
            return
        members = len(self._nodes)
        self._threshold = min(members, int(members * self._share) + 1)
        ring = Ring(size, most, members, bytes.fromhex(self.context))
        self._sum = Aggregation(self._told, threshold=self._threshold, ring=ring)
        for step in (Step.KEYS, Step.SHARES):
            self._exchange(step)

    def training(self) -> dict[int, dict[str, ConfigRecord]]:
        """By node, what its message of the training is to hold beside the model."""
        told = self._told
        return {self._nodes[rank]: self._records(Step.MASKED, rank, data) for rank, data in told.items()}

    def finish(self, replies: Iterable[Message]) -> tuple[np.ndarray[Any, Any], list[int]]:
        """The sum of the vectors in these replies to the training, and whose they are.

        Raises:
            PeerLost: fewer than t have replied to a step.
            RemoteProtocolError: masks do not cancel, or shares are wrong, and whose.
        """
        self.open = False
        if self._share is None:
            return self._in_the_clear(replies)
        self._take(Step.MASKED, replies)
        self._told = self._sum.close()
        self._exchange(Step.UNMASK)
        sum_S = self._sum.levels()
        for text in self._sum.refused.values():
            self._note(f"{text}; {self.who()}")
        return sum_S, [self._nodes[rank] for rank in self._sum.arrived]

    def _exchange(self, step: Step) -> None:
        messages = [
            Message(RecordDict({**self._records(step, rank, data)}), self._nodes[rank], self._kind, group_id=self._group)
            for rank, data in self._told.items()
        ]
        self.ledger.down += sum(serialised_bytes(message.content) for message in messages)
        self.ledger.messages += len(messages)
        replies = list(self._grid.send_and_receive(messages, timeout=self._timeout))
        self.ledger.up += sum(serialised_bytes(reply.content) for reply in replies if reply.has_content())
        self._take(step, replies)
        self._told = self._sum.close()

    def _records(self, step: Step, rank: int, data: bytes) -> dict[str, ConfigRecord]:
        threshold = 0 if self._share is None else self._threshold
        orders = Orders(step=int(step), rank=rank, members=len(self._nodes), threshold=threshold, context=self.context)
        return {ORDERS: orders.to_record(), SAID: says(data)}

    def _take(self, step: Step, replies: Iterable[Message]) -> None:
        """What clients say in a step; who says nothing of use drops out, by name."""
        ranks = {node: rank for rank, node in enumerate(self._nodes)}
        for reply in replies:
            node = reply.metadata.src_node_id
            if not reply.has_content():
                self._note(f"{step.name.lower()}: node {node}: {reply.error.reason}")
            elif node in ranks:
                try:
                    self._sum.take(step, ranks[node], said(reply.content))
                except RemoteProtocolError as error:
                    self._note(f"{error} (node {node}); the round goes on without it")

    def _in_the_clear(self, replies: Iterable[Message]) -> tuple[np.ndarray[Any, Any], list[int]]:
        sum_S, nodes = np.zeros(self._size, np.int64), []
        for reply in sorted(replies, key=lambda each: each.metadata.src_node_id):
            data = said(reply.content)
            payload = unpack_payload(Array("uint8", (len(data),), PAYLOAD, data), self._size, Draws(0, 0))
            if not isinstance(payload, Levels):
                raise RemoteProtocolError("a client's numbers must be levels")
            sum_S += payload.level_D
            nodes.append(reply.metadata.src_node_id)
        if not nodes:
            raise PeerLost("no client has replied")
        return sum_S, nodes
