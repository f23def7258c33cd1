from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import AdaNormalHedge, Groupwise, Ridge, SquaredLoss, predict_block
from saddlebag.algorithms.groupwise.distributed.federation import (
    add_blocks,
    block_length,
    block_sums,
    from_vector,
    merge_block,
    to_vector,
)
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

D, G, BLOCK = 3, 4, 32


def algorithm(longest: int) -> Groupwise:
    return Groupwise(
        learner=Ridge(dimension=D), mixer=AdaNormalHedge(loss_range=float(longest)), loss=SquaredLoss(), interval=(0.0, 1.0)
    )


def rows(rng: np.random.Generator, count: int) -> tuple[Any, Any, Any]:
    x_ND, awake_NG = rng.random((count, D)), (rng.random((count, G)) < 0.5) * 1.0
    return x_ND, np.clip(x_ND.mean(axis=1) + 0.2 * awake_NG[:, 1], 0, 1), awake_NG


def draws(row: int) -> Draws:
    return Draws(0, row)


def test_machines_that_send_sums_learn_the_block_of_one_machine() -> None:
    both, rng = algorithm(BLOCK), np.random.default_rng(0)
    alone, together = both.init(G), both.init(G)
    for _ in range(12):
        x_ND, y_N, awake_NG = rows(rng, BLOCK)
        block = predict_block(both, alone, x_ND, awake_NG, draws)
        alone = both.learn_block(alone, x_ND, y_N, [block[n] for n in range(BLOCK)])
        parts = [
            block_sums(both, together, x_ND[at], y_N[at], awake_NG[at], draws)
            for at in (slice(0, 5), slice(5, 5), slice(5, 30), slice(30, None))
        ]
        total = parts[0]
        for part in parts[1:]:
            total = add_blocks(total, part)
        together = merge_block(both, together, total)
    np.testing.assert_allclose(together.learner.theta_GD, alone.learner.theta_GD, rtol=1e-9, atol=1e-12)
    for name in ("count_E", "loss_E", "charged_E", "absolute_E"):
        np.testing.assert_allclose(getattr(together.ledger, name), getattr(alone.ledger, name), rtol=1e-9, atol=1e-12)
    assert both.alarms(together) == ()


def test_vectors_add_up_as_the_sums_do() -> None:
    both, rng = algorithm(BLOCK), np.random.default_rng(1)
    state = both.init(G)
    first, second = (block_sums(both, state, *rows(rng, 8), draws) for _ in range(2))
    added = add_blocks(first, second)
    largest = max(first.outcome.largest, second.outcome.largest)
    joined = from_vector(to_vector(first) + to_vector(second), first, largest)
    assert np.array_equal(to_vector(joined), to_vector(added))
    assert joined.outcome.rounds == 16
    assert joined.outcome.largest == added.outcome.largest
    for bad in (to_vector(first)[1:], np.full(len(to_vector(first)), np.nan)):
        with pytest.raises(ConfigError, match="finite numbers"):
            from_vector(bad, first, 0.0)


def test_growing_blocks_cost_less_than_long_ones_from_the_start() -> None:
    """The cold start is most of a block's cost: a whole first block is predicted as 0."""
    x_ND, y_N, awake_NG = rows(np.random.default_rng(2), 2048)
    losses = {}
    for growing in (False, True):
        both = algorithm(256)
        state, at = both.init(G), 0
        while at < len(x_ND):
            stop = min(len(x_ND), at + (block_length(at, 256) if growing else 256))
            part = slice(at, stop)
            state = merge_block(both, state, block_sums(both, state, x_ND[part], y_N[part], awake_NG[part], draws))
            at = stop
        losses[growing] = state.ledger.played
    assert losses[True] < 0.5 * losses[False]


def test_the_schedule() -> None:
    assert [block_length(seen, 64) for seen in (0, 7, 16, 200, 10**6)] == [1, 1, 2, 25, 64]


def test_block_bound_holds_against_an_adversary() -> None:
    """Labels punish whoever has weight; the mixer's range is the loss range times the block (module `federation`)."""
    both, rng = algorithm(8), np.random.default_rng(3)
    state = both.init(G)
    for _ in range(60):
        x_ND, _, awake_NG = rows(rng, 8)
        block = predict_block(both, state, x_ND, awake_NG, draws)
        y_N = (block.value_N < 0.5) * 1.0
        state = merge_block(both, state, block_sums(both, state, x_ND, y_N, awake_NG, draws))
        assert (state.ledger.regret_E <= both.mixer.bound(state.mixer) + 1e-9).all()
