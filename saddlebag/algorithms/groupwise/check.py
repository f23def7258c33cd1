"""The laws of a learner: passing them is the definition of a correct plug-in."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise.base import AnyLearner, Array, Index, Learner, add_sums, copied
from saddlebag.algorithms.groupwise.capabilities import (
    BoundsRegret,
    BoundsRegretByRounds,
    MayNotAdd,
    PredictsBlocks,
    Replays,
    ReplaysWeighted,
)
from saddlebag.algorithms.groupwise.guard import Careful
from saddlebag.algorithms.groupwise.weights import WeightedLearner
from saddlebag.capabilities import require_known
from saddlebag.compression import Draws

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["check_learner", "states_equal"]

CAPABILITIES: tuple[type, ...] = (
    BoundsRegret,
    BoundsRegretByRounds,
    Careful,
    MayNotAdd,
    PredictsBlocks,
    Replays,
    ReplaysWeighted,
    WeightedLearner,
)
"""What a learner may have beside `Learner`."""

_GROUPS = 4
_CLOSE = 1e-9  # relative: another order of the same float64 sums


def check_learner(learner: AnyLearner, x_N: Sequence[Any], y_N: Sequence[Any], *, seed: int = 0) -> None:
    """Check the laws of a learner on a stream of rounds; raises `AssertionError` with the law that is broken.

    1. `predict` and `update` are functions: equal arguments give equal bits, arguments are left alone.
    2. `advance` gives the bits of `update`, in place.
    3. Groups do not meet: a group's predictions are those of a lone learner fed with its rounds only, and a sleeper's state
       keeps every bit.
    4. The predictions of a round come before its label: they do not depend on it, and are finite.
    5. `sums` of two parts of a block add up to those of the whole, and `merge` of no rounds changes no prediction; a learner
       that says so (`MayNotAdd`) is excused.
    6. `grow` adds groups that have learned nothing, and leaves the others as they are.
    7. Of a `WeightedLearner`: weights of 1 are whole rounds, and `sums_weighted` is linear in the weights.
    8. It has no public attribute but its fields, its contract's and the capabilities of learners.

    Args:
        learner: the one to check.
        x_N: contexts of some dozens of rounds that it can learn from.
        y_N: their labels.
        seed: of memberships and draws.

    Example:
        >>> import numpy as np
        >>> import saddlebag as sb
        >>> rows_ND = np.random.default_rng(0).standard_normal((30, 2))
        >>> sb.check_learner(sb.make_learner("ridge", 2), rows_ND, rows_ND[:, 0])
    """
    require_known(learner, (Learner, *CAPABILITIES))
    member_NG = np.random.default_rng(seed).random((len(x_N), _GROUPS)) < 0.5
    member_NG[:, _GROUPS - 1] = False  # a group that never wakes
    state = learner.init(_GROUPS)
    lone, mine = learner.init(1), 0
    sleeper = [row.tobytes() for row in _rows(learner.init(_GROUPS), _GROUPS - 1)]
    for t, (x, y) in enumerate(zip(x_N, y_N, strict=True)):
        draws, group_K = Draws(seed, t), np.flatnonzero(member_NG[t])
        z_K = _predict(learner, state, x, group_K, draws)
        state = _updated(learner, state, x, y, group_K)
        if member_NG[t, mine]:
            z_1 = _predict(learner, lone, x, np.zeros(1, np.int64), draws)
            assert np.allclose(z_1[0], z_K[0], rtol=_CLOSE, atol=_CLOSE), f"{learner}: group 0 differs from a lone learner"
            lone = learner.update(lone, x, y, np.zeros(1, np.int64))
    assert [row.tobytes() for row in _rows(state, _GROUPS - 1)] == sleeper, f"{learner}: a group that never woke has changed"
    declared: object = learner
    if not isinstance(declared, MayNotAdd) or declared.additive:
        _check_blocks(learner, state, x_N, y_N, member_NG, seed)
    _check_growth(learner, state, x_N[0], seed)
    if isinstance(learner, WeightedLearner):
        _check_weights(learner, state, x_N, y_N, member_NG, seed)


def _predict(learner: AnyLearner, state: Any, x: Any, group_K: Index, draws: Draws) -> Array:
    before = copied(state)
    z_K, again_K = learner.predict(state, x, group_K, draws), learner.predict(state, x, group_K, draws)
    assert len(z_K) == len(group_K), f"{learner}: {len(z_K)} predictions for {len(group_K)} active groups"
    assert np.array_equal(z_K, again_K), f"{learner}: predict gave two values for equal arguments"
    assert np.isfinite(z_K).all(), f"{learner}: a prediction is not finite"
    assert states_equal(state, before), f"{learner}: predict changed the state"
    return z_K


def _updated(learner: AnyLearner, state: Any, x: Any, y: Any, group_K: Index) -> Any:
    before = copied(state)
    after = learner.update(state, x, y, group_K)
    assert states_equal(state, before), f"{learner}: update changed its argument"
    learner.advance(before, x, y, group_K)
    assert states_equal(before, after), f"{learner}: advance differs from update"
    return after


def _check_blocks(learner: AnyLearner, state: Any, x_N: Any, y_N: Any, member_NG: Any, seed: int) -> None:
    half = len(x_N) // 2
    whole = learner.sums(state, x_N, y_N, member_NG)
    parts = (learner.sums(state, x_N[at], y_N[at], member_NG[at]) for at in (slice(0, half), slice(half, None)))
    for name, value in add_sums(*parts).items():
        assert np.allclose(value, whole[name], rtol=_CLOSE, atol=_CLOSE), f"{learner}: sums[{name!r}] do not add up"
    merged = learner.merge(state, whole)
    group_K, draws = np.arange(_GROUPS), Draws(seed, len(x_N))
    assert np.isfinite(learner.predict(merged, x_N[0], group_K, draws)).all(), f"{learner}: not finite after a block"
    same = learner.merge(state, learner.sums(state, x_N[:0], y_N[:0], member_NG[:0]))
    before_G, after_G = (learner.predict(each, x_N[0], group_K, draws) for each in (state, same))
    assert np.allclose(before_G, after_G, rtol=_CLOSE, atol=_CLOSE), f"{learner}: an empty block changed a prediction"


def _check_weights(learner: Any, state: Any, x_N: Any, y_N: Any, member_NG: Any, seed: int) -> None:
    group_K, one_K, draws = np.arange(_GROUPS), np.ones(_GROUPS), Draws(seed, len(x_N))
    plain, in_part = copied(state), copied(state)
    learner.advance(plain, x_N[0], y_N[0], group_K)
    learner.advance_weighted(in_part, x_N[0], y_N[0], group_K, one_K)
    whole_G = learner.predict(plain, x_N[1], group_K, draws)
    for z_G in (
        learner.predict(in_part, x_N[1], group_K, draws),
        learner.predict_weighted(plain, x_N[1], group_K, one_K, draws),
    ):
        assert np.allclose(z_G, whole_G, rtol=_CLOSE, atol=_CLOSE), f"{learner}: a weight of 1 is no whole round"
    half = learner.sums_weighted(state, x_N, y_N, 0.5 * member_NG)
    for name, value in learner.sums(state, x_N, y_N, member_NG).items():
        assert np.allclose(half[name], 0.5 * value, rtol=_CLOSE, atol=_CLOSE), f"{learner}: sums[{name!r}] ignore weights"


def _check_growth(learner: AnyLearner, state: Any, x: Any, seed: int) -> None:
    draws = Draws(seed, 10**6)
    wide = learner.grow(state, 2)
    old_G, new_2 = np.arange(_GROUPS), np.arange(_GROUPS, _GROUPS + 2)
    kept = np.allclose(
        learner.predict(wide, x, old_G, draws), learner.predict(state, x, old_G, draws), rtol=_CLOSE, atol=_CLOSE
    )
    assert kept, f"{learner}: grow changed the predictions of older groups"
    assert len(learner.predict(wide, x, new_2, draws)) == 2, f"{learner}: grow added no groups"


def states_equal(first: Any, second: Any) -> bool:
    """Whether two states hold the same bits.

    Example:
        >>> import saddlebag as sb
        >>> learner = sb.make_learner("ridge", 2)
        >>> states_equal(learner.init(3), learner.init(3))
        True
    """
    return [row.tobytes() for row in _arrays(first)] == [row.tobytes() for row in _arrays(second)]


def _arrays(state: Any) -> Iterator[Array]:
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if isinstance(value, np.ndarray):
            yield value


def _rows(state: Any, group: int) -> Iterator[Array]:
    """One group's part of a state."""
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if isinstance(value, np.ndarray) and field.metadata.get("grouped", True):
            yield value[group]
