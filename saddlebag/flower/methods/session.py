"""Session mode: Flower starts and authenticates the clients, then the rounds run over Saddlebag's own gRPC stream.

A round through Flower's messages takes a tenth of a second in simulation and seconds in a deployment, for both sides poll;
a stream takes milliseconds. One message hands every client the server's address, a secret of this run and, with TLS, the CA
that signed the server's certificate. The client speaks the round protocol until the run ends; the results come back
through Flower. All clients must be alive together, so a simulation needs cores / clients CPUs for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import secrets
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.app import ConfigRecord, Message, RecordDict

from saddlebag.errors import ConfigError, PeerLost, SaddlebagError
from saddlebag.flower.compression.mod import worker_of
from saddlebag.flower.methods.link import FACTS, SESSION, result_of
from saddlebag.launch.drivers.process import tune_process
from saddlebag.launch.drivers.worker import run_worker
from saddlebag.launch.job import Job
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.proto.address import parse_address
from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity
from saddlebag.server.shell import ServerShell

if TYPE_CHECKING:
    from collections.abc import Callable

    from flwr.app import Context
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Result

    from saddlebag.algorithms import Record
    from saddlebag.launch.recipe.recipe import Recipe
    from saddlebag.server.core import ServerCore

__all__ = ["add_session", "run_session"]

_POLL_S = 0.2
_LOST = (3, 4, 5, 8)  # Flower's codes for messages, replies and nodes that are gone, and client processes that ended
_START_S = 60.0
_LAST_WORDS_S = 10.0  # for the clients' replies when the run is over; of a node that was killed Flower would wait a minute


def run_session(
    grid: Grid,
    recipe: Recipe,
    *,
    address: str | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    ca: Path | None = None,
    timeout: float = 3600.0,
    gather: float = 120.0,
    observe: Callable[[Record], None] = lambda record: None,
    note: Callable[[str], None] = lambda text: None,
) -> Result:
    """Run the main method of a recipe on the clients with partitions below `recipe.workers`; their app needs `add_session`.

    A client that Flower loses is invited again when it is back, and goes on as a worker of the gRPC driver does.

    Args:
        grid: Flower's.
        recipe: what to run; its `[server]` and `[stop]` hold as in the gRPC driver.
        address: HOST:PORT where this ServerApp can listen and the clients can reach it, in place of the recipe's
            `server.address`; port 0 takes a free one.
        certificate: PEM of this server; needed beyond loopback, with `key`.
        key: its private key.
        ca: PEM that signed the certificate; the clients are told.
        timeout: seconds, for all of it.
        gather: seconds, until the first round, for which all workers must be there.
        observe: called with each record of the history.
        note: called with what a person should know.

    Raises:
        ConfigError: the address needs TLS, or cannot be used; or the recipe gives `checkpoint.every` or a key of `[output]`,
            which a session cannot keep to.
        PeerLost: a client gave up, and why; or fewer came than the recipe has workers.
    """
    server = _Server(Job.lead(recipe, "session"), ServerSecurity(certificate=certificate, key=key), observe, note)
    with server.listening(address or recipe.server.address) as bound:
        invitation = {
            "recipe": json.dumps(recipe.to_dict()),
            "address": bound,
            "token": server.core.settings.token,
            "ca": ca.read_text() if ca is not None else "",
        }
        _Party(grid, server.core, invitation, note).host(timeout, min(gather, timeout), lambda: server.failed)
    return server.result()


class _Party:
    """Invites every client as it comes, and those again that Flower lost, until the run is over."""

    def __init__(self, grid: Grid, core: ServerCore, invitation: dict[str, Any], note: Callable[[str], None]) -> None:
        self._grid, self._core, self._invitation, self._note = grid, core, invitation, note
        self._pending: dict[str, int] = {}  # message -> node
        self._invited: set[int] = set()

    def host(self, timeout: float, gather: float, failed: Callable[[], bool]) -> None:
        """Return when the run is over and the clients have said so, or the server has failed; `PeerLost` as `run_session`."""
        begin_s, left_s = time.monotonic(), _LAST_WORDS_S
        while not failed():
            self._invite()
            self._collect()
            waited_s = time.monotonic() - begin_s
            if self._core.finished is not None:
                left_s -= _POLL_S  # what a client says at the end may be lost; the run is not
                if not self._pending or left_s < 0:
                    return
            elif waited_s > timeout or (self._core.round == 0 and waited_s > gather):
                raise PeerLost(self._missing(waited_s))
            time.sleep(_POLL_S)

    def _invite(self) -> None:
        new = [node for node in sorted(self._grid.get_node_ids()) if node not in self._invited]
        if self._core.finished is not None or not new:
            return
        self._invited.update(new)
        messages = [Message(RecordDict({FACTS: ConfigRecord(self._invitation)}), node, SESSION) for node in new]
        self._pending |= dict(zip(self._grid.push_messages(messages), new, strict=True))

    def _collect(self) -> None:
        if not self._pending:
            return
        for reply in self._grid.pull_messages(list(self._pending)):
            node = self._pending.pop(reply.metadata.reply_to_message_id, None)
            if reply.has_content() or node is None:
                continue
            if reply.error.code not in _LOST:
                raise PeerLost(f"client {node} left the session: {reply.error.reason}")
            self._note(f"client {node} is lost to Flower: {reply.error.reason}")
            self._invited.discard(node)

    def _missing(self, waited_s: float) -> str:
        wanted = self._core.settings.num_workers
        here = wanted - sum(self._core.roster.holds(worker, "") for worker in range(wanted))
        return (
            f"{wanted} workers are needed at the same time, {here} take part after {waited_s:.0f} s and {len(self._invited)} "
            "clients were invited; a simulation runs at most cores + 4 clients at once, each with its client_resources"
        )


class _Server:
    """The parameter server of a session, in a thread of its own."""

    def __init__(
        self,
        job: Job,
        security: ServerSecurity,
        observe: Callable[[Record], None],
        note: Callable[[str], None],
    ) -> None:
        self.core = job.server_core(time.monotonic(), token=secrets.token_hex(16), checkpoint_every=0)  # there is no folder
        self._history: list[Record] = []
        self._observe, self._note, self._security = observe, note, security
        self._bound: str | None = None
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._stop: Callable[[], object] = lambda: None

    @contextlib.contextmanager
    def listening(self, address: str) -> Any:
        """The address while the server runs; waits for the run's end on the way out."""
        thread = threading.Thread(target=self._run, args=(address,), name="saddlebag-session", daemon=True)
        thread.start()
        if not self._ready.wait(_START_S) or self._failure is not None:
            raise self._failure or ConfigError(f"no server at {address} within {_START_S:g} s")
        try:
            yield self._bound
        except BaseException:
            self._stop()
            raise
        finally:
            thread.join(_START_S)
        if self._failure is not None:
            raise self._failure

    @property
    def failed(self) -> bool:
        """Whether the server's thread has ended before the run did; `listening` raises why."""
        return self._failure is not None

    def _run(self, address: str) -> None:
        tune_process()
        try:
            asyncio.run(self._serve(address))
        except BaseException as error:  # told to the thread that waits
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self, address: str) -> None:
        def observe(record: Record) -> None:
            self._history.append(record)
            self._observe(record)

        shell, loop = ServerShell(self.core, observe=observe, note=self._note), asyncio.get_running_loop()
        self._stop = lambda: loop.call_soon_threadsafe(shell.stop)
        port = await shell.start(address, self._security)
        self._bound = str(parse_address(address, listening=True).at(port))
        self._ready.set()
        await shell.run()

    def result(self) -> Result:
        """The run as Flower reports one."""
        if self.core.finished is None:
            raise PeerLost("the session ended before the run did")
        return result_of(self.core.replica.z_D, self._history)


