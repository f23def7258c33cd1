"""Intervals that are given out before their labels are known, which may come late, never, or to several servers.

With each prediction goes a *note*: what the label will be judged by. From it and the label the thresholds and the scores learn;
nothing is computed from newer parameters. So misses are counted of intervals as they were given out, and the identity of
`thresholds.py` is exact whatever comes when.

A server with a share of the groups adds its part of a threshold, and its part of the row's size; the parts add up.

Shapes: N = rows, D = features, G = groups, M = targets, K = 5 M + 2 numbers of a note.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise.coverage.scorer import Scorer, ScorerState
from saddlebag.algorithms.groupwise.coverage.scores import Frame
from saddlebag.algorithms.groupwise.coverage.thresholds import Parts
from saddlebag.algorithms.groupwise.packing import pack_part, unpack_part
from saddlebag.errors import ConfigError, NotFiniteError, StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.algorithms.groupwise.coverage.thresholds import Thresholds, ThresholdState
    from saddlebag.algorithms.groupwise.losses import Interval

__all__ = ["Intervals"]

_FARTHEST = 1e50  # its square is finite, and so are sums of squares
_TAU, _BASE, _LOW, _HIGH, _SCALE = range(5)


@dataclasses.dataclass(frozen=True, eq=False)
class IntervalsState:
    """Thresholds, scores, and sums for the report.

    Attributes:
        thresholds, scorer: their states.
        width_MG: sum over a group's rounds of the intervals' widths, or of how many of the labels 0 and 1 they hold.
    """

    thresholds: ThresholdState
    scorer: ScorerState
    width_MG: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intervals:
    """The intervals of a service.

    Attributes:
        rule: of the thresholds.
        scorer: of the scores.
        labels: where labels lie: intervals are cut to it, which loses none.
        binary: labels are 0 and 1: the width of an interval is how many of them it holds.

    Example:
        >>> from saddlebag.algorithms.groupwise import Thresholds
        >>> rule = Thresholds(targets=(0.9,))
        >>> intervals = Intervals(rule=rule, scorer=Scorer(name="absolute", dimension=1, targets=rule.targets))
        >>> state, x_ND, both_NG = intervals.init(2), np.ones((1, 1)), np.ones((1, 2))
        >>> for y in (0.3, 0.5, 0.4):
        ...     note_NK = intervals.notes(state, x_ND, np.array([0.4]), both_NG)
        ...     state = intervals.learn(state, x_ND[0], y, both_NG[0], note_NK[0])
        >>> low_NM, high_NM = intervals.ends(note_NK)
        >>> bool(low_NM[0, 0] <= 0.4 <= high_NM[0, 0])
        True
    """

    rule: Thresholds
    scorer: Scorer
    labels: Interval | None = None
    binary: bool = False

    def __post_init__(self) -> None:
        if self.rule.targets != self.scorer.targets:
            raise ConfigError(f"scores and thresholds need the same targets, got {self.scorer.targets} and {self.rule.targets}")

    @property
    def width(self) -> int:
        """K, the numbers of a note."""
        return note_width(len(self.rule.targets))

    def init(self, num_groups: int) -> IntervalsState:
        zero_MG = np.zeros((len(self.rule.targets), num_groups))
        return IntervalsState(self.rule.init(num_groups), self.scorer.init(), zero_MG)

    def notes(self, state: IntervalsState, x_ND: Array, z_N: Array, awake_NG: Any) -> Array:
        """What is given out with rows, and kept for their labels; shape (N, K).

        The columns: |I|^2; z; then for all targets thresholds, the base's iterates, low ends, high ends, scales. What a share
        of the groups says in the first and in thresholds and iterates are parts, which add up.

        Args:
            state: as it is now; not changed.
            x_ND: features.
            z_N: what intervals go around: our predictions, or the user's own.
            awake_NG: memberships.
        """
        frame, awake_NG = self.scorer.frame(state.scorer, x_ND, z_N), np.asarray(awake_NG, np.float64)
        tau_NM, base_NM = (of(state.thresholds, awake_NG) for of in (self.rule.at, self.rule.base_at))
        size_N = (awake_NG * awake_NG).sum(axis=1)
        return np.column_stack((size_N, z_N, tau_NM, base_NM, frame.low_M, frame.high_M, frame.scale_M))

    def ends(self, note_NK: Array) -> tuple[Array, Array]:
        """The intervals' ends, within the labels' interval; the low one is the higher where no label is held. Shape (N, M)."""
        return note_ends(note_NK, self.labels)

    def learn(self, state: IntervalsState, x_D: Array, y: float, awake_G: Array, note_K: Array) -> IntervalsState:
        """The state after the label of a prediction.

        Args:
            state: as it is now, which may be later than the prediction; not changed.
            x_D: features.
            y: the label.
            awake_G: the round's memberships.
            note_K: what `notes` gave for it; of a share of the groups, what `join_notes` made of the notes of all.

        Raises:
            NotFiniteError: the label lies too far from the prediction to be counted.
        """
        residual = y - float(note_K[1])
        if not abs(residual) <= _FARTHEST:
            raise NotFiniteError(f"a label {residual:g} away from its prediction cannot be counted; declare label.interval")
        part_NM, frame = self._read(note_K[None])
        score_M = frame.scores(np.array([y]))[0]
        parts = Parts(float(note_K[0]), part_NM[0, _BASE])
        awake_G = np.asarray(awake_G, np.float64)
        thresholds = self.rule.learn(state.thresholds, part_NM[0, _TAU], score_M, awake_G, parts=parts)
        scorer = self.scorer.learn(state.scorer, x_D, residual)
        return IntervalsState(thresholds, scorer, state.width_MG + self._widths(note_K[None])[0][:, None] * awake_G)

    def sums(self, state: IntervalsState, x_ND: Array, y_N: Array, z_N: Array, awake_NG: Array) -> dict[str, Array]:
        """What the rows of a frozen block add: misses, scores and widths, group by group; those of several machines add up.

        Args:
            state: frozen for the block.
            x_ND: features.
            y_N: labels.
            z_N: what intervals go around.
            awake_NG: memberships.
        """
        note_NK = self.notes(state, x_ND, z_N, awake_NG)
        part_NPM, frame = self._read(note_NK)
        score_NM, awake_NG = frame.scores(y_N), np.asarray(awake_NG, np.float64)
        rows = self.rule.sums_of_rows(state.thresholds, part_NPM[:, _TAU], score_NM, awake_NG)
        sums = {f"thresholds.{name}": value for name, value in rows.items()}
        sums |= {f"scorer.{name}": value for name, value in self.scorer.sums(state.scorer, x_ND, y_N - z_N).items()}
        return sums | {"width_MG": self._widths(note_NK).T @ awake_NG}

    def merge(self, state: IntervalsState, sums: Mapping[str, Array]) -> IntervalsState:
        """The state after the sums of a frozen block."""
        parts: dict[str, dict[str, Array]] = {"thresholds": {}, "scorer": {}}
        for name, value in sums.items():
            part, _, rest = name.partition(".")
            if rest:
                parts[part][rest] = value
        thresholds = self.rule.merge(state.thresholds, parts["thresholds"])
        return IntervalsState(thresholds, self.scorer.merge(state.scorer, parts["scorer"]), state.width_MG + sums["width_MG"])

    def grow(self, state: IntervalsState, extra: int) -> IntervalsState:
        """The state with more groups at its end."""
        width_MG = np.pad(state.width_MG, ((0, 0), (0, extra)))
        return dataclasses.replace(state, thresholds=self.rule.grow(state.thresholds, extra), width_MG=width_MG)

    def _widths(self, note_NK: Array) -> Array:
        """Of intervals as they were given out; of labels 0 and 1, how many are held. Shape (N, M)."""
        low_NM, high_NM = self.ends(note_NK)
        if self.binary:
            held_NM: Array = np.sum([(low_NM <= y) & (y <= high_NM) for y in (0.0, 1.0)], axis=0, dtype=np.float64)
            return held_NM
        return np.maximum(high_NM - low_NM, 0.0)

    def knows(self, note_K: Array) -> bool:
        """Whether an interval was given out after some label was known: before, all thresholds are 0."""
        part_NPM, _ = self._read(note_K[None])
        return bool(part_NPM[0, _TAU].any())

    def missed(self, note_K: Array, y: float) -> Array:
        """Whether an interval as it was given out missed the label; shape (M,)."""
        part_NM, frame = self._read(note_K[None])
        missed_M: Array = frame.scores(np.array([y]))[0] > part_NM[0, _TAU]
        return missed_M

    def _read(self, note_NK: Array) -> tuple[Array, Frame]:
        part_NPM = note_NK[:, 2:].reshape(len(note_NK), 5, len(self.rule.targets))
        return part_NPM, Frame(part_NPM[:, _LOW], part_NPM[:, _HIGH], part_NPM[:, _SCALE])

    # -- saving ----------------------------------------------------------------------------------------------------------

    def pack(self, state: IntervalsState) -> dict[str, npt.NDArray[Any]]:
        """The arrays of a state by name, copied."""
        scorer = state.scorer
        plain = {"size": scorer.size, "rounds": scorer.rounds, "theta_LD": scorer.theta_LD, "square_LD": scorer.square_LD}
        arrays = {f"intervals.scorer.{name}": np.array(value) for name, value in plain.items()}
        arrays |= pack_part(scorer.ridge, "intervals.ridge") | pack_part(state.thresholds, "intervals.thresholds")
        return arrays | {"intervals.width_MG": np.array(state.width_MG)}

    def unpack(self, like: IntervalsState, arrays: Mapping[str, npt.NDArray[Any]]) -> IntervalsState:
        """The state that `pack` gave, of kinds and shapes as `like`.

        Raises:
            StateError: an array is missing or of another kind.
        """
        try:
            values = {}
            for name in ("size", "rounds", "theta_LD", "square_LD"):
                model, array = getattr(like.scorer, name), arrays[f"intervals.scorer.{name}"]
                if array.shape != model.shape or array.dtype != model.dtype:
                    raise ValueError(f"intervals.scorer.{name} is {array.dtype} {array.shape}, not {model.shape}")
                values[name] = np.array(array)
            ridge = unpack_part(like.scorer.ridge, arrays, "intervals.ridge")
            thresholds = unpack_part(like.thresholds, arrays, "intervals.thresholds")
            width_MG = np.array(arrays["intervals.width_MG"], np.float64)
            if width_MG.shape != like.width_MG.shape:
                raise ValueError(f"intervals.width_MG has shape {width_MG.shape}, not {like.width_MG.shape}")
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"the state does not fit: {error}") from error
        return IntervalsState(thresholds, ScorerState(**values, ridge=ridge), width_MG)


def note_width(num_targets: int) -> int:
    """K, the numbers of a note."""
    return 5 * num_targets + 2


def note_ends(note_NK: Array, labels: Interval | None) -> tuple[Array, Array]:
    """The ends of intervals, cut to where labels lie; see `Intervals.ends`."""
    tau_NM, _, low_NM, high_NM, scale_NM = np.split(note_NK[:, 2:], 5, axis=1)
    low_NM, high_NM = Frame(low_NM, high_NM, scale_NM).interval(tau_NM)
    if labels is not None:
        low_NM, high_NM = np.maximum(low_NM, labels[0]), np.minimum(high_NM, labels[1])
    return low_NM, high_NM


def join_notes(note_SNK: Array, played_N: Array | None) -> Array:
    """The notes of all shares of the groups as those of the whole; shape (N, K).

    Args:
        note_SNK: each share's notes of the same rows, around 0 or the user's own predictions.
        played_N: what all shares predict together, to go around that; None for the user's own predictions.
    """
    note_NK = np.array(note_SNK[0])
    M = (note_NK.shape[1] - 2) // 5
    note_NK[:, 0] = note_SNK[:, :, 0].sum(axis=0)
    note_NK[:, 2 : 2 + 2 * M] = note_SNK[:, :, 2 : 2 + 2 * M].sum(axis=0)
    if played_N is not None:
        note_NK[:, 1] += played_N
        note_NK[:, 2 + 2 * M : 2 + 4 * M] += played_N[:, None]
    return note_NK
