"""The prediction service over REST and JSON, for programs without gRPC: the same calls, tickets, identities and errors.

    GET  /describe    what `Describe` tells
    GET  /report      what `Report` tells
    POST /predict     {"rows": [{"age": 30, "sex": "Female"}]}          -> tickets, predictions, low, high, calibrated
    POST /learn       {"tickets": [0], "labels": [41.5]}                -> outcomes

Rows and labels are plain values, as in `GroupwiseClient.predict_table`; null is a missing one. The secret and the identity are
headers with the names of gRPC's metadata. An error is {"error": "one line"}. It runs in the service's own loop: starlette and
uvicorn (the extra `rest`) know HTTP, and every call goes through the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.json_format import MessageToDict

from saddlebag.client.groupwise.requests import predicted, table_request, values_request
from saddlebag.errors import ConfigError, NotFiniteError, RemoteProtocolError
from saddlebag.proto.address import parse_address
from saddlebag.proto.frames import FRAME_BYTES
from saddlebag.proto.groupwise import CLIENT_KEY, TOKEN_KEY
from saddlebag.server.groupwise.shell import owner_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from saddlebag.proto.endpoint import ServerSecurity
    from saddlebag.server.groupwise.service import GroupwiseService
    from saddlebag.server.groupwise.shell import GroupwiseShell

_LARGEST = 4 * FRAME_BYTES  # bytes of a body; text takes more than numbers do
_PATIENCE_S = 30.0  # with a body that comes slowly
_CONNECTIONS = 64  # with a body each
_KEYS = {"/predict": ("rows",), "/learn": ("tickets", "labels")}


class Gateway:
    """Answers requests of an ASGI server by the service."""

    def __init__(self, service: GroupwiseService, shell: GroupwiseShell, token: str) -> None:
        self._service, self._shell, self._token = service, shell, token
        self._known = (0, service.describe())

    @property
    def _about(self) -> Any:
        """What the service says of itself; anew where groups have joined."""
        groups = len(self._service.core.settings.groups)
        if self._known[0] != groups:
            self._known = (groups, self._service.describe())
        return self._known[1]

    def routes(self) -> list[Any]:
        """The routes, for `Starlette`."""
        from starlette.routing import Route

        gets: dict[str, Callable[[], Any]] = {"/describe": self._service.describe, "/report": self._service.report}
        found = [Route(path, self._getting(of)) for path, of in gets.items()]
        posts = {"/predict": (self._rows, self._predict), "/learn": (self._labels, self._learn)}
        return found + [Route(path, self._posting(path, *of), methods=["POST"]) for path, of in posts.items()]

    def _getting(self, of: Callable[[], Any]) -> Any:
        async def endpoint(request: Any) -> Any:
            return self._refused(request) or await self._answered(lambda: _plain(of()))

        return endpoint

    def _posting(self, path: str, read: Callable[[dict[str, Any]], bytes], answer: Callable[[bytes, int], Any]) -> Any:
        async def endpoint(request: Any) -> Any:
            if (refused := self._refused(request)) is not None:
                return refused
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    raw = read(await _values(request, _KEYS[path]))
            except Exception as error:  # whatever it is, the request's fault: the service has not been asked yet
                return _error(400, str(error) or f"no whole body within {_PATIENCE_S:g} s")
            owner = owner_of((), request.headers.get(CLIENT_KEY, ""))
            return await self._answered(lambda: answer(raw, owner))

        return endpoint

    def _refused(self, request: Any) -> Any | None:
        shown = request.headers.get(TOKEN_KEY, "")
        if self._token and not hmac.compare_digest(shown.encode(), self._token.encode()):
            return _error(401, f"the header {TOKEN_KEY} must hold the server's secret")
        return None

    async def _answered(self, ask: Callable[[], dict[str, Any]]) -> Any:
        from starlette.responses import JSONResponse

        try:
            return JSONResponse(ask())
        except Exception as error:  # of whatever class: as over gRPC
            told = await self._shell.refused(error)
            return _error(400 if isinstance(told, RemoteProtocolError | NotFiniteError) else 503, str(told))

    def _rows(self, values: dict[str, Any]) -> bytes:
        raw: bytes = table_request(self._about, values["rows"], weights=False).SerializeToString()
        return raw

    def _labels(self, values: dict[str, Any]) -> bytes:
        tickets = values["tickets"]
        if not all(type(ticket) is int and 0 <= ticket < 1 << 64 for ticket in tickets):
            raise RemoteProtocolError("tickets must be whole numbers from 0 to 2^64 - 1")
        if len(tickets) != len(values["labels"]):
            raise RemoteProtocolError(f"{len(tickets)} tickets came with {len(values['labels'])} labels")
        raw: bytes = values_request(self._about, np.array(tickets, np.uint64), values["labels"]).SerializeToString()
        return raw

    def _predict(self, raw: bytes, owner: int) -> dict[str, Any]:
        answer = predicted(self._service.predict(raw, owner))
        found = {"predictions": answer.value_N, "low": answer.low_NM, "high": answer.high_NM, "calibrated": answer.calibrated_N}
        listed = {name: _listed(value) for name, value in found.items() if value is not None and value.size}
        return {"tickets": answer.ticket_N.tolist(), **listed}

    def _learn(self, raw: bytes, owner: int) -> dict[str, Any]:
        return {"outcomes": list(self._service.feedback(raw, owner).outcomes)}


def _error(status: int, text: str) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": text}, status)


def _listed(value: npt.NDArray[Any]) -> list[Any]:
    """Numbers as JSON has them: null for what is not finite."""
    whole = value.astype(object)
    whole[~np.isfinite(value)] = None
    listed: list[Any] = whole.tolist()
    return listed


async def _values(request: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    """The JSON of a body of bounded size, which holds these keys and lists in them."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST:
            raise RemoteProtocolError(f"a body has at most {_LARGEST} bytes; send fewer rows")
    try:
        values = json.loads(bytes(body), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"a body must be JSON: {error}") from error
    if not isinstance(values, dict) or set(values) != set(keys) or not all(isinstance(values[key], list) for key in keys):
        raise RemoteProtocolError(f"a body must be an object with the lists {' and '.join(keys)}, and nothing else")
    return values


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON; a missing value is null")


