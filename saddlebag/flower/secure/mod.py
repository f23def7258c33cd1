"""The client's half of secure aggregation in Flower: a mod that answers the steps of a round and masks what the app trained.

Flower calls a client with one message at a time, in any process. What a member of a round knows between two steps is kept in
the client's state, secrets among it, and is gone from there as soon as the round is over for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from saddlebag.algorithms.agreed.common_grid import CommonGrid
from saddlebag.compression import Draws, Levels
from saddlebag.errors import ConfigError, LocalProtocolError
from saddlebag.flower.compression.link import LINK
from saddlebag.flower.compression.mod import difference
from saddlebag.flower.compression.packing import Schema, flatten, models_in, pack_payload
from saddlebag.flower.secure.link import ORDERS, SAID, TASK, Orders, Task, said, says
from saddlebag.flower.secure.numbers import POINT, Layout
from saddlebag.proto.secure.identity import Identity
from saddlebag.proto.secure.member import Member
from saddlebag.proto.secure.messages import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flwr.app import Context

    from saddlebag.compression import Vector
    from saddlebag.proto.secure.ring import Ring

    Next = Callable[[Message, Context], Message]

__all__ = ["SecureMod", "secure_mod"]

_MEMBER, _OWED = "saddlebag.secure.member", "saddlebag.secure.owed"


class SecureMod:
    """A Flower mod for the clients of `Secure`; the inner one of `mods=[compression_mod, secure_mod]`.

    Args:
        clear: whether a server may ask for updates without masks; by default messages that train without are refused.
        signing_key: 32 bytes of this client's own, where the clients sign their keys for each other.
        signers: the public keys of all clients who may take part, in the same order for all of them.

    Raises:
        ConfigError: the signing key is none of the signers'.
    """

    def __init__(self, *, clear: bool = False, signing_key: bytes = b"", signers: Sequence[bytes] = ()) -> None:
        self._clear = clear
        self._identity = Identity(signing_key, tuple(signers), ranked=False) if signing_key or signers else None

    def __call__(self, message: Message, context: Context, call_next: Next) -> Message:
        """Answer a step of a round; messages of other kinds than training pass.

        Raises:
            RemoteProtocolError: what came of the server or of another client is wrong; Flower makes an error reply of it,
                and the round goes on without this client.
            ConfigError: the server asks for a training in the clear, or the mods stand in the wrong order.
        """
        content = message.content if message.has_content() else RecordDict()
        record = content.config_records.get(ORDERS)
        if record is None:
            if message.metadata.message_type.partition(".")[0] == "train":
                self._require_clear()
            return call_next(message, context)
        orders = Orders.from_record(record)
        if not orders.threshold:
            self._require_clear()
        if LINK in content.config_records:
            raise ConfigError("the mods must stand in this order: mods=[compression_mod, secure_mod]")
        if orders.step == Step.MASKED:
            return self._trained(orders, message, context, call_next)
        return Message(RecordDict({SAID: says(self._step(orders, said(content), context))}), reply_to=message)

    def _require_clear(self) -> None:
        if not self._clear:
            raise ConfigError("this client trains under secure aggregation only, and is asked for an update without masks")

    def _trained(self, orders: Orders, message: Message, context: Context, call_next: Next) -> Message:
        """Let the app train; send its update's numbers, masked, in place of its model and metrics."""
        content = message.content
        task, inbox = Task.from_record(content.config_records.get(TASK)), said(content) if orders.threshold else b""
        for key in (ORDERS, TASK, SAID):
            content.pop(key, None)
        model = content.array_records[task.record]
        schema = Schema.of(model, task.others)
        model_D = flatten(model, schema)
        reply = call_next(message, context)
        if not reply.has_content():
            return reply
        numbers_S = _numbers(orders, task, reply.content, schema, model_D, context)
        if not orders.threshold:
            payload = Levels(numbers_S, np.ones(1, np.float32), len(numbers_S))
            return Message(RecordDict({SAID: says(pack_payload(payload).data)}), reply_to=message)
        member = self._member(orders, context, orders.ring(len(numbers_S), task.largest_level))
        data = member.masked(inbox, numbers_S)
        _keep(member, orders, context)
        return Message(RecordDict({SAID: says(data)}), reply_to=message)

    def _step(self, orders: Orders, data: bytes, context: Context) -> bytes:
        match orders.step:
            case Step.KEYS:
                ways: dict[str, Any] = {"threshold": orders.threshold, "ring": orders.ring()}
                member = Member(orders.rank, **ways, identity=self._identity)
                out = member.keys()
            case Step.SHARES:
                member = self._member(orders, context, orders.ring())
                out = member.shares(data)
            case _:
                member = self._member(orders, context, orders.ring())
                del context.state[_MEMBER]  # whatever comes of it: no second answer
                return member.unmask(data)
        _keep(member, orders, context)
        return out

    def _member(self, orders: Orders, context: Context, ring: Ring) -> Member:
        kept = context.state.config_records.get(_MEMBER)
        if kept is None or kept["context"] != orders.context:
            raise LocalProtocolError(f"this client takes no part in round {orders.context[:8]}, or has lost what it knew of it")
        data: Any = kept["member"]
        return Member.restored(data, orders.rank, threshold=orders.threshold, ring=ring, identity=self._identity)


