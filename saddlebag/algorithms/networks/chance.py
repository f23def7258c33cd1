"""Random numbers of a batch, from the round's key."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from saddlebag.compression.stream import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from saddlebag.compression.draws import Draws

__all__ = ["Chance"]

_SEED_BITS = 63  # torch's generators take a signed seed


def seed_of(draws: Draws) -> int:
    """The seed of a worker's random numbers in a round."""
    return int(draws.own(Purpose.PERTURBATION).words(1)[0]) >> (64 - _SEED_BITS)


class Chance:
    """The random numbers of one batch, a function of the round's key: each sample's own, whichever rank computes it.

    Attributes:
        round: the round's number, for what changes with time, such as a radius that grows.

    Example:
        >>> whole, half = Chance(7, 4, slice(0, 4)), Chance(7, 4, slice(2, 4))
        >>> bool((whole.uniform(3)[2:] == half.uniform(3)).all())  # a sample's numbers are its own, whichever rank computes it
        True
    """

    def __init__(self, seed: int, batch_size: int, part: slice, *, round_: int = 0) -> None:
        import torch

        self.round = round_
        self._generator = torch.Generator().manual_seed(seed)
        self._batch_size, self._part = batch_size, part

    def uniform(self, *shape: int) -> torch.Tensor:
        """Numbers in [0, 1), float64 (samples of this part, *shape)."""
        import torch

        return torch.rand((self._batch_size, *shape), generator=self._generator, dtype=torch.float64)[self._part]

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal numbers, float64 (samples of this part, *shape)."""
        import torch

        return torch.randn((self._batch_size, *shape), generator=self._generator, dtype=torch.float64)[self._part]


_GLOBAL = threading.RLock()  # torch has one global generator for all threads of a program


def alone() -> contextlib.AbstractContextManager[object]:
    """Held around what draws from the global generators without a seed of ours, such as the starts of layers."""
    return _GLOBAL


@contextlib.contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Seed the global generators that dropout on a device draws from, for one computation at a time; then put them back.

    Those of other devices stay as they are: torch.manual_seed would change them all, and fork_rng would not put them back.
    """
    import torch

    where = torch.device(device)
    with _GLOBAL, contextlib.ExitStack() as stack:
        if where.type == "cuda":
            index = torch.cuda.current_device() if where.index is None else where.index
            stack.enter_context(torch.random.fork_rng(devices=[index]))
            stack.enter_context(torch.cuda.device(index))
            torch.cuda.manual_seed(seed)
        else:
            stack.enter_context(torch.random.fork_rng(devices=[]))
        torch.default_generator.manual_seed(seed)  # that of the CPU, from which modules draw there, too
        yield
