"""Samples of torch's data sets and loaders as arrays: one row a sample, in the order of the data set, collected once.

A game asks for any rows at any time and must get the same bits each time, on every machine; so samples are collected before the
first round, and what a data set draws at random is refused. Shapes: N = samples of a worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, default_collate

from saddlebag.errors import ConfigError

MOST_BYTES = 1 << 33
"""Of one worker's arrays; more than that belongs in a memory-mapped array."""
_AT_ONCE = 256  # samples that are collated together


def collected(data: Any, where: str) -> tuple[np.ndarray[Any, Any], ...]:
    """All samples of a data set, or of the one that a loader reads, as arrays.

    A sample is a tensor, an array or a number, or a tuple, list or dict of them; there is an array for each part, (N, ...). A
    loader's batches, shuffling and workers do not matter; its `collate_fn` makes the arrays.

    Args:
        data: a `torch.utils.data.Dataset` or `DataLoader`.
        where: whose, for messages.

    Raises:
        ConfigError: it is neither; there is no sample; samples differ in shape, or from one reading to the next; they hold
            text; there are too many; a loader's sampler leaves samples out or repeats them.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> x, y = collected(TensorDataset(torch.zeros(3, 2), torch.arange(3)), "data")
        >>> x.shape, y.tolist()
        ((3, 2), [0, 1, 2])
    """
    collate = default_collate
    if isinstance(data, DataLoader):
        if not isinstance(data.dataset, IterableDataset) and not _takes_all(data):
            raise ConfigError(f"{where}: the loader's sampler chooses samples; choose them with torch.utils.data.Subset")
        collate = data.collate_fn if data.batch_size is not None else default_collate
        data = data.dataset
    elif not isinstance(data, Dataset):
        wanted = "a tuple of arrays with one row a sample, or a Dataset or DataLoader of torch"
        raise ConfigError(f"{where} must be {wanted}, got {type(data).__name__}")
    return _joined(data, collate, where)


def _joined(data: Any, collate: Any, where: str) -> tuple[np.ndarray[Any, Any], ...]:
    """All samples, in pieces that are checked one by one."""
    parts: list[tuple[np.ndarray[Any, Any], ...]] = []
    num_bytes = count = 0
    for samples in _chunks(data, where):
        arrays = _arrays(samples, collate, f"{where}, samples {count}..{count + len(samples) - 1}")
        if not parts:
            _require_fixed(data, samples[0], collate, where)
        parts.append(arrays)
        count += len(samples)
        num_bytes += sum(array.nbytes for array in arrays)
        if num_bytes > MOST_BYTES:
            raise ConfigError(
                f"{where}: its first {count} samples have more than {MOST_BYTES} bytes, the most that is collected"
            )
        if [array.shape[1:] for array in arrays] != [array.shape[1:] for array in parts[0]]:
            raise ConfigError(f"{where}: samples from {count - len(samples)} on have another shape than the first")
    if not parts:
        raise ConfigError(f"{where} holds no samples")
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _takes_all(loader: DataLoader[Any]) -> bool:
    """Whether a loader reads each sample of its data set once."""
    sampler = loader.sampler
    if isinstance(sampler, RandomSampler):
        return not sampler.replacement and sampler.num_samples == len(loader.dataset)  # type: ignore[arg-type]
    return isinstance(sampler, SequentialSampler)


def _chunks(data: Any, where: str) -> Iterator[list[Any]]:
    """The samples, some at a time."""
    if isinstance(data, IterableDataset):
        chunk: list[Any] = []
        for sample in data:
            chunk.append(sample)
            if len(chunk) == _AT_ONCE:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
        return
    try:
        count = len(data)
    except TypeError:
        raise ConfigError(f"{where}: the data set has no length; give it __len__, or make it an IterableDataset") from None
    for first in range(0, count, _AT_ONCE):
        yield [data[number] for number in range(first, min(count, first + _AT_ONCE))]


def _arrays(samples: list[Any], collate: Any, where: str) -> tuple[np.ndarray[Any, Any], ...]:
    """Samples as one array for each part."""
    try:
        batch = collate(samples)
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or ["?"])[0]
        raise ConfigError(f"{where}: samples do not fit into one array: {reason[:120]}") from error
    parts = list(batch.values()) if isinstance(batch, Mapping) else [batch] if isinstance(batch, torch.Tensor) else batch
    if not isinstance(parts, list | tuple) or not all(isinstance(part, torch.Tensor) for part in parts):
        kinds = [type(part).__name__ for part in parts] if isinstance(parts, list | tuple) else [type(parts).__name__]
        raise ConfigError(
            f"{where}: a sample must be tensors or numbers, got {', '.join(kinds)[:80]}; encode text and nested parts"
        )
    arrays = tuple(part.detach().cpu().numpy() for part in parts)
    if any(array.ndim == 0 or len(array) != len(samples) for array in arrays):
        raise ConfigError(f"{where}: collate_fn must return one row a sample, got shapes {[array.shape for array in arrays]}")
    return arrays


def _require_fixed(data: Any, first: Any, collate: Any, where: str) -> None:
    """Refuse a data set whose first sample is another one when it is asked for again."""
    if isinstance(data, IterableDataset):
        return
    again, once = (_arrays([sample], collate, where) for sample in (data[0], first))
    if any(a.tobytes() != b.tobytes() for a, b in zip(again, once, strict=True)):
        raise ConfigError(
            f"{where}: sample 0 differs when it is read again; move random changes into the loss, drawn from chance"
        )
