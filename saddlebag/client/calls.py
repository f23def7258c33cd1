"""A worker's calls beside its stream: sealed on the way out, checked on the way back; and which refusals it believes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc.aio
from google.protobuf.message import DecodeError

from saddlebag.errors import BrokenStream, RemoteProtocolError
from saddlebag.proto.endpoint import FATAL, RUN_OVER, SERVICE
from saddlebag.proto.seal import TEXT_SEAL, opened, seal_of_text, sealed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from saddlebag.client.account import ClientLedger

__all__ = ["Calls", "Refusals"]

_TIMES = 3  # that a refusal without our checksum must come in a row: gRPC's own, or an older server's


class Calls:
    """The calls of one connection.

    Args:
        channel: to the server.
        ledger: counts their bytes.
        metadata: of each call.
    """

    def __init__(self, channel: grpc.aio.Channel, ledger: ClientLedger, metadata: Any = ()) -> None:
        self._channel, self._ledger, self._metadata = channel, ledger, metadata

    def by(self, channel: grpc.aio.Channel) -> Calls:
        """The same calls on another connection."""
        return Calls(channel, self._ledger, self._metadata)

    async def ask(self, name: str, request: Any, reply_type: Any, timeout_s: float) -> Any:
        """One question, one answer.

        Raises:
            BrokenStream: the answer is not what was sent.
            RemoteProtocolError: it is no `reply_type`.
        """
        raw = sealed(request.SerializeToString())
        self._ledger.up += len(raw)
        answer = await self._channel.unary_unary(f"/{SERVICE}/{name}")(raw, metadata=self._metadata, timeout=timeout_s)
        return self._parsed(answer, reply_type)

    async def pieces(self, name: str, request: Any, reply_type: Any, timeout_s: float) -> AsyncIterator[Any]:
        """One question, an answer in pieces.

        Raises:
            BrokenStream: a piece is not what was sent, or does not come within `timeout_s`.
            RemoteProtocolError: it is no `reply_type`.
        """
        raw = sealed(request.SerializeToString())
        self._ledger.up += len(raw)
        call = self._channel.unary_stream(f"/{SERVICE}/{name}")(raw, metadata=self._metadata)
        try:
            while True:
                async with asyncio.timeout(timeout_s):
                    piece = await call.read()
                if piece is grpc.aio.EOF:
                    return
                yield self._parsed(piece, reply_type)
        except TimeoutError as error:
            raise BrokenStream(f"a piece of the {name.lower()} has not come for {timeout_s:g} s") from error
        finally:
            call.cancel()

    def _parsed(self, raw: bytes | None, reply_type: Any) -> Any:
        raw = raw or b""  # gRPC gives None where a status says that all is well and no message came
        self._ledger.down += len(raw)
        opened(raw, f"a {reply_type.__name__}")
        try:
            return reply_type.FromString(raw)
        except DecodeError as error:
            raise RemoteProtocolError(f"the server's answer is no {reply_type.__name__}") from error


class Refusals:
    """Which refusals end a worker: a flipped bit can turn the status of a call into any other, and a length into a limit."""

    def __init__(self) -> None:
        self._last, self._times = "", 0

    def believes(self, error: grpc.aio.AioRpcError) -> bool:
        """Whether this is a refusal, and was meant: it has the server's checksum, or came three times in a row."""
        code, text = error.code(), error.details() or ""
        if code not in (*FATAL, RUN_OVER):
            self._last = ""
            return False
        said = seal_of_text(code.name, text)
        if dict(error.trailing_metadata() or ()).get(TEXT_SEAL) == said:
            return True
        self._times = self._times + 1 if said == self._last else 1
        self._last = said
        return self._times == _TIMES
