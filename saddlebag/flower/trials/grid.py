"""A Flower grid in this process: any ServerApp and ClientApp without Ray, milliseconds a round."""

from __future__ import annotations

import concurrent.futures
import copy
import importlib
import itertools
from typing import TYPE_CHECKING, Any

from flwr.app import Array, ArrayRecord, Context, Error, Message, RecordDict
from flwr.serverapp import Grid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

__all__ = ["InProcessGrid"]

_FIRST_NODE = 2  # Flower's own numbers: 1 is the server
_RUN = 1


def _empty_run() -> Any:
    try:
        module = importlib.import_module("flwr.supercore.run")
    except ImportError:  # its place in earlier releases
        module = importlib.import_module("flwr.common.typing")
    return module.Run.create_empty(run_id=_RUN)


def _identify() -> None:
    """Say who this process is, which later releases of Flower ask before a message may be made."""
    try:
        identity = importlib.import_module("flwr.supercore.task_identity").TaskIdentity
    except ImportError:  # not needed before
        return
    identity.task_id = identity.run_id = identity.node_id = 1


class InProcessGrid(Grid):
    """Runs each message's client at once, in the order of the messages.

    Contents are copied on their way, so that a client and the server never share a record. What a client raises becomes an
    error reply, as in Flower.

    Args:
        client_app: the ClientApp.
        num_clients: how many; client i has partition-id i.
        run_config: what `context.run_config` holds.
        lost: whether a reply is lost, given (message number, partition); for tests of faults.
        together: run the clients of one batch of messages in threads at the same time, as sessions need.
    """

    def __init__(
        self,
        client_app: ClientApp,
        num_clients: int,
        run_config: Mapping[str, Any] | None = None,
        lost: Callable[[int, int], bool] = lambda number, partition: False,
        *,
        together: bool = False,
    ) -> None:
        _identify()
        self._app, self._lost, self._run = client_app, lost, _empty_run()
        self._numbers = itertools.count()
        self._together = together
        self._replies: dict[str, Message] = {}
        self.contexts = {
            _FIRST_NODE + partition: Context(
                run_id=_RUN,
                node_id=_FIRST_NODE + partition,
                node_config={"partition-id": partition, "num-partitions": num_clients},
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for partition in range(num_clients)
        }

    def start(self, server_app: ServerApp, run_config: Mapping[str, Any] | None = None) -> Context:
        """Run a ServerApp on this grid; returns its context."""
        context = Context(run_id=_RUN, node_id=1, node_config={}, state=RecordDict(), run_config=dict(run_config or {}))
        server_app(self, context)
        return context

    def set_run(self, run: Any) -> None:
        """Take Flower's facts of a run."""
        self._run = run

    @property
    def run(self) -> Any:
        """Flower's facts of the run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to a client."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The clients' node numbers."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run the clients of some messages; returns the messages' numbers."""
        numbered = [(next(self._numbers), message) for message in messages]
        for number, message in numbered:
            message.metadata.__dict__["_message_id"] = str(number)
        with concurrent.futures.ThreadPoolExecutor(len(numbered) if self._together and numbered else 1) as pool:
            replies = (pool.map if self._together else map)(self._reply, [message for _, message in numbered])
            for (number, message), reply in zip(numbered, replies, strict=True):
                partition = self.contexts[message.metadata.dst_node_id].node_config["partition-id"]
                if not self._lost(number, int(partition)):
                    self._replies[str(number)] = reply
        return [str(number) for number, _ in numbered]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to some messages, each once; lost ones never come."""
        return [self._replies.pop(name) for name in list(message_ids) if name in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push and pull; nothing takes time here, so what is missing is lost."""
        del timeout
        return self.pull_messages(self.push_messages(messages))

    def _reply(self, message: Message) -> Message:
        context = self.contexts[message.metadata.dst_node_id]
        try:
            return _copied(self._app(_copied(message), context))
        except Exception as error:  # whatever an app raises; Flower does the same
            return Message(Error(code=2, reason=f"{type(error).__name__}: {error}"), reply_to=message)


def _copied(message: Message) -> Message:
    """The same message with records of its own; an array's bytes cannot be changed and are shared."""
    message = copy.copy(message)
    if message.has_content():
        records: dict[str, Any] = {}
        for name, record in message.content.items():
            if isinstance(record, ArrayRecord):
                records[name] = ArrayRecord({key: Array(a.dtype, tuple(a.shape), a.stype, a.data) for key, a in record.items()})
            else:
                values: Any = copy.deepcopy(dict(record))
                records[name] = type(record)(values)
        message.content = RecordDict(records)
    return message
