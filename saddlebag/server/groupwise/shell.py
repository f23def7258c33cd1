"""The gRPC side of the prediction service: moves bytes, checks the secret, maps errors."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2

from saddlebag.errors import SaddlebagError, StateError, explained
from saddlebag.proto.groupwise import CLIENT_KEY, GROUPWISE_SERVICE, SEALED_KEY, TOKEN_KEY
from saddlebag.proto.seal import opened, sealed
from saddlebag.server.calls import status_of
from saddlebag.server.port import open_port, serve_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from saddlebag.proto.endpoint import ServerSecurity
    from saddlebag.server.groupwise.service import GroupwiseService

_GRACE_S = 2.0  # for calls under way at the end


class GroupwiseShell:
    """Serves predictions until it is stopped."""

    def __init__(self, service: GroupwiseService, *, token: str = "", note: Callable[[str], None] = lambda text: None) -> None:
        self._service, self._token, self._note = service, token, note
        self._over = asyncio.Event()
        self._failure: SaddlebagError | None = None
        self._server: grpc.aio.Server | None = None
        self._health = health.aio.HealthServicer()

    async def start(self, address: str, security: ServerSecurity) -> int:
        """Open the port; returns its number.

        Raises:
            ConfigError: the port is in use, or the address is not loopback and the server not secured.
        """
        self._server, port = await open_port(
            GROUPWISE_SERVICE,
            self._methods(),
            address,
            security,
            has_token=bool(self._token),
            warn=self._note,
            servicer=self._health,
        )
        return port

    def stop(self) -> None:
        """End `run`."""
        self._over.set()

    async def run(self) -> None:
        """Serve until `stop`, then write a last checkpoint.

        Raises:
            StateError: the journal or a checkpoint could not be written, or gRPC has closed the port by itself.
            SaddlebagError: a call failed in a way that no peer can cause; the journal has it, or it was not applied.
        """
        assert self._server is not None, "start first"
        try:
            await serve_until(self._server, self._over)
        finally:
            await self._server.stop(_GRACE_S)
        if self._failure is not None:
            raise self._failure
        self._service.checkpoint()

    def _methods(self) -> dict[str, grpc.RpcMethodHandler]:
        service = self._service
        unary = grpc.unary_unary_rpc_method_handler
        return {
            "Describe": unary(self._unary(lambda raw, owner: service.describe())),
            "Predict": unary(self._unary(service.predict)),
            "Feedback": unary(self._unary(service.feedback)),
            "Partial": unary(self._unary(service.partial)),
            "AddGroups": unary(self._unary(service.add_groups)),
            "Report": unary(self._unary(lambda raw, owner: service.report())),
            "Stream": grpc.stream_stream_rpc_method_handler(self._stream),
        }

    def _unary(self, answer: Callable[[bytes, int], Any]) -> Any:
        async def call(raw: bytes, context: Any) -> Any:
            owner, seals = await self._admit(context)
            try:
                return _written(answer(_read(raw, seals), owner), seals)
            except Exception as error:  # of whatever class: see `_refuse`
                await self._refuse(error, context)

        return call

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        owner, seals = await self._admit(context)
        async for raw in requests:
            try:
                reply = _written(self._service.stream(_read(raw, seals), owner), seals)
            except Exception as error:  # of whatever class: see `_refuse`
                await self._refuse(error, context)
            yield reply

    async def _admit(self, context: Any) -> tuple[int, bool]:
        """Refuse a call without the secret; the client whose tickets it may use, and whether its messages are sealed."""
        metadata = dict(context.invocation_metadata() or ())
        if self._token and not hmac.compare_digest(str(metadata.get(TOKEN_KEY, "")).encode(), self._token.encode()):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"metadata {TOKEN_KEY} must hold the server's secret")
        owner = owner_of(context.peer_identities() or (), str(metadata.get(CLIENT_KEY, "")))
        return owner, metadata.get(SEALED_KEY) == "1"

    async def _refuse(self, error: Exception, context: Any) -> None:
        told = await self.refused(error)
        await context.abort(status_of(told), str(told))

    async def refused(self, error: Exception) -> SaddlebagError:
        """What a call that failed is answered; where none may follow it, the service ends."""
        told = explained(error)
        if isinstance(told, StateError) or told is not error:  # not on record and not applied, or nobody knows: none may follow
            self._failure = self._failure or told
            await self._health.set(GROUPWISE_SERVICE, health_pb2.HealthCheckResponse.NOT_SERVING)
            self._over.set()
        return told


def owner_of(certificate: Iterable[bytes], identity: str) -> int:
    """The number of a client: from the names in its certificate, else from the identity it shows; 0 without both.

    Example:
        >>> owner_of((), "")
        0
        >>> owner_of([b"alice"], "x") == owner_of([b"alice"], "y")
        True
    """
    names = sorted(certificate)
    if not names and not identity:
        return 0
    told = b"certificate\n" + b"\n".join(names) if names else b"identity\n" + identity.encode()
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "little") or 1


def _read(raw: bytes, seals: bool) -> bytes:
    """A request that has come; BrokenStream where it is not what was sent."""
    return bytes(opened(raw, "a request")) if seals else raw


def _written(reply: Any, seals: bool) -> bytes:
    """A reply as it travels."""
    data: bytes = reply.SerializeToString()
    return sealed(data) if seals else data
