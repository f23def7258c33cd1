"""Predictions and labels on one stream, several requests under way."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from saddlebag.client.groupwise.requests import (
    heard,
    predict_request,
    predicted,
    table_request,
    told,
    translated,
    values_request,
)
from saddlebag.errors import PeerLost
from saddlebag.proto.groupwise import GROUPWISE_SERVICE, join_labels
from saddlebag.proto.v1 import groupwise_pb2 as pb

if TYPE_CHECKING:
    import numpy.typing as npt

    from saddlebag.client.groupwise.requests import Predicted
    from saddlebag.compression import Vector
    from saddlebag.proto.groupwise import Members

__all__ = ["PredictionStream"]


class PredictionStream:
    """A stream of requests; replies come in their order.

    Args:
        channel, metadata: to and for the server.
        address: of it, for errors.
        about: the service.
        timeout_s: for which `receive` waits.
    """

    def __init__(
        self, channel: grpc.Channel, metadata: Any, address: str, about: pb.DescribeReply, timeout_s: float = 60.0
    ) -> None:
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._address, self.about, self._timeout_s = address, about, timeout_s
        self._since: float | None = None  # when `receive` began to wait
        self._over, self._late = threading.Event(), False
        call = channel.stream_stream(f"/{GROUPWISE_SERVICE}/Stream")
        self._replies = call(iter(self._queue.get, None), metadata=metadata)
        threading.Thread(target=self._watch, name="saddlebag-stream", daemon=True).start()

    def _watch(self) -> None:
        """End the stream where a reply does not come: a flipped bit may have hidden the call from the server."""
        while not self._over.wait(self._timeout_s / 4):
            if (since := self._since) is not None and time.monotonic() - since > self._timeout_s:
                self._late = True
                self._replies.cancel()
                return

    def send_rows(self, x_ND: Vector, member_NG: Members, *, weights: bool = False) -> None:
        """Ask for predictions; `receive` gives them."""
        self._queue.put(told(pb.StreamRequest(predict=predict_request(self.about, x_ND, member_NG, weights))))

    def send_labels(self, ticket_N: Any, label_N: Any) -> None:
        """Give labels; `receive` says what came of them."""
        tickets, labels = join_labels(ticket_N, label_N)
        self._queue.put(told(pb.StreamRequest(feedback=pb.FeedbackRequest(tickets=tickets, labels=labels))))

    def send_table(self, rows: Any, *, weights: bool = False) -> None:
        """As `send_rows`, of plain values: see `GroupwiseClient.predict_table`."""
        self._queue.put(told(pb.StreamRequest(predict=table_request(self.about, rows, weights))))

    def send_values(self, ticket_N: Any, values: Any) -> None:
        """As `send_labels`, of plain values: see `GroupwiseClient.feedback_values`."""
        self._queue.put(told(pb.StreamRequest(feedback=values_request(self.about, ticket_N, values))))

    def receive(self) -> Predicted | npt.NDArray[np.uint8]:
        """The next reply: predictions, or the outcomes of labels. Errors as `GroupwiseClient.predict`."""
        self._since = time.monotonic()
        try:
            raw = next(self._replies)
        except grpc.RpcError as error:
            if self._late:
                raise PeerLost(f"the server at {self._address} has not replied for {self._timeout_s:g} s") from error
            raise translated(error, self._address) from error
        except StopIteration:
            raise PeerLost(f"the server at {self._address} ended the stream") from None
        finally:
            self._since = None
        reply = heard(raw, pb.StreamReply, self._address)
        if reply.WhichOneof("reply") == "predict":
            return predicted(reply.predict)
        return np.frombuffer(reply.feedback.outcomes, np.uint8)

    def close(self) -> None:
        """End the stream."""
        self._over.set()
        self._queue.put(None)
        self._replies.cancel()
