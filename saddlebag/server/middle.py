"""The server of a site that is itself a worker of another server: two levels. See `SiteRounds` for the mathematics.

The exchange above is a part of the round's end: its answer lies in the site's downlink before anybody sees that, and a server
that comes back asks again for what it had not stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from saddlebag.algorithms.optimizers.site_rounds import SiteRounds, corrected, led
from saddlebag.algorithms.simulate import Verdict
from saddlebag.errors import ConfigError
from saddlebag.proto.checkpoint import count
from saddlebag.proto.handshake import DONE
from saddlebag.server.core import ServerCore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from saddlebag.algorithms import AnyMethod, Message, Spent
    from saddlebag.compression import Mean, Vector
    from saddlebag.server.effects import ServerSettings

__all__ = ["Above", "MiddleCore", "require_waiting"]


class Above(Protocol):
    """What a site's server needs of its worker above.

    Attributes:
        over: whether the run above has ended.
        round: the boundary there from which the site went on last.
    """

    over: bool
    round: int

    def resume(self, at: int) -> None:
        """Go on there, where the site's checkpoint says that its last point was from the boundary `at`."""

    def exchange(self, change_D: Vector) -> Vector:
        """Say from where the site comes, less where it is, and hear where all go on.

        Both are float64 (D,); waits for the round above to end.
        """


def require_waiting(*, merging: bool, checkpoint_every: int) -> None:
    """Refuse settings with which a site could not say above, after a crash, what it had said before.

    Raises:
        ConfigError: its rounds close without some members, or boundaries are not kept.
    """
    if merging:
        raise ConfigError(
            "a site below another server waits for all of its members, so that it says the same again after a crash: "
            "leave quorum, weights and balance out; the server above may have them"
        )
    if checkpoint_every != 1:
        raise ConfigError(
            f"a site below another server keeps every boundary: --checkpoint-every must be 1, got {checkpoint_every}"
        )


class MiddleCore(ServerCore):
    """See the module, and `ServerCore` for the events.

    Raises:
        ConfigError: the site's rounds do not wait for all of its members, or it keeps too few checkpoints.
    """

    aside = True

    def __init__(
        self,
        method: AnyMethod,
        judge: Callable[[int, Any, Any, Spent], Verdict],
        start_D: Vector,
        settings: ServerSettings,
        now: float,
        *,
        above: Above,
    ) -> None:
        assert isinstance(method, SiteRounds), "a site's downlinks have a part from above"
        require_waiting(merging=settings.merging, checkpoint_every=settings.checkpoint_every)
        self._site, self._above, self._inner = method, above, judge
        super().__init__(method, self._judged, start_D, settings, now)

    def _judged(self, rounds: int, before: Any, after: Any, spent: Spent) -> Verdict:
        """The run ends when that above does."""
        verdict = self._inner(rounds, before, after, spent)
        return verdict if verdict.reason or not self._above.over else Verdict(verdict.merits, DONE)

    def formed(self, means: tuple[Mean, ...]) -> tuple[Any, Message]:
        own, down = super().formed(means)
        if (self.round + 1) % self._site.period:
            return own, down
        led_D = led(self._site, self.replica, down, self._draws)
        point_D = self._above.exchange(self.replica.anchor_D - led_D)
        return own, corrected(self._site, self.replica, down, point_D, self._draws)

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "above": self._above.round}

    def take_facts(self, meta: Mapping[str, Any]) -> None:
        super().take_facts(meta)
        self._above.resume(count(meta, "above"))