secure_mod = SecureMod()
"""The mod as clients use it: `ClientApp(mods=[secure_mod])`. Nothing is trained without masks."""


def _keep(member: Member, orders: Orders, context: Context) -> None:
    context.state[_MEMBER] = ConfigRecord({"member": member.capture(), "context": orders.context})


def _numbers(
    orders: Orders, task: Task, content: RecordDict, schema: Schema, model_D: Vector, context: Context
) -> np.ndarray[Any, Any]:
    """What is added up: the update on the grid, weighted, with what was owed; the weight, and the metrics times it."""
    who = f"round {orders.context[:8]}: client {orders.rank}"
    models = models_in(content, schema)
    if len(models) != 1 or schema.shared(content.array_records[models[0]]) != schema.names:
        raise ConfigError(f"{who} is left out: secure aggregation needs one model with all arrays of the received one")
    delta_D = difference(content.array_records[models[0]], schema, model_D, who)
    weight, metrics = 1, {key: value for record in content.metric_records.values() for key, value in record.items()}
    if task.most_examples:
        weight = min(max(int(_number(metrics, task.weighted_by, who)), 0), task.most_examples)
        delta_D *= weight / task.most_examples
    grid = CommonGrid(largest_level=task.largest_level, scale=task.scale)
    owed_D = _owed(task, schema, context)
    sent_D = delta_D + owed_D
    levels = grid.encode(sent_D, Draws(0, 0))
    if task.memory:
        after = Array(sent_D - levels.dense())
        context.state[_OWED] = ArrayRecord({"before": Array(owed_D), "after": after})
        context.state[f"{_OWED}.made"] = ConfigRecord({"context": orders.context, "schema": schema.to_json()})
    exact = [weight, *(round(float(_number(metrics, name, who)) * weight * 2**POINT) for name in task.names)]
    layout = Layout(schema.dimension, task.largest_level, len(exact))
    return layout.joined(levels.level_D, grid.fits(sent_D).level_D, exact)


def _number(metrics: dict[str, Any], name: str, who: str) -> float:
    value = metrics.get(name)
    if not isinstance(value, int | float) or not np.isfinite(value):
        raise ConfigError(f"{who} is left out: the metric {name!r} must be a finite number, got {value!r}")
    return value


def _owed(task: Task, schema: Schema, context: Context) -> Vector:
    """What is owed from earlier rounds: the step that no round has counted is undone."""
    made, kept = context.state.config_records.get(f"{_OWED}.made"), context.state.array_records.get(_OWED)
    if not task.memory or made is None or kept is None or made["schema"] != schema.to_json():
        return np.zeros(schema.dimension)
    return np.array(kept["after" if made["context"] == task.counted else "before"].numpy(), np.float64)
