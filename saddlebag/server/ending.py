"""How a server's run ends: once, by its own end or by the first failure, whatever that is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from saddlebag.errors import SaddlebagError, explained

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Ending"]


class Ending:
    """The one place where a run is declared over.

    Args:
        failed: told of the failure at once, to end whatever waits; no round can follow.

    Attributes:
        failure: why the run cannot go on; None while it can, and after its own end.
    """

    def __init__(self, failed: Callable[[SaddlebagError], None]) -> None:
        self._failed, self._over = failed, asyncio.Event()
        self.failure: SaddlebagError | None = None

    def come(self) -> None:
        """The run has reached its end, or is to stop."""
        self._over.set()

    def fail(self, error: Exception) -> None:
        """The run cannot go on; the first reason stays."""
        self.failure = self.failure or explained(error)
        self._over.set()
        self._failed(self.failure)

    def check(self) -> None:
        """Raise the failure, if there is one."""
        if self.failure is not None:
            raise self.failure

    async def wait(self) -> None:
        """Until the end or a failure."""
        await self._over.wait()

    def beside(self, work: Callable[[], Coroutine[Any, Any, object]]) -> asyncio.Task[None]:
        """Begin work that no call waits for; what it raises is a failure, and the task itself raises nothing."""

        async def watched() -> None:
            try:
                await work()
            except Exception as error:
                self.fail(error)

        return asyncio.create_task(watched())
