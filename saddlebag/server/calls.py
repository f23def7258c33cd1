"""The calls of the service: names and types of the schema on one side, coroutines of the shell on the other."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from saddlebag.errors import BrokenStream, PeerLost, RemoteProtocolError, SaddlebagError, explained
from saddlebag.proto.endpoint import RUN_OVER
from saddlebag.proto.handshake import PROTOCOL, other_version
from saddlebag.proto.seal import TEXT_SEAL, is_sealed, opened, seal_of_text, sealed
from saddlebag.proto.v1 import parameter_server_pb2 as pb
from saddlebag.server.joining import RunOver
from saddlebag.server.roster import RankTaken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from saddlebag.server.ending import Ending

__all__ = ["Calls", "handlers", "names_of", "refuse", "status_of"]


class Calls(Protocol):
    """The coroutines behind the calls: `ServerShell` has them.

    Attributes:
        ending: of the run that they serve.
    """

    ending: Ending

    async def join(self, request: pb.JoinRequest, context: Any) -> pb.JoinReply: ...

    async def heartbeat(self, request: pb.HeartbeatRequest, context: Any) -> pb.HeartbeatReply: ...

    async def secure(self, request: pb.SecureRequest, context: Any) -> pb.SecureReply: ...

    async def leave(self, request: pb.LeaveRequest, context: Any) -> pb.LeaveReply: ...

    def snapshot(self, request: bytes, context: Any) -> AsyncIterator[pb.SnapshotChunk]: ...

    async def exchange(self, requests: Any, context: Any) -> None: ...


STATUS = {
    BrokenStream: grpc.StatusCode.DATA_LOSS,
    RemoteProtocolError: grpc.StatusCode.INVALID_ARGUMENT,
    PeerLost: grpc.StatusCode.DEADLINE_EXCEEDED,
    RunOver: RUN_OVER,
    RankTaken: grpc.StatusCode.ALREADY_EXISTS,
    SaddlebagError: grpc.StatusCode.FAILED_PRECONDITION,
}
"""The one table from exceptions to gRPC status codes: the first kind that fits."""


def status_of(error: SaddlebagError) -> grpc.StatusCode:
    """The status that tells a peer of an error."""
    return next(code for kind, code in STATUS.items() if isinstance(error, kind))


async def refuse(context: Any, code: grpc.StatusCode, text: str) -> None:
    """End a call with a status, and with the checksum by which a worker knows that we said so."""
    await context.abort(code, text, ((TEXT_SEAL, seal_of_text(code.name, text)),))


def handlers(shell: Calls) -> dict[str, grpc.RpcMethodHandler]:
    """The methods of the service, by name. Frames pass as raw bytes; other messages are checked, parsed and sealed here."""
    unary = functools.partial(_unary, shell)

    async def exchange(requests: Any, context: Any) -> None:
        async with _answering(shell, context):
            await shell.exchange(requests, context)

    async def snapshot(request: bytes, context: Any) -> AsyncIterator[bytes]:
        async with _answering(shell, context):
            opened(request, "a request for a snapshot")
            async for chunk in shell.snapshot(request, context):
                yield sealed(chunk.SerializeToString())

    return {
        "Join": unary(shell.join, pb.JoinRequest),
        "Exchange": grpc.stream_stream_rpc_method_handler(exchange),
        "Snapshot": grpc.unary_stream_rpc_method_handler(snapshot),
        "Heartbeat": unary(shell.heartbeat, pb.HeartbeatRequest),
        "Secure": unary(shell.secure, pb.SecureRequest),
        "Leave": unary(shell.leave, pb.LeaveRequest),
    }


@contextlib.asynccontextmanager
async def _answering(shell: Calls, context: Any) -> AsyncIterator[None]:
    """Around a call: an error that a peer may cause ends the call, any other one the run, and the peer is told of both."""
    try:
        yield
    except grpc.aio.BaseError:  # it has been answered, or the peer is gone
        raise
    except Exception as error:
        told = explained(error)
        if told is not error:
            shell.ending.fail(told)
        await refuse(context, status_of(told), str(told))


def _unary(shell: Calls, call: Any, request_type: Any) -> Any:
    async def answer(raw: bytes | None, context: Any) -> bytes:
        async with _answering(shell, context):
            reply = await call(_parsed(raw or b"", request_type), context)
            return sealed(reply.SerializeToString())
        raise AssertionError("an error ends the call")

    return grpc.unary_unary_rpc_method_handler(answer)


def _parsed(raw: bytes, request_type: Any) -> Any:
    """A request that came.

    Raises:
        BrokenStream: it is not what was sent.
        ConfigError: it is of a version without checksums.
        RemoteProtocolError: it is what was sent, and no such request.
    """
    whole = is_sealed(raw)
    try:
        request = request_type.FromString(raw)
    except DecodeError as error:
        if whole:
            raise RemoteProtocolError(f"these bytes are no {request_type.__name__}") from error
        request = None
    if not whole:
        if isinstance(request, pb.JoinRequest) and 0 < request.protocol < PROTOCOL and not request.checksum:
            raise other_version(request.protocol)
        opened(raw, f"a {request_type.__name__}")
    return request


def names_of(context: Any) -> tuple[str, ...]:
    """The names in the certificate of a client that has shown one."""
    shown = context.auth_context()
    names = [name for key in ("x509_common_name", "x509_subject_alternative_name") for name in shown.get(key, ())]
    return tuple(name.decode(errors="replace") for name in names)
