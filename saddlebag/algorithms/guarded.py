"""Proof that nobody looks at what was handed on: a narrow method whose spent states turn into NaN."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.state import pack, unpack
from saddlebag.algorithms.wrapped import Wrapped

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Message, Operator
    from saddlebag.compression import Draws, Mean

_NAN16 = 0x7FC0  # of bfloat16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guarded(Wrapped):
    """Steps of the inner method on copies: the states that it was given are filled with NaN when the step has been made.

    A run with it has the bits of the run without it if, and only if, no driver looks at a state that was handed on. Slow, for
    tests.
    """

    def worker_step(self, replica: Any, own: Any, operator: Operator, draws: Draws) -> tuple[Any, Message]:
        after, up = self.method.worker_step(replica, _moved_on(own), operator, draws)
        return after, up

    def server_step(self, replica: Any, own: Any, means: tuple[Mean, ...], draws: Draws) -> tuple[Any, Message]:
        return self.method.server_step(replica, _moved_on(own), means, draws)

    def replay(self, replica: Any, down: Message, draws: Draws) -> Any:
        return self.method.replay(_moved_on(replica), down, draws)


def _moved_on(state: Any) -> Any:
    """A copy of a state, which itself is spent."""
    arrays = pack(state)
    copy = unpack(state, {name: array.copy() for name, array in arrays.items()})
    for array in arrays.values():
        if array.ndim:
            array.fill(_NAN16 if array.dtype == np.uint16 else np.nan)
    return copy
