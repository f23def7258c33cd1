"""What MASHA1 and MASHA2 share: the anchor point w, its full exchange, and the rule that renews it.

Beznosikov, Richtarik, Diskin, Ryabinin, Gasnikov 2022, "Distributed methods with compressed communication for solving
variational inequalities, with theoretical guarantees". Both rules for w are correct:

* "current", w^{k+1} = z^k: the coin is a function of (seed, round), so every worker knows at the start of a round that
  F_m(z^k) will be needed, and the full vectors ride on the ordinary messages;
* "next", w^{k+1} = z^{k+1}: a synchronisation is a round of its own.

The initial exchange of F_m(w^0) is such a round under both rules.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, TypedDict

import numpy as np

from saddlebag.algorithms.agreed.auto_step import Strain
from saddlebag.algorithms.base import square
from saddlebag.algorithms.finite_sum import as_finite_sum, batch_index, check_batch, finite_sums
from saddlebag.algorithms.methods.full import WireType, check_wire_type, synchronise
from saddlebag.compression import Grid
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Message, Operator, Problem
    from saddlebag.compression import Compressor, Draws, Mean, Payload, Vector

_AnchorRule: TypeAlias = Literal["current", "next"]


@dataclasses.dataclass(frozen=True, eq=False)
class AnchoredReplica:
    """z, w and F(w) as all machines know them; `syncing` when the next round only renews F(w)."""

    z_D: Vector
    w_D: Vector
    operator_w_D: Vector
    iteration: int
    syncing: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anchored:
    """Parameters and the full exchange.

    Attributes:
        step_size: gamma > 0.
        probability: p in (0, 1], the chance that w is renewed; tau = 1 - p.
        up, down: the workers' and the server's compressor.
        rule: which point becomes the anchor.
        wire: type of full vectors on the wire.
        batch: b, samples for a difference F_m(zh) - F_m(w), the same at both points; None for all of them.
        sync_batch: samples for F_m(w) at a synchronisation; None for all of them. Its error stays until the next one, so it
            should be 1/p times `batch` or more.
        sync_grid: step of the `grid` through which synchronisations after the first are sent, as innovations of what the
            other side knows; None for full vectors of type `wire`. What F(w) then lacks is made up for in every message:
            MASHA1's slope stays unbiased for F(zh), with noise that is also proportional to the memories' errors. The
            theorems do not cover it.
    """

    step_size: float
    probability: float
    up: Compressor
    down: Compressor
    rule: _AnchorRule = "current"
    wire: WireType = "float32"
    batch: int | None = None
    sync_batch: int | None = None
    sync_grid: float | None = None

    def __post_init__(self) -> None:
        if not (self.step_size > 0 and np.isfinite(self.step_size)):
            raise ConfigError(f"step_size must be a positive number, got {self.step_size}")
        if not 0 < self.probability <= 1:
            raise ConfigError(f"probability must lie in (0, 1], got {self.probability}")
        if self.rule not in ("current", "next"):
            raise ConfigError(f"rule must be 'current' or 'next', got {self.rule!r}")
        check_wire_type(self.wire)
        if self.sync_grid is not None:
            if self.batch is not None:
                raise ConfigError("sync_grid does not go with batches: their differences are against the exact F_m(w)")
            Grid(step=self.sync_grid)  # refuses steps that are out of range
        check_batch("batch", self.batch)
        check_batch("sync_batch", self.sync_batch)
        if self.sync_batch is not None and self.batch is None:
            raise ConfigError(f"sync_batch needs a batch for the differences too, got sync_batch={self.sync_batch} alone")

    @property
    def unsliceable(self) -> str:
        """Why it does not work slice by slice: see `Sliceable`."""
        return "with a batch its workers ask for samples, not for values of the operator" if self.batch is not None else ""

    def init_replica(self, z_D: Vector) -> AnchoredReplica:
        return AnchoredReplica(z_D, z_D, np.zeros(len(z_D)), iteration=0, syncing=True)

    def synchronises(self, replica: AnchoredReplica, draws: Draws) -> bool:
        return replica.syncing or (self.rule == "current" and draws.coin(self.probability))

    def uplink_sizes(self, replica: AnchoredReplica, draws: Draws) -> tuple[int, ...]:
        """The increment of F_m(w) if there is one, then the compressed difference if there is one."""
        parts = self.synchronises(replica, draws) + (not replica.syncing)
        return (len(replica.z_D),) * parts

    downlink_sizes = uplink_sizes

    def _pulled(self, replica: AnchoredReplica) -> Vector:
        """The pulled point zbar = tau z + p w."""
        return (1.0 - self.probability) * replica.z_D + self.probability * replica.w_D

    def _worker_full(
        self, replica: AnchoredReplica, known_D: Vector, operator: Operator, draws: Draws
    ) -> tuple[Vector, tuple[Payload, ...]]:
        """F_m at the coming anchor, as an increment of what the server knows of F_m(w); nothing in other rounds."""
        if not self.synchronises(replica, draws):
            return known_D, ()
        anchor_D = replica.w_D if replica.syncing else replica.z_D
        payload, known_D = self._tell(replica, self._anchor_value(anchor_D, operator, draws), known_D, draws)
        return known_D, (payload,)

    def _tell(self, replica: AnchoredReplica, x_D: Vector, known_D: Vector, draws: Draws) -> tuple[Payload, Vector]:
        """`synchronise`, in full the first time."""
        return synchronise(x_D, known_D, self.wire, self.sync_grid if replica.iteration else None, draws)

    def _owed(self, replica: AnchoredReplica, mean_D: Vector) -> Vector | None:
        """What the replicas' F(w) lacks of the mean of the workers' F_m(w); None where it lacks rounding only."""
        return None if self.sync_grid is None else mean_D - replica.operator_w_D

    def _anchor_value(self, anchor_D: Vector, operator: Operator, draws: Draws) -> Vector:
        if self.batch is None or self.sync_batch is None:
            return operator(anchor_D, draws)
        samples = as_finite_sum(operator)
        return samples.batch(anchor_D, batch_index(samples, self.sync_batch, draws, skip=self.batch))

    def _difference(
        self, replica: AnchoredReplica, known_D: Vector, operator: Operator, point_D: Vector, draws: Draws
    ) -> Vector:
        """F_m(point) - F_m(w), or its estimate on a batch: the same samples at both points, or the noise would not vanish."""
        if self.batch is None:
            return operator(point_D, draws) - known_D
        samples = as_finite_sum(operator)
        index_B = batch_index(samples, self.batch, draws)
        return samples.batch(point_D, index_B) - samples.batch(replica.w_D, index_B)

    def _server_full(
        self, replica: AnchoredReplica, mean_D: Vector, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[Vector, tuple[Payload, ...]]:
        """The mean of the F_m(w) exactly as accumulated here, and the increment of F(w) for the replicas."""
        if not self.synchronises(replica, draws):
            return mean_D, ()
        mean_D = mean_D + means[0].dense()
        payload, _ = self._tell(replica, mean_D, replica.operator_w_D, draws)
        return mean_D, (payload,)

    def _anchored_strain(self, replica: AnchoredReplica, change_D: Vector, half_D: Vector) -> Strain:
        """Gamma |g| / (sqrt(p) |zh - w|), g the compressed difference: the theorem asks for gamma Cq <= sqrt(p) / 2."""
        return Strain(square(change_D) / self.probability, square(half_D - replica.w_D))

    def stay(self, before: AnchoredReplica, after: AnchoredReplica) -> AnchoredReplica:
        """With z where it was; under the rule "next" a new anchor is there, too."""
        w_D = before.z_D if self.rule == "next" and after.syncing else after.w_D
        return dataclasses.replace(after, z_D=before.z_D, w_D=w_D)

    def _replay_anchor(self, replica: AnchoredReplica, z_D: Vector, down: Message, draws: Draws) -> AnchoredReplica:
        """The replica after a round, given the new iterate."""
        operator_w_D = replica.operator_w_D
        if self.synchronises(replica, draws):
            operator_w_D = operator_w_D + down.parts[0].dense()
        if replica.syncing:
            return dataclasses.replace(replica, operator_w_D=operator_w_D, syncing=False)
        iteration, renew = replica.iteration + 1, draws.coin(self.probability)
        if self.rule == "next":
            return AnchoredReplica(z_D, z_D if renew else replica.w_D, operator_w_D, iteration, syncing=renew)
        return AnchoredReplica(z_D, replica.z_D if renew else replica.w_D, operator_w_D, iteration, syncing=False)


class AnchoredKeys(TypedDict, total=False):
    """What either factory takes as `Anchored` has it; steps and probabilities have a theory."""

    rule: Annotated[_AnchorRule, Anchored]
    wire: Annotated[WireType, Anchored]
    batch: Annotated[int | None, Anchored]
    sync_batch: Annotated[int | None, Anchored]
    sync_grid: Annotated[float | None, Anchored]


def theory_probability(up: Compressor, dimension: int) -> float:
    """The theory's p = 1 / beta, at most 1/2: half of the uplink goes into differences, half into synchronisations."""
    return min(0.5, up.bits(dimension) / (32.0 * dimension))


def probability_or_theory(
    problem: Problem, up: Compressor, probability: float | None, batch: int | None, sync_batch: int | None
) -> float:
    """The probability that is given, or the theory's min(1/beta, 1/2); with batches of b of r samples also at most b/r.

    The latter balances local work: a synchronisation costs r samples (or `sync_batch`), an iteration b (Beznosikov et al.
    2022, VR-MASHA).
    """
    check_batch("batch", batch)
    sums = [] if batch is None else finite_sums(problem)  # refuses problems without samples
    p = theory_probability(up, problem.dimension) if probability is None else probability
    if batch is None or probability is not None:
        return p
    return min(p, batch / (sync_batch or max(part.num_samples for part in sums)))
