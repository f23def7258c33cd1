"""Two levels: local rounds of a site whose server is itself a worker of another run.

Every P-th downlink of the site has a last part more, the way from where the site stood after the last such round to the point
on which all sites agree; everybody replays it, so replicas stay alike.

    site, round k     z' = the point after its own round
    if P | k + 1      Delta = a - z' goes up; the point v of the run above comes down
                      c = C_s(v - a) is the last part of the downlink;    z <- a + c;    a <- z
    else              z <- z'

a is where the site began its way, so what it has done since is taken back without a byte, and v - a is as sparse as what came
down from above. What C_s leaves out is in the next v - a by itself (EF21 does the same: Richtarik et al. 2021); it is not in
Delta, where it would take back what other sites have done. The outer momentum of the site stays. Two levels of parameter
servers: Lin et al. 2020, hierarchical local SGD.

Shapes: D = coordinates.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.base import Message
from saddlebag.algorithms.optimizers.local_rounds import LocalRounds

if TYPE_CHECKING:
    from saddlebag.compression import Draws, Vector


@dataclasses.dataclass(frozen=True, eq=False)
class SitePoint:
    """What a site's replicas hold: the method's own, and a, from which the site's way above counts."""

    own: Any
    anchor_D: Vector

    @property
    def z_D(self) -> Vector:
        """The point at which the programs are."""
        z_D: Vector = self.own.z_D
        return z_D

    @property
    def iteration(self) -> int:
        """The place in the schedule."""
        iteration: int = self.own.iteration
        return iteration


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
        return (*sizes, *sizes) if self._due(draws) else sizes

    def init_replica(self, z_D: Vector) -> SitePoint:
        return SitePoint(super().init_replica(z_D), z_D)

    def replay(self, replica: SitePoint, down: Message, draws: Draws) -> SitePoint:
        if not self._due(draws):
            return SitePoint(super().replay(replica.own, down, draws), replica.anchor_D)
        half, place = len(down.parts) // 2, 0
        z_D = replica.anchor_D.copy()
        for part in down.parts[half:]:
            part.add_to(z_D[place : place + part.dimension])
            place += part.dimension
        led = super().replay(replica.own, Message(down.parts[:half]), draws)
        return SitePoint(dataclasses.replace(led, z_D=z_D), z_D)


def site_rounds(method: LocalRounds, period: int) -> SiteRounds:
    """The method of a site of its own, below another server."""
    fields = {field.name: getattr(method, field.name) for field in dataclasses.fields(LocalRounds)}
    return SiteRounds(**fields, period=period)


def led(method: SiteRounds, replica: SitePoint, down: Message, draws: Draws) -> Vector:
    """z', float64 (D,): where a downlink leads that has no part from above."""
    z_D: Vector = LocalRounds.replay(method, replica.own, down, draws).z_D
    return z_D


def corrected(method: SiteRounds, replica: SitePoint, down: Message, point_D: Vector, draws: Draws) -> Message:
    """The downlink that leads towards `point_D`, as far as the compressor goes."""
    way, _ = method._sent(method.down, point_D - replica.anchor_D, np.zeros(len(point_D)), draws)
    return Message((*down.parts, *way.parts))
