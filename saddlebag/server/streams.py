"""The open streams of a server: which task serves which worker, and how it is woken or ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc

__all__ = ["Doorbell", "Gate", "Streams"]


class Doorbell:
    """Many tasks wait, one event wakes them all."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def wait(self) -> asyncio.Future[None]:
        """Done at the next `ring`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future

    def ring(self) -> None:
        """Wake all that wait now."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()


class Gate(Doorbell):
    """A doorbell at the boundary up to which workers may come: past it, the checkpoint before the last is not on disk yet."""

    def __init__(self, boundary: int) -> None:
        super().__init__()
        self._boundary = boundary

    def lets(self, boundary: int) -> bool:
        """Whether workers may come there."""
        return boundary <= self._boundary

    def open(self, boundary: int) -> None:
        """They may, from now on."""
        self._boundary = boundary
        self.ring()


class Streams:
    """The tasks that serve workers' streams; one for each worker at most."""

    def __init__(self) -> None:
        self._tasks: dict[int, asyncio.Task[Any]] = {}
        self._verdicts: dict[asyncio.Task[Any], tuple[grpc.StatusCode, str]] = {}

    def open(self, worker: int) -> asyncio.Task[Any]:
        """The present task serves this worker."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks[worker] = task
        return task

    def close(self, worker: int, task: asyncio.Task[Any]) -> None:
        """The task no longer serves it."""
        if self._tasks.get(worker) is task:
            del self._tasks[worker]

    def end(self, worker: int, code: grpc.StatusCode, reason: str) -> None:
        """End a worker's stream, if it has one, with this status."""
        task = self._tasks.pop(worker, None)
        if task is not None and not task.done():
            self._verdicts[task] = (code, reason)
            if task is not asyncio.current_task():
                task.cancel()

    def end_all(self, code: grpc.StatusCode, reason: str) -> None:
        """End every stream."""
        for worker in list(self._tasks):
            self.end(worker, code, reason)

    def ended(self, task: asyncio.Task[Any]) -> bool:
        """Whether the task was told to end."""
        return task in self._verdicts

    def verdict(self, task: asyncio.Task[Any]) -> tuple[grpc.StatusCode, str] | None:
        """With which status the task was told to end, once."""
        return self._verdicts.pop(task, None)
