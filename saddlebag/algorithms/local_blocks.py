"""Blocks of a game that belong to one worker and never travel: kept in the worker's state, moved once in every round.

    min_theta max_{rho_1..rho_M} (1/M) sum_m f_m(theta, rho_m),     rho_m in a set of worker m's own

Only theta's part of the operator is compressed and sent. rho_m, such as a perturbation of each of the worker's samples, is
state of the worker: all values of a round are taken at the rho_m of its beginning, so F_m stays a function within the round,
and the gradient in rho_m of the round's first value moves it afterwards (simultaneous ascent, as in free adversarial
training, Shafahi et al. 2019). A worker that starts anew, without its checkpoint, starts with fresh blocks.

Outside the theory for methods that keep values of earlier rounds (MASHA's anchors): those were taken at other blocks.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from saddlebag.algorithms.agreed.auto_step import AutoStep
from saddlebag.algorithms.base import restarted
from saddlebag.algorithms.participation import Selective
from saddlebag.algorithms.wrapped import Wrapped
from saddlebag.errors import ConfigError, StateError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import AnyMethod, Message, Operator
    from saddlebag.compression import Draws, Vector

__all__ = ["LocalOperator"]


@runtime_checkable
class LocalOperator(Protocol):
    """The operator of a worker that keeps a block; E = its coordinates, whatever their number.

    Example:
        >>> class Keeps:
        ...     block_size = 2
        ...
        ...     def step(self, z_D, block_E, draws):
        ...         return z_D, block_E
        >>> isinstance(Keeps(), LocalOperator)
        True
    """

    @property
    def block_size(self) -> int:
        """E; the block is 0 at the start."""

    def step(self, z_D: Vector, block_E: Vector, draws: Draws) -> tuple[Vector, Vector]:
        """(F_m(z, block, draws), the block moved by one step of ascent): a function."""


@dataclasses.dataclass(frozen=True, eq=False)
class _WithBlock:
    """A worker's state in the method, and its block; a block without coordinates before the first step."""

    state: Any
    block_E: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeepsBlocks(Wrapped):
    """A method whose workers keep a block beside their state; itself a method.

    Attributes:
        method: what exchanges theta's part.
    """

    def restart(self, replica: Any) -> Any:
        """The replica with which the method begins an epoch."""
        return restarted(self.method, replica)

    def init_worker(self, replica: Any) -> _WithBlock:
        """With an empty block: the first step asks the operator for its size."""
        return _WithBlock(self.method.init_worker(replica), np.empty(0))

    def worker_step(self, replica: Any, own: _WithBlock, operator: Operator, draws: Draws) -> tuple[_WithBlock, Message]:
        """The method's own step; the block moves by what its first value says.

        Raises:
            StateError: the block of a checkpoint is not one of this worker's.
        """
        keeper: Any = operator
        if not isinstance(keeper, LocalOperator):  # of another problem: there is nothing to keep
            state, up = self.method.worker_step(replica, own.state, operator, draws)
            return _WithBlock(state, own.block_E), up
        size, block_E = keeper.block_size, own.block_E
        if len(block_E) not in (0, size):
            raise StateError(f"the worker's block must have {size} coordinates, got {len(block_E)}")
        block_E = block_E if len(block_E) else np.zeros(size)
        moved: list[Vector] = []

        def ask(z_D: Vector, at: Draws) -> Vector:
            value_D, after_E = keeper.step(z_D, block_E, at)
            moved.append(after_E)
            return value_D

        state, up = self.method.worker_step(replica, own.state, ask, draws)
        return _WithBlock(state, moved[0] if moved else block_E), up


def with_local_blocks(method: AnyMethod) -> KeepsBlocks:
    """The method for a problem whose workers keep blocks.

    Raises:
        ConfigError: its workers may idle, or its step size is automatic, for neither of which there is a rule with blocks.
    """
    if isinstance(method, Selective):
        raise ConfigError("local blocks need all workers in every round; leave participants out")
    if isinstance(method, AutoStep):
        raise ConfigError("local blocks need a number for step_size, got an automatic one")
    return KeepsBlocks(method=method)