def _plain(message: Any) -> dict[str, Any]:
    values: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return values


def _server(gateway: Gateway, security: ServerSecurity) -> Any:
    """The ASGI server, which leaves signals and logs to the service."""
    try:
        import uvicorn
        from starlette.applications import Starlette
    except ImportError as error:
        raise ConfigError("--rest needs the packages starlette and uvicorn: pip install 'saddlebag[rest]'") from error

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """The service has handlers of its own."""
            yield

    files = {"ssl_certfile": security.certificate, "ssl_keyfile": security.key} if security.certificate is not None else {}
    options: Any = {"log_config": None, "access_log": False, "lifespan": "off", "server_header": False, "ws": "none", **files}
    return Server(uvicorn.Config(Starlette(routes=gateway.routes()), limit_concurrency=_CONNECTIONS, **options))


async def serve_rest(
    address: str, service: GroupwiseService, shell: GroupwiseShell, security: ServerSecurity, token: str
) -> tuple[Callable[[], Any], int]:
    """Answer REST at HOST:PORT in the running loop; returns what ends it, to be awaited, and the port.

    Raises:
        ConfigError: starlette or uvicorn are not installed, the address cannot be used or asks for more security, or the
            service has no columns, or asks clients for certificates.
    """
    if service.core.settings.shards > 1:
        raise ConfigError("--rest: a share of the groups predicts only together with the others; serve without --shard")
    if security.ca is not None:
        raise ConfigError("--rest knows no clients' certificates; leave --tls-ca out, the secret is asked for")
    place = parse_address(address, "--rest", listening=True)
    security.require_safe(place.name, bool(token), lambda text: None)
    server = _server(Gateway(service, shell, token), security)
    try:
        listening = socket.create_server((place.host, place.port))
    except OSError as error:
        raise ConfigError(f"cannot serve REST at {address}: {error.strerror or error}") from error
    running = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not running.done():
        await asyncio.sleep(0.01)
    if running.done():
        listening.close()
        await running

    async def stop() -> None:
        server.should_exit = True
        await running
        listening.close()

    return stop, int(listening.getsockname()[1])
