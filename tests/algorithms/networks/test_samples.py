"""Data sets and loaders of torch as a worker's arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

from saddlebag.algorithms.networks import samples
from saddlebag.algorithms.networks.game import ModuleGame
from saddlebag.algorithms.networks.samples import collected
from saddlebag.compression.draws import Draws
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

X, Y = torch.arange(24.0).reshape(12, 2), torch.arange(12)
PAIRS = TensorDataset(X, Y)


class Rows(Dataset[Any]):
    """A data set of what it is given."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Any:
        return self._rows[number]() if callable(self._rows[number]) else self._rows[number]


class Stream(IterableDataset[Any]):
    """Samples one after the other."""

    def __iter__(self) -> Iterator[Any]:
        return zip(X, Y, strict=True)


class Endless(IterableDataset[Any]):
    """A stream without an end."""

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield torch.zeros(1000)


@pytest.mark.parametrize(
    "data",
    [
        PAIRS,
        DataLoader(PAIRS),
        DataLoader(PAIRS, batch_size=5, shuffle=True, drop_last=True),
        DataLoader(PAIRS, batch_size=None),
        DataLoader(Stream(), batch_size=4),
        Stream(),
        Rows([{"x": x, "y": int(y)} for x, y in PAIRS]),
        Rows([[x.numpy(), int(y)] for x, y in PAIRS]),
        DataLoader([(x, y) for x, y in PAIRS]),  # type: ignore[arg-type]
        DataLoader(
            PAIRS, collate_fn=lambda chunk: (torch.stack([x for x, _ in chunk]), torch.tensor([int(y) for _, y in chunk]))
        ),
    ],
    ids=lambda data: type(data).__name__,
)
def test_samples_come_once_in_the_order_of_the_data_set(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_AT_ONCE", 5)
    x, y = collected(data, "data")
    assert np.array_equal(x, X.numpy())
    assert np.array_equal(y, Y.numpy())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Rows([]), "data holds no samples"),
        (Rows([torch.zeros(2), torch.zeros(3)]), r"data, samples 0\.\.1: samples do not fit into one array"),
        (Rows(["text", "more"]), r"data, samples 0\.\.1: a sample must be tensors or numbers, got str, str; encode text"),
        (Rows([(torch.zeros(2), "text")]), "a sample must be tensors or numbers, got Tensor, tuple"),
        (Rows([lambda: torch.rand(3)]), "data: sample 0 differs when it is read again; move random changes into the loss"),
        (DataLoader(PAIRS, sampler=WeightedRandomSampler([1.0] * 12, 12)), "the loader's sampler chooses samples"),
        (DataLoader(PAIRS, sampler=RandomSampler(PAIRS, num_samples=5)), "choose them with torch.utils.data.Subset"),
        (
            DataLoader(PAIRS, collate_fn=lambda chunk: torch.zeros(3)),
            r"collate_fn must return one row a sample, got shapes \[\(3,\)\]",
        ),
        (Endless(), "data: its first 512 samples have more than 1100000 bytes, the most that is collected"),
        ({1, 2}, "data must be a tuple of arrays with one row a sample, or a Dataset or DataLoader of torch, got set"),
    ],
)
def test_what_gives_no_arrays_is_refused(data: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MOST_BYTES", 1_100_000)
    with pytest.raises(ConfigError, match=message):
        collected(data, "data")


def test_a_game_on_data_sets_has_the_bits_of_one_on_arrays() -> None:
    parts = random_split(PAIRS, [6, 6], torch.Generator().manual_seed(0))
    arrays = [(X.numpy()[part.indices], Y.numpy()[part.indices]) for part in parts]
    operators = []
    for data in (
        arrays,
        parts,
        [DataLoader(part, batch_size=2, shuffle=True) for part in parts],
        [Subset(PAIRS, part.indices) for part in parts],
    ):
        problem = ModuleGame(
            build=lambda: {"model": torch.nn.Linear(2, 1, dtype=torch.float64)},
            loss=lambda players, batch, chance: ((players["model"](batch[0])[:, 0] - batch[1]) ** 2).mean(),
            data=data,
            batch_size=3,
            precision="float64",
        )
        operators.append(problem.operator(1)(np.ones(3), Draws(0, 4, 1)))
    assert all(np.array_equal(operators[0], other) for other in operators)
