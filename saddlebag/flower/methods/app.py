"""The client's half of a method, as phases of a Flower ClientApp.

Flower calls a client with its state and one message at a time, in any process, and forgets the state when a SuperNode restarts.
So the worker's core is rebuilt for each message from the state's arrays; a client without them says so and is begun again.
"""

from __future__ import annotations

import functools
import itertools
import json
from typing import TYPE_CHECKING, Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from saddlebag.compression import SERVER, Draws
from saddlebag.errors import NotFiniteError, RemoteProtocolError, StateError
from saddlebag.flower.compression.mod import worker_of
from saddlebag.flower.methods.link import DOWN, FACTS, HELLO, REPLICA, ROUND, UPLINK, Orders, frames_from, frames_to
from saddlebag.flower.methods.session import add_session
from saddlebag.launch.job import Job
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.proto.checkpoint import arrays_to_bytes, bytes_to_arrays
from saddlebag.proto.frames import frames_of, read_frame
from saddlebag.proto.streaming import StreamDecoder, assemble

if TYPE_CHECKING:
    from flwr.app import Context

    from saddlebag.client.core import WorkerCore
    from saddlebag.proto.frames import Frame

__all__ = ["add_method", "method_app"]

_STATE, _WHERE = "saddlebag.state", "saddlebag.where"


def method_app() -> ClientApp:
    """A ClientApp that takes part in any method, round by round or in a session: the recipe comes with the messages."""
    app = ClientApp()
    add_method(app)
    add_session(app)
    return app


def add_method(app: ClientApp) -> None:
    """Add the phases of methods to an app that has others."""
    app.query(HELLO.partition(".")[2])(_hello)
    app.train(ROUND.partition(".")[2])(_round)


@functools.lru_cache(maxsize=4)
def _job(recipe: str, agreed: str) -> Job:
    """The job; kept while a process serves one run, for data are read here."""
    return Job.join(recipe_from_dict(json.loads(recipe)), agreed)


def _hello(message: Message, context: Context) -> Message:
    """Say which worker this is and what it holds."""
    where = context.state.config_records.get(_WHERE, ConfigRecord())
    facts = {"worker": worker_of(context), "epoch": where.get("epoch", -1), "round": where.get("round", -1)}
    return Message(RecordDict({FACTS: ConfigRecord(facts)}), reply_to=message)


def _round(message: Message, context: Context) -> Message:
    """Replay the downlinks that came, compute the next uplink."""
    orders = Orders.from_record(message.content.config_records[FACTS])
    worker = worker_of(context)
    core = _job(orders.recipe, orders.resolved).worker_core(worker)
    core.members = tuple(orders.members)
    facts: dict[str, Any] = {"worker": worker, "lost": False, "diverged": False}
    content = RecordDict()
    if not _position(core, orders, message.content, context):
        facts["lost"] = True
    else:
        try:
            _replay(core, message.content)
            buffers, digest = core.step()
            frames = frames_of(buffers, epoch=core.epoch, round_=core.round, sender=worker + 1, digest=digest)
            content[UPLINK] = frames_to(frames)
        except NotFiniteError:
            facts["diverged"] = True
        _save(core, context)
    content[FACTS] = ConfigRecord({**facts, "epoch": core.epoch, "round": core.round})
    return Message(content, reply_to=message)


def _position(core: WorkerCore, orders: Orders, content: RecordDict, context: Context) -> bool:
    """Bring the core to the boundary from which the server continues; False when its state is not there."""
    if orders.fresh and orders.from_start:
        core.begin_run(orders.epoch)
        return True
    replica = None
    if orders.fresh or orders.heal:
        data = content.array_records[REPLICA]["replica"].data
        replica = core.unpack_replica(bytes_to_arrays(data, "the server's snapshot"))
    if orders.fresh:
        core.begin(orders.epoch, orders.resume, replica)
        return True
    where, state = context.state.config_records.get(_WHERE), context.state.array_records.get(_STATE)
    if where is None or state is None or (where["epoch"], where["round"]) != (orders.epoch, orders.resume):
        return False
    try:
        core.restore(bytes_to_arrays(state["state"].data, "this client's state"), dict(where))
    except StateError:
        return False
    if orders.heal:
        core.heal(replica)
    return True


def _replay(core: WorkerCore, content: RecordDict) -> None:
    """Apply the downlinks of the rounds since the core's boundary, or a catch-up; steps are computed where they were not."""
    frames = [read_frame(raw) for raw in frames_from(content.array_records.get(DOWN, ArrayRecord()))]
    for round_, group in itertools.groupby(frames, key=lambda frame: frame.round):
        pieces = list(group)
        if (pieces[0].epoch, pieces[0].sender) != (core.epoch, 0) or round_ < core.round:
            raise RemoteProtocolError(f"a downlink of round {round_} where round {core.round} is due")
        if round_ > core.round:
            core.jump(round_, _message(core, pieces, core.catch_up_sizes()))
            continue
        core.ensure_stepped()
        core.apply(_message(core, pieces, core.downlink_sizes()))


def _message(core: WorkerCore, pieces: list[Frame], sizes: tuple[int, ...]) -> Any:
    round_ = pieces[0].round
    decoder = StreamDecoder(sizes, Draws(core.draws.seed, round_, SERVER), pieces[0].total)
    received = [piece for frame in pieces for piece in decoder.feed(frame.data)]
    if not decoder.complete:
        raise RemoteProtocolError(f"the message of round {round_} is cut short")
    return assemble(received, sizes)


def _save(core: WorkerCore, context: Context) -> None:
    """Keep the state in Flower's hands, with the step in progress."""
    arrays, where = core.capture()
    data = arrays_to_bytes(arrays, {})
    context.state[_STATE] = ArrayRecord({"state": Array("uint8", (len(data),), "safetensors", data)})
    context.state[_WHERE] = ConfigRecord(where)
