"""Muon: orthogonal steps for matrices, AdamW for everything else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from saddlebag.algorithms.optimizers.muon import Muon, matrices_of, orthogonalised
from saddlebag.algorithms.optimizers.rules import Adam
from saddlebag.compression import Tensor

TENSORS = [Tensor("wte.weight", (3, 2)), Tensor("layer.weight", (4, 6)), Tensor("layer.bias", (4,)), Tensor("tall", (8, 2, 2))]
SIZE = sum(tensor.size for tensor in TENSORS)


def test_singular_values_come_near_one() -> None:
    rng = np.random.default_rng(0)
    for shape in ((4, 6), (6, 4), (5, 5), (1, 7)):
        values = np.linalg.svd(orthogonalised(rng.standard_normal(shape)), compute_uv=False)
        assert values.min() > 0.6, shape
        assert values.max() < 1.3, shape
    assert not orthogonalised(np.zeros((3, 3))).any()


def test_embeddings_heads_and_vectors_are_no_matrices() -> None:
    assert matrices_of(TENSORS) == ((6, 4, 6), (34, 8, 4))


def test_what_is_no_matrix_moves_as_under_adamw() -> None:
    rng = np.random.default_rng(1)
    z_D, g_D = rng.standard_normal(SIZE), rng.standard_normal(SIZE)
    muon, adam = Muon(matrices=matrices_of(TENSORS), weight_decay=0.1), Adam(weight_decay=0.1)
    moved, plain = (rule.update(rule.init(z_D), g_D, 0.01) for rule in (muon, adam))
    for tensor, at in (("wte", slice(0, 6)), ("bias", slice(30, 34))):
        assert np.array_equal(moved.z_D[at], plain.z_D[at]), tensor
    assert not np.array_equal(moved.z_D[6:30], plain.z_D[6:30])


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon since 2.9")
def test_a_matrix_moves_as_under_torchs_muon() -> None:
    rng = np.random.default_rng(2)
    z_D = rng.standard_normal(24)
    parameter = torch.nn.Parameter(torch.tensor(z_D.reshape(4, 6), dtype=torch.float64))
    theirs = torch.optim.Muon([parameter], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    ours = Muon(matrices=((0, 4, 6),), weight_decay=0.1)
    state = ours.init(z_D)
    for _ in range(5):
        g_D = rng.standard_normal(24)
        parameter.grad = torch.tensor(g_D.reshape(4, 6))
        theirs.step()
        state = ours.update(state, g_D, 0.02)
    # theirs is an average with weight 0.05 and works in bfloat16, whose steps are 0.4 % of a value
    assert np.abs(state.z_D.reshape(4, 6) - parameter.detach().numpy()).max() < 0.02 * 5 * 0.2 * 6**0.5 * 0.05
