from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saddlebag.compression import (
    Concat,
    Contractive,
    Draws,
    Identity,
    LowRank,
    Natural,
    RandK,
    Rule,
    Tensor,
    TopK,
    Unbiased,
    check_compressor,
    make_compressor,
    mean_noise,
    per_tensor,
)
from saddlebag.errors import ConfigError

TENSORS = [Tensor("emb.weight", (6, 4)), Tensor("emb.bias", (6,)), Tensor("head.weight", (4, 3)), Tensor("scale", ())]
D = 24 + 6 + 12 + 1


def test_the_first_rule_that_fits_wins() -> None:
    compressor: Any = per_tensor(
        tensors=TENSORS,
        rules=[Rule(match="*.bias", use=Identity()), Rule(min_size=20, use=TopK(k=6)), Rule(use=TopK(fraction=0.5))],
    )
    assert compressor.encode(np.zeros(D), Draws(0, 0)).dimension == D
    assert [type(c) for _, c in compressor.pieces] == [TopK, Identity, TopK, TopK]
    x_D = np.random.default_rng(0).standard_normal(D)
    payload = compressor.encode(x_D, Draws(0, 0))
    assert isinstance(payload, Concat)
    assert [part.dimension for part in payload.parts] == [24, 6, 12, 1]
    assert [np.count_nonzero(part.dense()) for part in payload.parts] == [6, 6, 6, 1]
    assert np.array_equal(payload.parts[0].dense(), TopK(k=6).encode(x_D[:24], Draws(0, 0)).dense())
    assert compressor.alpha(D) == 0.25
    assert compressor.bits(D) == TopK(k=6).bits(24) + 6 * 32 + TopK(k=6).bits(12) + TopK(k=1).bits(1)


def test_sizes_are_bounded_on_both_sides() -> None:
    rules = [Rule(max_size=6, use=Identity()), Rule(min_size=13, use=Natural()), Rule(use=RandK(k=3))]
    compressor: Any = per_tensor(tensors=TENSORS, rules=rules)
    assert [type(c) for _, c in compressor.pieces] == [Natural, Identity, RandK, Identity]
    assert isinstance(compressor, Unbiased)
    assert not isinstance(compressor, Contractive)
    assert compressor.omega(D) == 3.0
    assert mean_noise(compressor, D, 4) == (0.75, 0.0)
    check_compressor(compressor, dimensions=(D,), num_draws=500)


def test_constants_are_attained_by_the_worst_tensor() -> None:
    compressor: Any = per_tensor(tensors=TENSORS, rules=[Rule(match="head.*", use=TopK(k=1)), Rule(use=TopK(fraction=0.5))])
    x_D = np.zeros(D)
    x_D[30:42] = 1.0
    error_D = compressor.encode(x_D, Draws(0, 0)).dense() - x_D
    assert error_D @ error_D == (1 - compressor.alpha(D)) * (x_D @ x_D) == 11.0


def test_low_rank_takes_the_tensors_own_shape() -> None:
    tensors = [{"name": "conv", "shape": [8, 3, 3]}, {"name": "bias", "shape": [8]}]
    rules = [{"match": "bias", "use": {"name": "identity"}}, {"use": {"name": "low_rank", "rank": 2}}]
    compressor: Any = make_compressor("per_tensor", tensors=tensors, rules=rules)
    part = compressor.encode(np.random.default_rng(0).standard_normal(80), Draws(0, 0, 0)).parts[0]
    assert isinstance(part, LowRank)
    assert (len(part.p_RK), len(part.q_CK)) == (8, 9)


def test_all_identity_is_of_both_kinds() -> None:
    compressor = per_tensor(tensors=TENSORS, rules=[Rule(use=Identity())])
    assert isinstance(compressor, Unbiased)
    assert isinstance(compressor, Contractive)


W = {"name": "w", "shape": [2, 3]}


@pytest.mark.parametrize(
    ("tensors", "rules", "message"),
    [
        ([], [{"use": {"name": "natural"}}], r"per_tensor.tensors must name at least one tensor"),
        ([{"name": "w"}], [{"use": {"name": "natural"}}], r"per_tensor.tensors.0 must be a table with name and shape"),
        ([{"name": "w", "shape": [-1]}], [], r"per_tensor.tensors.0.shape must be a list of whole numbers from 0, got \[-1\]"),
        ([W], [], r"per_tensor.rules: none fits tensor 'w' of 6; end with a rule without match"),
        ([W], [{"match": "*"}], r"per_tensor.rules.0 must be a table with use"),
        ([W], [{"mach": "*", "use": {"name": "natural"}}], r"per_tensor.rules.0.mach is no known key; known: use, match"),
        ([W], [{"min_size": 1.5, "use": {"name": "natural"}}], r"per_tensor.rules.0.min_size must be a whole number, got 1.5"),
        ([W], [{"use": {"name": "naturel"}}], r"per_tensor.rules.0.use: unknown compressor 'naturel'"),
        ([W], [{"use": {"name": "top_k", "k": 7}}], r"per_tensor: tensor 'w': top_k needs 1 <= k <= d, got k=7 for d=6"),
        (
            [W, {"name": "b", "shape": [3]}],
            [{"match": "b", "use": {"name": "natural"}}, {"use": {"name": "top_k", "k": 1}}],
            r"per_tensor.rules must lead to all unbiased or all contractive compressors: TopK is contractive, Natural is unb",
        ),
    ],
)
def test_faults_are_named(tensors: Any, rules: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_compressor("per_tensor", tensors=tensors, rules=rules)


def test_a_vector_of_another_size_is_refused() -> None:
    compressor: Any = per_tensor(tensors=TENSORS, rules=[Rule(use=TopK(k=1))])
    for use in (lambda: compressor.encode(np.ones(5), Draws(0, 0)), lambda: compressor.alpha(5), lambda: compressor.bits(5)):
        with pytest.raises(ConfigError, match=r"per_tensor.tensors have 43 coordinates together, the vector has 5"):
            use()
