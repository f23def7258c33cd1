"""Frozen blocks whose rows lie on several machines: only sums leave a machine, group by group.

All state is frozen for a block. Each machine predicts its own rows, and sends what adds up: the learner's sums (for ridge
regression A and b), and for every expert its rounds, its loss, ours, and the sum of its regrets. One addition (an
all-reduce, secure aggregation, a server) and one merge make the block. It is exactly the block that one machine with all
rows would have learned (section "frozen block" of `Mixer`).

At the start a long block costs dearly, for all its rows are predicted by models that know nothing: `block_length` grows
with the rounds seen.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import ledger as accounts
from saddlebag.algorithms.groupwise.base import Sums, add_sums
from saddlebag.algorithms.groupwise.distributed.block import predict_block
from saddlebag.algorithms.groupwise.labels import check_labels
from saddlebag.algorithms.groupwise.ledger import Outcome
from saddlebag.algorithms.groupwise.weights import block_sums_of
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.groupwise.algorithm import Groupwise, GroupwiseState
    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.algorithms.groupwise.coverage.calibration import Calibration, CalibrationState
    from saddlebag.algorithms.groupwise.coverage.offered import Intervals, IntervalsState
    from saddlebag.compression import Draws

__all__ = ["BlockSums", "add_blocks", "block_length", "block_sums", "from_vector", "merge_block", "to_vector"]

_GROWTH = 8
_EXPERTS = ("awake_E", "loss_E", "charged_E", "regret_E")
_SUMS = ("learner", "intervals", "calibration")
_SCALARS = ("played", "expected", "rounds", "fell_back", "orphans")


@dataclasses.dataclass(frozen=True, eq=False)
class BlockSums:
    """What a block's rows on one machine, or on several, add up to.

    `intervals` and `calibration` are empty where none are given out.

    Example:
        >>> BlockSums(_nothing(2), {"count_G": np.zeros(2)}).outcome.rounds
        0
    """

    outcome: Outcome
    learner: Sums
    intervals: Sums = dataclasses.field(default_factory=dict)
    calibration: Sums = dataclasses.field(default_factory=dict)


def block_length(seen: int, longest: int) -> int:
    """Rounds of the next block after `seen` rounds: an eighth of these, at least 1 and at most `longest`.

    Example:
        >>> [block_length(seen, longest=100) for seen in (0, 80, 10_000)]
        [1, 10, 100]
    """
    return max(1, min(longest, seen // _GROWTH))


def block_sums(
    algorithm: Groupwise,
    state: GroupwiseState,
    x_ND: Array,
    y_N: Array,
    awake_NG: Array,
    draws: Callable[[int], Draws],
    *,
    intervals: tuple[Intervals, IntervalsState] | None = None,
    calibration: tuple[Calibration, CalibrationState] | None = None,
) -> BlockSums:
    """Predict a machine's rows from the frozen state, and sum up what came of them.

    Of intervals and calibrated probabilities, too, where they are given out: a rule and its state, frozen as the rest.

    Raises:
        DataError: a label lies outside the algorithm's interval.
        NotFiniteError: a prediction is not finite.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.algorithms.groupwise import SquaredLoss
        >>> algorithm = sb.Groupwise(
        ...     learner=sb.make_learner("ridge", 1), mixer=sb.make_mixer("ada_normal_hedge"), loss=SquaredLoss()
        ... )
        >>> from saddlebag.compression import Draws
        >>> state, x_ND, y_N, awake_NG = algorithm.init(2), np.ones((4, 1)), np.array([1.0, 0.0, 1.0, 1.0]), np.ones((4, 2))
        >>> sums = block_sums(algorithm, state, x_ND, y_N, awake_NG, lambda row: Draws(0, row))
        >>> sums.outcome.rounds, sums.outcome.played, sorted(sums.learner)  # all of a block that leaves a machine
        (4, 3.0, ['count_G', 'gram_GDD', 'moment_GD'])
    """
    check_labels(y_N, algorithm.label_interval, "a block's rows")
    block = predict_block(algorithm, state, x_ND, awake_NG, draws)
    outcomes = [algorithm.outcome(block[row], y_N[row]) for row in range(len(block))]
    total = accounts.total(outcomes) if outcomes else _nothing(len(state.ledger.count_E))
    learned = block_sums_of(algorithm.learner, state.learner, x_ND, y_N, awake_NG)
    covered = {} if intervals is None else intervals[0].sums(intervals[1], x_ND, y_N, block.value_N, awake_NG)
    if calibration is None:
        return BlockSums(total, learned, covered)
    rule, known = calibration
    return BlockSums(total, learned, covered, rule.sums_of_rows(known, np.clip(block.value_N, 0.0, 1.0), y_N, awake_NG))


def add_blocks(first: BlockSums, second: BlockSums) -> BlockSums:
    """The sums of two machines as those of both.

    Raises:
        ConfigError: they are sums of different learners.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.algorithms.groupwise import SquaredLoss
        >>> algorithm = sb.Groupwise(
        ...     learner=sb.make_learner("ridge", 1), mixer=sb.make_mixer("ada_normal_hedge"), loss=SquaredLoss()
        ... )
        >>> from saddlebag.compression import Draws
        >>> state, x_ND, y_N, awake_NG = algorithm.init(2), np.ones((4, 1)), np.array([1.0, 0.0, 1.0, 1.0]), np.ones((4, 2))
        >>> sums = block_sums(algorithm, state, x_ND, y_N, awake_NG, lambda row: Draws(0, row))
        >>> add_blocks(sums, sums).outcome.rounds
        8
    """
    outcome = accounts.total([first.outcome, second.outcome])
    return BlockSums(outcome, *(add_sums(getattr(first, part), getattr(second, part)) for part in _SUMS))


def merge_block(algorithm: Groupwise, state: GroupwiseState, sums: BlockSums) -> GroupwiseState:
    """The state after a block, given the sums over all its rows.

    Raises:
        NotFiniteError: it would not be finite; `state` is as it was.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.algorithms.groupwise import SquaredLoss
        >>> algorithm = sb.Groupwise(
        ...     learner=sb.make_learner("ridge", 1), mixer=sb.make_mixer("ada_normal_hedge"), loss=SquaredLoss()
        ... )
        >>> from saddlebag.compression import Draws
        >>> state, x_ND, y_N, awake_NG = algorithm.init(2), np.ones((4, 1)), np.array([1.0, 0.0, 1.0, 1.0]), np.ones((4, 2))
        >>> parts = [
        ...     block_sums(algorithm, state, x_ND[own], y_N[own], awake_NG[own], lambda row: Draws(0, row))
        ...     for own in ([0, 1], [2, 3])
        ... ]
        >>> merged = merge_block(algorithm, state, add_blocks(*parts))  # two machines, as one with all rows
        >>> merged.ledger.rounds, float(merged.ledger.loss_E[0])
        (4, 3.0)
    """
    return algorithm.merge(algorithm.settle(state, [sums.outcome]), sums.learner)


def to_vector(sums: BlockSums) -> Array:
    """All that adds up, as one vector: for an all-reduce or secure aggregation. The largest regret does not add up.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.algorithms.groupwise import SquaredLoss
        >>> algorithm = sb.Groupwise(
        ...     learner=sb.make_learner("ridge", 1), mixer=sb.make_mixer("ada_normal_hedge"), loss=SquaredLoss()
        ... )
        >>> from saddlebag.compression import Draws
        >>> state, x_ND, y_N, awake_NG = algorithm.init(2), np.ones((4, 1)), np.array([1.0, 0.0, 1.0, 1.0]), np.ones((4, 2))
        >>> sums = block_sums(algorithm, state, x_ND, y_N, awake_NG, lambda row: Draws(0, row))
        >>> vector = to_vector(sums)
        >>> from_vector(2.0 * vector, sums, sums.outcome.largest).outcome.rounds  # two machines with equal rows
        8
    """
    parts = [np.asarray(getattr(sums.outcome, name), np.float64).ravel() for name in (*_EXPERTS, *_SCALARS)]
    parts += [np.asarray(part[name]).ravel() for part in _parts(sums) for name in sorted(part)]
    return np.concatenate(parts)


def from_vector(vector: Array, like: BlockSums, largest: float) -> BlockSums:
    """The sums that a vector holds, in the form of `like`; `largest` is the maximum over the machines.

    Raises:
        ConfigError: the vector has another length, or a number is not finite.

    Example:
        >>> sums = BlockSums(_nothing(2), {"count_G": np.ones(2)})
        >>> from_vector(3 * to_vector(sums), sums, 0.0).learner["count_G"].tolist()  # three machines with equal rows
        [3.0, 3.0]
    """
    if vector.shape != to_vector(like).shape or not np.isfinite(vector).all():
        raise ConfigError(f"a block's sums are {len(to_vector(like))} finite numbers, got shape {vector.shape}")
    at = 0

    def take(shape: tuple[int, ...]) -> Any:
        nonlocal at
        size = int(np.prod(shape, dtype=np.int64))
        at += size
        return vector[at - size : at].reshape(shape)

    values: dict[str, Any] = {name: take(getattr(like.outcome, name).shape) for name in _EXPERTS}
    values |= {name: type(getattr(like.outcome, name))(take(())) for name in _SCALARS}
    parts = [{name: take(part[name].shape) for name in sorted(part)} for part in _parts(like)]
    return BlockSums(Outcome(**values, largest=largest), *parts)


def _parts(sums: BlockSums) -> list[Sums]:
    return [getattr(sums, part) for part in _SUMS]


def _nothing(num_experts: int) -> Outcome:
    zero_E = np.zeros(num_experts)
    return Outcome(zero_E, zero_E, zero_E, zero_E, 0.0, 0.0, 0, 0.0, 0, 0)
