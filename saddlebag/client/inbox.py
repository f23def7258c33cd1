"""What comes on a worker's stream."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["Inbox"]


class Inbox:
    """Reads a stream: when it is asked, or `ahead`, as messages come.

    Where rounds do not wait, downlinks may come while the worker computes or sends. If nobody took them, the server would stand
    in its writing with its reading undone, and the worker in its own.

    Args:
        call: the stream; its `read` gives bytes, or EOF for ever.
        ahead: whether to read as messages come.
    """

    def __init__(self, call: Any, *, ahead: bool) -> None:
        self._call = call
        self._there: asyncio.Queue[Any] = asyncio.Queue()
        self._task = asyncio.create_task(self._read_on()) if ahead else None

    async def _read_on(self) -> None:
        while True:
            try:
                raw = await self._call.read()
            except BaseException as error:
                self._there.put_nowait(error)
                raise
            self._there.put_nowait(raw)
            if not isinstance(raw, bytes):
                return

    async def read(self) -> Any:
        """The next message, or gRPC's EOF.

        Raises:
            Exception: what ended the stream.
        """
        if self._task is None or (self._task.done() and self._there.empty()):
            return await self._call.read()
        raw = await self._there.get()
        if isinstance(raw, BaseException):
            raise raw
        return raw

    def close(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            self._task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # it has been told
