"""The example with a block of one's own: its block keeps shapes, its game is a function, and a few iterations run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

PATH = Path(__file__).parents[3] / "examples" / "pooling_block" / "train.py"


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("pooling_block", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_block_mixes_tokens(example: Any) -> None:
    torch.manual_seed(0)
    block, x = example.PoolingBlock(8), torch.randn(2, 16, 8)
    assert block(x).shape == x.shape
    other = x.clone()
    other[:, 15] += 10.0
    assert not torch.equal(block(other)[:, 0], block(x)[:, 0]), "the first token learns of the last"


def test_a_few_iterations_run(example: Any) -> None:
    errors, num_bytes = example.train(iterations=2)
    assert set(errors) == {"robust_error", "clean_error"}
    assert all(0.0 <= error <= 1.0 for error in errors.values())
    assert num_bytes > 0
