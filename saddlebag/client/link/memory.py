"""Checkpoints that stay in memory: a worker's last boundaries, for a server that comes back one or two rounds younger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import StateError
from saddlebag.proto.checkpoint import WORKER_KEEPS, CheckpointStore, superfluous

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

__all__ = ["MemoryStore", "lasting"]


class MemoryStore(CheckpointStore):
    """A store without a folder: float64 states are immutable, so it holds them; narrow ones change in place and are copied."""

    def __init__(self, keep: int = WORKER_KEEPS) -> None:
        self._kept: dict[int, tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]] = {}
        self._most = keep

    def rounds(self) -> list[int]:
        return sorted(self._kept)

    def save(self, round_: int, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        self._kept[round_] = lasting(arrays), dict(meta)
        for old in superfluous(self._kept, round_, self._most):
            del self._kept[old]

    def load(self, round_: int) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        arrays, facts = self._held(round_)
        return lasting(arrays), facts

    def facts(self, round_: int) -> dict[str, Any]:
        return self._held(round_)[1]

    def _held(self, round_: int) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        if round_ not in self._kept:
            raise StateError(f"this worker does not hold the boundary of round {round_}")
        return self._kept[round_]

    def forget_after(self, round_: int) -> None:
        self._kept = {kept: state for kept, state in self._kept.items() if kept <= round_}


def lasting(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a state as they stay whatever steps do: copies of those that are changed in place."""
    return {name: array if array.dtype == np.float64 else array.copy() for name, array in arrays.items()}
