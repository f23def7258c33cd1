from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlebag.algorithms.groupwise import AdaNormalHedge, Groupwise, Ridge, Solo, SquaredLoss, distribution, predict_block
from saddlebag.algorithms.groupwise.distributed.sharding import PartialMix, join_mixes, partial_mix, shard_bound
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError

D, G = 3, 6
CUTS = [(0, 1), (1, 4), (4, 6)]
PRIOR = np.arange(1.0, G + 1) / np.arange(1.0, G + 1).sum()


def algorithm() -> Groupwise:
    return Groupwise(learner=Ridge(dimension=D), mixer=AdaNormalHedge(), loss=SquaredLoss(), interval=(0.0, 1.0), default=0.5)


def test_shards_together_are_one_machine_over_a_whole_stream() -> None:
    whole, rng = algorithm(), np.random.default_rng(0)
    state = whole.init(G, PRIOR)
    shards: list[Any] = [whole.init(stop - start, PRIOR[start:stop]) for start, stop in CUTS]
    fell_back = 0
    for t in range(400):
        x_1D, awake_1G = rng.random((1, D)), (rng.random((1, G)) < 0.4).astype(np.float64)
        y = float(rng.random() < x_1D[0, 0] * (1 + awake_1G[0, 2]) / 2)
        draws = [Draws(0, t)]
        alone = whole.predict(state, x_1D[0], awake_1G[0], draws[0])
        blocks, parts = [], []
        for (start, stop), shard in zip(CUTS, shards, strict=True):
            block = predict_block(whole, shard, x_1D, awake_1G[:, start:stop], lambda row: Draws(0, row))
            weights = whole.mixer.log_weights(shard.mixer)
            parts.append(partial_mix(weights, shard.mixer.prior_E, block.awake_NE, block.z_NE))
            blocks.append(block)
        joined = join_mixes(parts, default=0.5)
        assert joined.value_N[0] == pytest.approx(alone.value, rel=1e-9, abs=1e-9)
        assert bool(joined.fell_back_N[0]) == alone.fell_back
        assert bool(joined.asleep_N[0]) == (not awake_1G.any())
        fell_back += alone.fell_back
        state = whole.learn(state, x_1D[0], y, alone)
        shards = [
            whole.learn(shard, x_1D[0], y, dataclasses.replace(block[0], value=joined.value_N[0]))
            for shard, block in zip(shards, blocks, strict=True)
        ]
    assert fell_back, "the rule for rounds without weight was not tried"
    regret_G = np.concatenate([shard.ledger.regret_E for shard in shards])
    np.testing.assert_allclose(regret_G, state.ledger.regret_E, rtol=1e-9, atol=1e-9)
    bounds = [
        shard_bound(whole.mixer, shard.mixer, state.ledger.rounds, 1.0 - PRIOR[start:stop].sum())
        for (start, stop), shard in zip(CUTS, shards, strict=True)
    ]
    exact_G = whole.mixer.bound(state.mixer)
    assert (np.concatenate(bounds) >= exact_G * (1 - 1e-9)).all(), "a shard's bound must hold whatever other shards do"
    assert (np.concatenate(bounds) <= 1.5 * exact_G + 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 8), min_size=1, max_size=4))
def test_any_division_joins_to_the_whole(seed: int, sizes: list[int]) -> None:
    rng, total = np.random.default_rng(seed), sum(sizes)
    weight_E = np.where(rng.random(total) < 0.3, -np.inf, rng.normal(0, 300, total))
    prior_E, awake_NE, z_NE = rng.random(total) + 0.1, (rng.random((5, total)) < 0.5) * 1.0, rng.random((5, total))
    cuts = np.cumsum([0, *sizes])
    parts = [partial_mix(weight_E[a:b], prior_E[a:b], awake_NE[:, a:b], z_NE[:, a:b]) for a, b in itertools.pairwise(cuts)]
    joined = join_mixes([PartialMix.from_array(part.to_array()) for part in parts], default=-1.0)
    for n in range(5):
        if not awake_NE[n].any():
            assert joined.value_N[n] == -1.0
            continue
        expected = distribution(weight_E, prior_E, awake_NE[n])
        assert joined.value_N[n] == pytest.approx(float(expected.p_E @ z_NE[n]), rel=1e-9, abs=1e-12)
        assert bool(joined.fell_back_N[n]) == bool(expected.fell_back)


@pytest.mark.parametrize(
    "rows", [np.zeros((2, 4)), np.full((1, 5), np.nan), np.array([[0.0, -1.0, 0, 0, 0]]), np.array([[np.inf, 1.0, 0, 0, 0]])]
)
def test_a_shards_nonsense_is_refused(rows: Any) -> None:
    with pytest.raises(ConfigError):
        PartialMix.from_array(rows)


def test_other_rules_admit_that_their_bound_is_not_known() -> None:
    mixer = Solo()
    assert np.isnan(shard_bound(mixer, mixer.init(np.full(3, 1 / 3)), 5, 0.5)).all()
