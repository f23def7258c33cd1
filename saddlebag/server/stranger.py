"""Calls of no known name: each is refused, and none ends the server.

From 1.84 on, grpcio's asyncio server reads the name of every call that it does not know beforehand as UTF-8, and shuts down
where that fails: one flipped bit, or one stranger, and the port is closed. So names are registered, and the others are answered
here, unread. Older releases, and those that no longer work in this way, are taken as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from grpc._cython import cygrpc

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["hardened"]

_ASKED = "_make_request_call_future"  # of the server, which is made anew below
_NEEDED = ("_RequestCallError", "_handle_rpc", "_MethodResolver")


def _reads_names() -> bool:
    """Whether this grpcio is of the kind that is mended here."""
    return all(hasattr(cygrpc, name) for name in _NEEDED) and _ASKED in dir(cygrpc.AioServer)


class _Hardened(cygrpc.AioServer):  # type: ignore[misc]  # gRPC ships no types
    """grpcio's server; what comes for no registered method never reaches the place that reads its name."""

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        coming: asyncio.Future[Any] = super()._make_request_call_future(method)
        return coming if method is not None else asyncio.create_task(_refused(coming))


_answers: set[asyncio.Task[None]] = set()  # the loop holds tasks weakly


async def _refused(coming: asyncio.Future[Any]) -> None:
    """Answer one call as gRPC answers unknown ones; the error says that there is nothing to serve, and to take the next."""
    task = asyncio.create_task(_answer(await coming))
    _answers.add(task)
    task.add_done_callback(_answers.discard)
    raise cygrpc._RequestCallError


async def _answer(call: Any) -> None:
    with contextlib.suppress(Exception):  # the peer is gone
        nothing = cygrpc._MethodResolver([], {})
        await cygrpc._handle_rpc("", nothing, (), call, asyncio.get_running_loop(), False)


@contextlib.contextmanager
def hardened() -> Iterator[None]:
    """Servers made in the block refuse unknown calls, and go on; their methods must be registered."""
    if not _reads_names():
        yield
        return
    plain, cygrpc.AioServer = cygrpc.AioServer, _Hardened  # where `grpc.aio.server` looks for it
    try:
        yield
    finally:
        cygrpc.AioServer = plain
