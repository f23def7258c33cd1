"""Shards: a partition, even in size, the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.algorithms.problems import SPLITS, split_rows
from saddlebag.errors import ConfigError


@given(st.data())
def test_shards_are_an_even_partition(data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=1, max_size=60))
    num_workers = data.draw(st.integers(1, len(labels)))
    split, seed = data.draw(st.sampled_from(sorted(SPLITS))), data.draw(st.integers(0, 2**64 - 1))
    shards = split_rows(np.array(labels), num_workers, split=split, seed=seed)
    assert len(shards) == num_workers
    assert sorted(np.concatenate(shards).tolist()) == list(range(len(labels)))
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1
    assert all(np.all(np.diff(shard) > 0) and shard.dtype == np.int64 for shard in shards)


def test_even_split_is_pinned() -> None:  # every machine must cut alike, in every version
    shards = split_rows(np.ones(10), 3, seed=1)
    assert [shard.tolist() for shard in shards] == [[0, 1, 4, 5], [3, 8, 9], [2, 6, 7]]


def test_even_split_depends_on_the_seed_and_ignores_labels() -> None:
    first, second = split_rows(np.ones(100), 2, seed=0), split_rows(np.ones(100), 2, seed=1)
    assert not np.array_equal(first[0], second[0])
    again = split_rows(np.where(np.arange(100) < 50, -1.0, 1.0), 2, seed=0)
    assert np.array_equal(first[0], again[0])


def test_label_skew_separates_labels() -> None:
    labels_N = np.tile([1.0, -1.0], 20)
    means = [labels_N[shard].mean() for shard in split_rows(labels_N, 4, split="label_skew")]
    assert means == [-1.0, -1.0, 1.0, 1.0]


@pytest.mark.parametrize("num_workers", [-1, 0, 4])
def test_a_worker_without_rows_is_refused(num_workers: int) -> None:
    with pytest.raises(ConfigError, match=rf"workers must lie in 1\.\.3.* got {num_workers}"):
        split_rows(np.ones(3), num_workers)


def test_unknown_split_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="unknown split 'odd'; known: even, label_skew"):
        split_rows(np.ones(3), 1, split="odd")
