"""An operator whose next value is computed while this process waits for the network.

Shapes: D = coordinates.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from saddlebag.algorithms.local_blocks import LocalOperator
from saddlebag.algorithms.method_capabilities import IsLate

if TYPE_CHECKING:
    from saddlebag.algorithms import AnyMethod, Operator
    from saddlebag.compression import Draws, Vector

__all__ = ["Ahead", "looking_ahead"]


class Ahead:
    """An operator that may be told in advance where it will be asked; its values do not depend on that.

    Args:
        operator: asked by one thread at a time, this one's or that of a value in advance.
    """

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._begun: _Begun | None = None

    def begin(self, z_D: Vector, draws: Draws) -> None:
        """Compute the value at z in a thread; an earlier one that nobody asked for is given up first."""
        self._given_up()
        self._begun = _Begun(self._operator, z_D, draws)

    def __call__(self, z_D: Vector, draws: Draws) -> Vector:
        begun = self._begun
        if begun is None or begun.z_D is not z_D or begun.draws != draws:  # after a restart the point is another object
            self._given_up()
            return self._operator(z_D, draws)
        self._begun = None
        return begun.value()

    def _given_up(self) -> None:
        if self._begun is not None:
            self._begun.thread.join()
            self._begun = None


def looking_ahead(method: AnyMethod, operator: Operator) -> Operator:
    """An `Ahead` where the method is late, else the operator; one that moves blocks of samples does so round by round."""
    late = isinstance(method, IsLate) and method.late and not isinstance(operator, LocalOperator)
    return Ahead(operator) if late else operator


class _Begun:
    """One value on its way."""

    def __init__(self, operator: Operator, z_D: Vector, draws: Draws) -> None:
        self.z_D, self.draws = z_D, draws
        self._operator = operator
        self._found: Vector | None = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._found = self._operator(self.z_D, self.draws)
        except BaseException as error:
            self._error = error

    def value(self) -> Vector:
        """Wait for it; raises what the operator raised."""
        self.thread.join()
        if self._error is not None:
            raise self._error
        assert self._found is not None
        return self._found
