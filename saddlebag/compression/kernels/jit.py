"""How kernels are compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba

if TYPE_CHECKING:
    from collections.abc import Callable


def jit(function: Callable[..., Any]) -> Any:
    """Compiled at the first call for each type of arguments, and kept on disk where numba finds a place to write."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # neither beside this file nor in the user's cache
        return numba.njit(nogil=True, error_model="numpy")(function)
