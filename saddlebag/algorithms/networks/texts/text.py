"""Texts to learn from: lines of a corpus, and sentences with labels. Reading them from files is `launch`'s work."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

Remember = Callable[[str, Callable[[], bytes]], bytes]
"""(key that names all that the bytes depend on, what makes them) -> the bytes, perhaps kept from before."""


def forget(key: str, make: Callable[[], bytes]) -> bytes:
    """Make them each time."""
    del key
    return make()


@dataclasses.dataclass(frozen=True, eq=False)
class Text:
    """Lines of a corpus, none of them blank: to train on, and to judge by."""

    name: str
    train: tuple[str, ...]
    valid: tuple[str, ...]
    remember: Remember = forget


@dataclasses.dataclass(frozen=True, eq=False)
class Sentences:
    """Sentences and their classes 0, 1, ...: to train on, and to judge by; `notes` is what their reader has to say."""

    name: str
    train: tuple[str, ...]
    train_labels: tuple[int, ...]
    dev: tuple[str, ...]
    dev_labels: tuple[int, ...]
    remember: Remember = forget
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """One more than the largest label, two at least."""
        return max(1, *self.train_labels, *self.dev_labels) + 1
