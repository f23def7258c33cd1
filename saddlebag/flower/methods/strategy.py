"""The server's half of a method as a Flower strategy: one Flower round trip a round, the decisions those of the server core."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Result, Strategy

from saddlebag.algorithms import Record, pack
from saddlebag.errors import ConfigError, PeerLost, RemoteProtocolError
from saddlebag.flower.methods.link import DOWN, FACTS, HELLO, REPLICA, ROUND, UPLINK, Orders, frames_from, frames_to, result_of
from saddlebag.launch.job import Job
from saddlebag.proto.checkpoint import arrays_to_bytes
from saddlebag.proto.handshake import JoinAnswer, JoinAsk
from saddlebag.server import effects as ef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flwr.serverapp import Grid

    from saddlebag.launch.recipe.recipe import Recipe
    from saddlebag.server.effects import Effect

__all__ = ["MethodStrategy"]

_POLL_S = 0.1
_IDLE_ROUNDS = 20  # exchanges without a usable reply, after which the run is given up


class MethodStrategy(Strategy):
    """Runs the main method of a recipe on `recipe.workers` Flower clients whose app is `method_app()`.

    The trajectory is bit for bit that of `simulate` and of the gRPC driver: replies are summed in the order of partitions.
    A client that lost its state computes it again from the log of downlinks, on the same trajectory; where the log is too
    short, all begin a new epoch, as when a worker of the gRPC driver comes back without its disk.

    Args:
        recipe: what to run; every client builds its share of the problem from it. `[stop]` and `server.round_deadline_s`, for
            the replies of one exchange, hold; other keys of `[server]`, `checkpoint.every` and `[output]` are refused.
        log_bytes: memory for the downlinks that rebuild a client which lost its state; beyond it, a new epoch begins.
        observe: called with each record of the history.
        note: called with what a person should know.

    Raises:
        ConfigError: the recipe gives a key that cannot be kept to by Flower's messages.

    Attributes:
        core: the server's state; `core.ledger` counts bytes as the gRPC driver does.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        log_bytes: int = 64 << 20,
        observe: Callable[[Record], None] = lambda record: None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        job = Job.lead(recipe, "messages")
        self._deadline_s = recipe.server.round_deadline_s
        self._recipe, self._resolved = json.dumps(recipe.to_dict()), job.agreed
        self._observe, self._note = observe, note
        self.core = job.server_core(
            time.monotonic(), log_bytes=log_bytes, checkpoint_every=0
        )  # Flower keeps the clients' state
        self._answers: dict[int, JoinAnswer] = {}  # worker -> how it comes in; until its first reply
        self._nodes: dict[int, int] = {}  # worker -> node
        self._history: list[Record] = []
        self._stale = False

    # -- the run ---------------------------------------------------------------------------------------------------------

    def start(  # type: ignore[override]  # one signature for all releases of Flower
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int = 2**62,
        timeout: float = 3600,
        **_: Any,
    ) -> Result:
        """Run until the recipe's stopping rule, or for `num_rounds` Flower round trips.

        Raises:
            PeerLost: fewer clients than workers came within `timeout` seconds, or they stopped replying.
        """
        del initial_arrays  # the recipe's problem has its starting point
        self._meet(grid, timeout)
        idle = 0
        for number in range(num_rounds):
            if self.core.finished:
                break
            replies = list(grid.send_and_receive(self._messages(number), timeout=min(timeout, self._deadline_s)))
            idle = 0 if self._take(replies) else idle + 1
            if idle >= _IDLE_ROUNDS:
                raise PeerLost(f"round {self.core.round}: no usable reply in {idle} exchanges; last: {_reason(replies)}")
            if self._stale:
                self._meet(grid, timeout)
        return self._result()

    def _meet(self, grid: Grid, timeout: float) -> None:
        """Learn which client is which worker, and let them join."""
        deadline, wanted = time.monotonic() + timeout, self.core.settings.num_workers
        while True:
            hellos = [Message(RecordDict(), node, HELLO) for node in sorted(grid.get_node_ids())]
            known: dict[int, tuple[int, int, int]] = {}
            for reply in grid.send_and_receive(hellos, timeout=timeout):
                if reply.has_content():
                    facts = reply.content.config_records[FACTS]
                    worker, epoch, round_ = (_whole(facts, key) for key in ("worker", "epoch", "round"))
                    known[worker] = (reply.metadata.src_node_id, epoch, round_)
            if set(range(wanted)) <= set(known):
                break
            if time.monotonic() > deadline:
                raise PeerLost(f"{wanted} workers are needed, clients came for {sorted(known)} within {timeout:g} s")
            time.sleep(_POLL_S)
        self._stale = False
        for worker in range(wanted):
            node, epoch, round_ = known[worker]
            self._nodes[worker] = node
            self._join(worker, epoch, round_)

    def _join(self, worker: int, epoch: int = -1, round_: int = -1) -> None:
        core = self.core
        ask = JoinAsk(
            worker=worker,
            recipe=core.settings.recipe,
            dimension=len(core.replica.z_D),
            rounds=(round_,) if round_ >= 0 else (),
            epoch=max(epoch, 0),
        )
        answer, effects = core.join(ask, f"flower-{worker}", time.monotonic())
        if any(isinstance(effect, ef.NewEpoch) for effect in effects):
            self._answers.clear()  # they were of the epoch before
        self._answers[worker] = answer
        self._apply(effects)

    def _messages(self, number: int) -> list[Message]:
        """One message for each worker whose uplink is missing, with the downlinks that it lacks."""
        core = self.core
        snapshot: ArrayRecord | None = None
        messages = []
        for worker in core.members:
            if not core.needs_uplink(worker):
                continue
            answer = self._answers.get(worker)
            resume = answer.resume if answer else core.roster.resume_of(worker)
            fresh, heal = (answer.fresh, answer.heal) if answer else (False, False)
            from_start = fresh and answer is not None and answer.epoch_start == 0
            orders = Orders(
                recipe=self._recipe,
                resolved=self._resolved,
                epoch=core.epoch,
                resume=resume,
                fresh=fresh,
                from_start=from_start,
                heal=heal,
                members=list(core.members),
            )
            content = RecordDict({FACTS: orders.to_record(), DOWN: frames_to(self._missed(worker, resume))})
            if (fresh and not from_start) or heal:
                snapshot = snapshot or self._snapshot()
                content[REPLICA] = snapshot
            messages.append(Message(content, self._nodes[worker], ROUND, group_id=str(number)))
        return messages

    def _missed(self, worker: int, resume: int) -> list[bytes]:
        frames: list[bytes] = []
        while (delivery := self.core.delivery(worker, resume)) is not None:
            for sequence, frame in enumerate(delivery.frames):
                self.core.delivered(worker, delivery, sequence)
                frames.append(frame)
            resume = delivery.end
        return frames

    def _snapshot(self) -> ArrayRecord:
        core = self.core
        data = arrays_to_bytes(pack(core.replica), {"epoch": core.epoch, "round": core.round})
        core.ledger.down.control += len(data)
        core.ledger.down.transport += len(data)
        return ArrayRecord({"replica": Array("uint8", (len(data),), "safetensors", data)})

    # -- replies ---------------------------------------------------------------------------------------------------------

    def _take(self, replies: list[Message]) -> bool:
        """Hand the uplinks to the core in the order of workers; whether anything moved."""
        nodes = {node: worker for worker, node in self._nodes.items()}
        moved = False
        for reply in sorted(replies, key=lambda r: nodes.get(r.metadata.src_node_id, -1)):
            worker = nodes.get(reply.metadata.src_node_id)
            if not reply.has_content():  # from the client, or from Flower, which does not say whose reply will not come
                self._note(f"worker {'unknown' if worker is None else worker}: {reply.error.reason}")
                self._stale = True  # its node may be another one by now
                continue
            if worker is None:
                continue
            try:
                moved |= self._reply(worker, reply.content)
            except (RemoteProtocolError, KeyError, TypeError) as error:
                self._note(f"worker {worker} dropped: {error}")
                self.core.lost(worker, f"flower-{worker}", time.monotonic())
                self._stale = True
        return moved

    def _reply(self, worker: int, content: RecordDict) -> bool:
        facts, core = content.config_records[FACTS], self.core
        if facts["diverged"]:
            self._apply(core.leave(worker, "diverged", time.monotonic()))
            return True
        if facts["lost"]:
            self._note(f"worker {worker} has lost its state")
            self._join(worker)
            return True
        if facts["epoch"] != core.epoch:
            return False  # another client's loss has begun a new one meanwhile
        self._answers.pop(worker, None)
        core.roster.set_resume(worker, core.epoch, _whole(facts, "round"))
        for frame in frames_from(content.array_records[UPLINK]):
            self._apply(core.frame(worker, frame, time.monotonic()))
        return True

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case ef.RoundReady():
                    self._apply(self.core.finish_round(time.monotonic()))
                case ef.Observe(record):
                    self._history.append(record)
                    self._observe(record)
                case ef.NewEpoch(reason):
                    self._note(reason)
                    for worker in self._nodes:
                        if worker not in self._answers:
                            self._join(worker)
                case ef.Close(worker, _, False):
                    self._join(worker, self.core.epoch, self.core.round)
                case _:
                    pass

    def _result(self) -> Result:
        return result_of(self.core.replica.z_D, self._history)

    # -- what the base class asks for ------------------------------------------------------------------------------------

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Not used: `start` runs the method's own rounds."""
        raise ConfigError("MethodStrategy runs by start(grid=...); it cannot be the inside of another strategy")

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Not used, as `configure_train`."""
        raise ConfigError("MethodStrategy runs by start(grid=...); it cannot be the inside of another strategy")

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """None: merits are computed on the side."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """None."""
        return None

    def summary(self) -> None:
        """Say what runs."""
        self._note(f"{self.core.method} on {self.core.settings.num_workers} workers")


def _reason(replies: list[Message]) -> str:
    return next((str(reply.error.reason) for reply in replies if not reply.has_content()), "nothing came")


def _whole(facts: ConfigRecord, key: str) -> int:
    """A number that a client gave."""
    value = facts.get(key)
    if type(value) is not int:
        raise RemoteProtocolError(f"{key} must be a whole number, got {value!r}")
    return value