# -- the client's half ---------------------------------------------------------------------------------------------------


def add_session(app: Any) -> None:
    """Add the session's phase to a ClientApp."""
    app.train(SESSION.partition(".")[2])(_session)


@dataclasses.dataclass(frozen=True)
class _Invitation:
    recipe: str
    address: str
    token: str
    ca: str


def _session(message: Message, context: Context) -> Message:
    """Take part until the run ends."""
    record = message.content.config_records[FACTS]
    values: Any = {field.name: record[field.name] for field in dataclasses.fields(_Invitation)}
    invitation = _Invitation(**values)
    recipe, worker = recipe_from_dict(json.loads(invitation.recipe)), worker_of(context)
    if worker >= recipe.workers:
        return Message(RecordDict({FACTS: ConfigRecord({"worker": worker, "notes": ["not needed"]})}), reply_to=message)
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        ca = None
        if invitation.ca:
            ca = Path(folder) / "ca.pem"
            ca.write_text(invitation.ca)
        try:
            run_worker(
                recipe,
                worker,
                invitation.address,
                token=invitation.token,
                security=ClientSecurity(ca=ca),
                note=notes.append,
            )
        except SaddlebagError as error:
            raise type(error)(f"worker {worker}: {error}") from error
    facts = ConfigRecord({"worker": worker, "notes": notes})
    return Message(RecordDict({FACTS: facts}), reply_to=message)
