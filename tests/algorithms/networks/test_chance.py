"""Random numbers of a batch: parts of one draw, and torch's global generator left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from saddlebag.algorithms.networks.chance import Chance, seed_of, seeded
from saddlebag.compression import Draws


def test_parts_are_rows_of_the_whole_whoever_draws_them() -> None:
    for kind in ("uniform", "normal"):
        whole = getattr(Chance(5, 6, slice(None)), kind)(2, 3)
        assert whole.shape == (6, 2, 3)
        for rank in range(3):
            part = slice(rank, None, 3)
            assert torch.equal(getattr(Chance(5, 6, part), kind)(2, 3), whole[part])


def test_seeds_are_of_the_worker_and_the_round() -> None:
    seeds = {seed_of(Draws(seed, round_, worker)) for seed in range(2) for round_ in range(3) for worker in range(4)}
    assert len(seeds) == 24
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_programs_generator_goes_on_as_before() -> None:
    before = torch.random.get_rng_state()
    with seeded(7, "cpu"):
        first = torch.rand(4)
        with seeded(8, "cpu"):
            torch.rand(4)
        second = torch.rand(4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(torch.cat((first, second)), torch.rand(8, generator=torch.Generator().manual_seed(7)))
    with pytest.raises(RuntimeError, match="inside"), seeded(7, "cpu:0"):
        raise RuntimeError("inside")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_generators_of_other_devices_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: Any) -> None:
        raise AssertionError("a generator that nobody asked for was seeded")

    for module in (torch.cuda, torch.mps, torch.xpu):
        monkeypatch.setattr(module, "manual_seed_all" if hasattr(module, "manual_seed_all") else "manual_seed", touched)
    with seeded(7, "cpu"):
        torch.rand(1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_has_its_own_generator_seeded_and_put_back() -> None:
    before = torch.cuda.get_rng_state()
    found = []
    for _ in range(2):
        with seeded(7, "cuda"):
            found.append(torch.rand(3, device="cuda"))
    assert torch.equal(*found)
    assert torch.equal(torch.cuda.get_rng_state(), before)
