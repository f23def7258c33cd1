"""Two levels: local rounds of a site whose server is itself a worker of another run.

Every P-th downlink of the site has a last part more, the way from where the site's round leads to the point on which all sites
agree; everybody replays it, so replicas stay alike.

    site, round k     z' = the point after its own round
    if P | k + 1      Delta = v - z' goes up, v being the last point from above; a new v comes down
                      delta = v - z' is the last part of the downlink;    z <- z' + delta
    else              z <- z'

Delta counts from v, not from the site's z: what the float32 of delta rounds off is in the next Delta. The outer momentum of the
site stays. Two levels of parameter servers: Lin et al. 2020, hierarchical local SGD.

Shapes: D = coordinates.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.base import Message
from saddlebag.algorithms.optimizers.local_rounds import LocalRounds
from saddlebag.compression import Dense
from saddlebag.compression.values import cast

if TYPE_CHECKING:
    from saddlebag.compression import Draws, Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiteRounds(LocalRounds):
    """A site's method; see the module.

    Attributes:
        period: P, rounds of the site between exchanges above, at least 1.
    """

    period: int

    def _due(self, draws: Draws) -> bool:
        """Whether this round's downlink has the last part."""
        return (draws.round + 1) % self.period == 0

    def downlink_sizes(self, replica: Any, draws: Draws) -> tuple[int, ...]:
        sizes = self.uplink_sizes(replica, draws)
        return (*sizes, len(replica.z_D)) if self._due(draws) else sizes

    def replay(self, replica: Any, down: Message, draws: Draws) -> Any:
        if not self._due(draws):
            return super().replay(replica, down, draws)
        moved = super().replay(replica, Message(down.parts[:-1]), draws)
        z_D = moved.z_D.copy()
        down.parts[-1].add_to(z_D)
        return dataclasses.replace(moved, z_D=z_D)


def site_rounds(method: LocalRounds, period: int) -> SiteRounds:
    """The method of a site of its own, below another server."""
    fields = {field.name: getattr(method, field.name) for field in dataclasses.fields(LocalRounds)}
    return SiteRounds(**fields, period=period)


def led(method: SiteRounds, replica: Any, down: Message, draws: Draws) -> Vector:
    """z', float64 (D,): where a downlink without its last part leads."""
    z_D: Vector = LocalRounds.replay(method, replica, down, draws).z_D
    return z_D


def corrected(down: Message, led_D: Vector, point_D: Vector) -> Message:
    """The downlink that leads to `point_D` instead of `led_D`, but for the rounding of float32."""
    return Message((*down.parts, Dense(cast(point_D - led_D))))
