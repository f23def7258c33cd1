"""What problems of networks may have beside their contract so that a process holds no vector twice; asked by `isinstance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from torch import nn

    from saddlebag.compression.payload import Vector

__all__ = ["LendsModules", "StartsNarrow"]


@runtime_checkable
class LendsModules(Protocol):
    """Made of torch modules, to look at without a copy.

    Example:
        >>> import contextlib
        >>> class Lender:
        ...     def lent(self, z_D):
        ...         return contextlib.nullcontext({})
        >>> isinstance(Lender(), LendsModules)
        True
    """

    def lent(self, z_D: Vector) -> AbstractContextManager[Mapping[str, nn.Module]]:
        """Players by name, at z and in evaluation mode; they are not to be changed, nor z meanwhile."""


@runtime_checkable
class StartsNarrow(Protocol):
    """Knows its start as narrow methods keep it (`narrow.py`).

    Example:
        >>> import numpy as np
        >>> class Small:
        ...     def start_narrow(self):
        ...         return np.zeros(2, np.float32)
        >>> isinstance(Small(), StartsNarrow), Small().start_narrow().dtype.name
        (True, 'float32')
    """

    def start_narrow(self) -> Vector:
        """The start in a type that holds it exactly, float32 if possible, (D,): memory that is the caller's from now on."""
