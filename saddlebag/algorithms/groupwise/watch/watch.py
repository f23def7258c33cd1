"""Four alarms for every group, each right at all times at once.

    worse        our loss on the group is, on average, above the single model's
    coverage     intervals hold less than target - margin of the group's labels, or more than target + margin
    calibration  on some level of the prediction, labels are off by more than `tolerance` on average
    features     the group's rows are not exchangeable: some feature is distributed otherwise than it was before

Each has a hypothesis of no alarm, under which the wealth of a bet against it is a supermartingale (`bets.py`); an alarm is the
first time at which the wealth reaches (kinds x groups) / rate. So on a stream of which all hypotheses hold the probability that
**any** alarm is **ever** given is at most `rate`, however long it is and whenever somebody looks.

"features" needs no model: under exchangeability the rank of a new value among the earlier ones, ties broken at random, is
uniform and independent of the ranks before (Vovk, Gammerman, Shafer 2005); the bet is on the rank. Values are counted in cells,
whose edges are fixed beforehand, so that memory does not grow with the stream.

Labels that come late come in the order in which they are learned; that order is then what the alarms are about.

Shapes: G = groups, D = features, M = targets, B = levels, C = cells of a feature; K = awake groups.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise.watch.bets import Bets, BetState
from saddlebag.compression import Draws, Purpose
from saddlebag.errors import ConfigError, StateError, check_choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array, Index

__all__ = ["Seen", "Watch", "cell_edges"]

KINDS = ("worse", "coverage", "calibration", "features")
_SEED = 0x57617463  # of ties; any number would do
_EDGE = 1e-9
_MOST = 10_000  # levels: each has bets of its own for every group
_ARRAYS = ("count_GDC", "covered_G", "first_KG", "rounds")
CELLS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """A round, once its label is known. Only memberships above 0 count, and as whole ones.

    Attributes:
        awake_G: memberships.
        x_D: features; of "features".
        p, y: what was predicted, and the label; of "calibration".
        excess: our loss less the single model's; of "worse".
        missed_M: whether intervals missed the label; of "coverage"; None for none, or from before anything was known.

    Example:
        >>> Seen(np.array([1.0, 0.0]), p=0.25, y=1.0).y
        1.0
    """

    awake_G: Array
    x_D: Array | None = None
    p: float = 0.0
    y: float = 0.0
    excess: float = 0.0
    missed_M: Array | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class WatchState:
    """What the alarms have seen.

    Attributes:
        bets: of each kind that is watched.
        count_GDC: of "features": how many values of a group's rows lay in each cell.
        covered_G: rounds with intervals.
        first_KG: for each kind, the round of a group's first alarm, from 1; 0 for none.
        rounds: rounds seen; an array of shape (1,).
    """

    bets: dict[str, BetState]
    count_GDC: Array
    covered_G: Array
    first_KG: Array
    rounds: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watch:
    """What is watched.

    Attributes:
        kinds: some of `KINDS`.
        rate: the probability of any false alarm, ever.
        loss_range: of "worse": how far losses may lie apart.
        targets, margin: of "coverage".
        warm_up: of "coverage": a group's first rounds with intervals do not count, for thresholds start from nothing.
        tolerance, levels: of "calibration", for predictions and labels in [0, 1].
        edges: of "features": each feature's inner edges of cells, ascending.

    Example:
        >>> watch = Watch(kinds=("coverage",), targets=(0.9,))
        >>> state, all_G = watch.init(1), np.ones(1)
        >>> for t in range(2000):
        ...     watch.see(state, Seen(awake_G=all_G, missed_M=np.array([t % 4 == 0])))
        >>> int(state.first_KG[0, 0]) > 0
        True
    """

    kinds: tuple[str, ...] = KINDS
    rate: float = 0.05
    loss_range: float = 1.0
    targets: tuple[float, ...] = ()
    margin: float = 0.02
    warm_up: int = 50
    tolerance: float = 0.05
    levels: int = 10
    edges: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise ConfigError(f"kinds must be different ones of {', '.join(KINDS)}, got {list(self.kinds)}")
        for kind in self.kinds:
            check_choice("kinds", kind, KINDS)
        if not 0.0 < self.rate < 1.0:
            raise ConfigError(f"rate must lie in (0, 1), got {self.rate:g}")
        if not 0.0 < self.tolerance < 1.0:
            raise ConfigError(f"tolerance must lie in (0, 1), got {self.tolerance:g}")
        if not 1 <= self.levels <= _MOST:
            raise ConfigError(f"levels must lie in [1, {_MOST:,}], got {self.levels}")
        if not 0.0 < self.loss_range < math.inf:
            raise ConfigError(f"loss_range must be positive and finite, got {self.loss_range:g}")
        for target in self.targets:
            if not 0.0 < self.margin < min(target, 1.0 - target):
                raise ConfigError(
                    f"margin must lie in (0, {min(target, 1 - target):.4g}) at target {target:g}, got {self.margin:g}"
                )
        if "coverage" in self.kinds and not self.targets:
            raise ConfigError("coverage needs targets")

    @functools.cached_property
    def _bets(self) -> dict[str, tuple[tuple[Bets, int], ...]]:
        return {kind: self._bets_of(kind) for kind in self.kinds}

    def _bets_of(self, kind: str) -> tuple[tuple[Bets, int], ...]:
        """The bets of a kind, in blocks of so many for each group."""
        if kind == "worse":
            return ((Bets(low=-1.0, high=1.0), 1),)
        if kind == "coverage":
            few, many = [], []
            for target in self.targets:
                few.append((Bets(low=-(1.0 - target + self.margin), high=target - self.margin), 1))
                many.append((Bets(low=-(target + self.margin), high=1.0 - target - self.margin), 1))
            return (*few, *many)
        if kind == "calibration":
            return ((Bets(low=-1.0 - self.tolerance, high=1.0 - self.tolerance), 2 * self.levels),)
        return ((Bets(low=-0.5, high=0.5, two_sided=True), max(len(self.edges), 1)),)

    def init(self, num_groups: int) -> WatchState:
        bets = {
            f"{kind}.{part}": one.init(num_groups, size)
            for kind in self.kinds
            for part, (one, size) in enumerate(self._bets[kind])
        }
        count_GDC = np.zeros((num_groups, len(self.edges) if "features" in self.kinds else 0, CELLS))
        return WatchState(bets, count_GDC, np.zeros(num_groups), np.zeros((len(self.kinds), num_groups)), np.zeros(1))

    def see(self, state: WatchState, seen: Seen) -> None:
        """A round, in the memory of `state`."""
        state.rounds[0] += 1.0
        group_K = np.flatnonzero(seen.awake_G)
        if not len(group_K):
            return
        for number, kind in enumerate(self.kinds):
            getattr(self, f"_see_{kind}")(state, seen, group_K)
            level = math.log(len(self.kinds) * state.first_KG.shape[1] / self.rate)
            new_K = (self.evidence(state, kind, group_K) >= level) & (state.first_KG[number, group_K] == 0)
            state.first_KG[number, group_K[new_K]] = state.rounds[0]

    def evidence(self, state: WatchState, kind: str, group_K: Index | slice = slice(None)) -> Array:
        """The logarithm of the wealth of the bets against "no alarm"; shape (K,)."""
        parts = [
            (one.evidence(state.bets[f"{kind}.{part}"], group_K), size) for part, (one, size) in enumerate(self._bets[kind])
        ]
        sizes = np.array([size for _, size in parts], np.float64)
        log_KP = np.stack([evidence_K for evidence_K, _ in parts], axis=1) + np.log(sizes / sizes.sum())
        top_K = log_KP.max(axis=1)
        found_K: Array = top_K + np.log(np.exp(log_KP - top_K[:, None]).sum(axis=1))
        return found_K

    def _see_worse(self, state: WatchState, seen: Seen, group_K: Index) -> None:
        ((bets, _),) = self._bets["worse"]
        x = min(max(seen.excess / self.loss_range, -1.0), 1.0)
        bets.advance(state.bets["worse.0"], group_K, np.full((len(group_K), 1), x))

    def _see_coverage(self, state: WatchState, seen: Seen, group_K: Index) -> None:
        if seen.missed_M is None:
            return
        state.covered_G[group_K] += 1.0
        group_K = group_K[state.covered_G[group_K] > self.warm_up]
        if not len(group_K):
            return
        M = len(self.targets)
        for part, (bets, _) in enumerate(self._bets["coverage"]):
            missed, target = float(seen.missed_M[part % M]), self.targets[part % M]
            few = missed - (1.0 - target + self.margin)
            x = few if part < M else (1.0 - missed) - (target + self.margin)
            bets.advance(state.bets[f"coverage.{part}"], group_K, np.full((len(group_K), 1), x))

    def _see_calibration(self, state: WatchState, seen: Seen, group_K: Index) -> None:
        ((bets, _),) = self._bets["calibration"]
        p = min(max(seen.p, 0.0), 1.0)
        level = min(int(p * self.levels + _EDGE), self.levels - 1)
        gap = min(max(seen.y - p, -1.0), 1.0)
        x_J = np.array([gap - self.tolerance, -gap - self.tolerance])
        x_KJ = np.broadcast_to(x_J, (len(group_K), 2))
        bets.advance(state.bets["calibration.0"], group_K, x_KJ, np.array([level, self.levels + level]))

    def _see_features(self, state: WatchState, seen: Seen, group_K: Index) -> None:
        assert seen.x_D is not None, "features need rows"
        ((bets, _),) = self._bets["features"]
        D = len(self.edges)
        if not D:
            return
        cell_D = (seen.x_D[:, None] > self._edge_DC).sum(axis=1)
        tie_D = Draws(_SEED, int(state.rounds[0])).own(Purpose.SAMPLE).uniforms(D)
        count_KDC = state.count_GDC[group_K]
        equal_KD = np.take_along_axis(count_KDC, np.broadcast_to(cell_D[None, :, None], (len(group_K), D, 1)), 2)[..., 0]
        above_KD = np.where(np.arange(CELLS) > cell_D[:, None], count_KDC, 0.0).sum(axis=2)
        rank_KD = (above_KD + tie_D * (equal_KD + 1.0)) / (count_KDC.sum(axis=2) + 1.0)
        bets.advance(state.bets["features.0"], group_K, rank_KD - 0.5)
        state.count_GDC[group_K[:, None], np.arange(D), cell_D] += 1.0

    # -- saving ----------------------------------------------------------------------------------------------------------

    def pack(self, state: WatchState) -> dict[str, npt.NDArray[Any]]:
        """The arrays of a state by name, copied."""
        arrays = {name: np.array(getattr(state, name)) for name in _ARRAYS}
        arrays |= {
            f"{block}.{field.name}": np.array(getattr(bets, field.name))
            for block, bets in state.bets.items()
            for field in dataclasses.fields(bets)
        }
        return {f"watch.{name}": array for name, array in arrays.items()}

    def unpack(self, like: WatchState, arrays: Mapping[str, npt.NDArray[Any]]) -> WatchState:
        """The state that `pack` gave, of kinds and shapes as `like`.

        Raises:
            StateError: an array is missing or of another kind.
        """
        found = {}
        for name, model in self.pack(like).items():
            array = arrays.get(name)
            if array is None or array.shape != model.shape or array.dtype != model.dtype or not np.isfinite(array).all():
                raise StateError(f"the state does not fit: {name} must be finite numbers of shape {model.shape}")
            found[name.removeprefix("watch.")] = np.array(array)
        names = [field.name for field in dataclasses.fields(BetState)]
        bets = {block: BetState(*(found[f"{block}.{name}"] for name in names)) for block in like.bets}
        return WatchState(bets, *(found[name] for name in _ARRAYS))

    @functools.cached_property
    def _edge_DC(self) -> Array:
        edge_DC = np.full((len(self.edges), CELLS - 1), np.inf)
        for row, edges in enumerate(self.edges):
            edge_DC[row, : len(edges)] = edges
        return edge_DC


def cell_edges(x_ND: Array) -> tuple[tuple[float, ...], ...]:
    """Edges of cells by the quantiles of a table, each feature's different ones; they do not depend on the rows' order.

    Example:
        >>> [len(edges) for edges in cell_edges(np.array([[float(row), row % 2] for row in range(100)]))]
        [7, 1]
    """
    edge_CD: Any = np.quantile(x_ND, np.arange(1, CELLS) / CELLS, axis=0, method="lower")
    largest_D = x_ND.max(axis=0)
    return tuple(
        tuple(float(edge) for edge in np.unique(edge_C) if edge < largest)
        for edge_C, largest in zip(edge_CD.T, largest_D, strict=True)
    )
