"""States of learners, mixers and ledgers as named arrays, for checkpoints."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

__all__ = ["pack_arrays", "unpack_arrays"]


def pack_arrays(state: Any, prefix: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a state by name, copied; numbers as 0-d arrays.

    Raises:
        ConfigError: it holds something else, so it cannot be saved without pickle.
    """
    arrays = {}
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if not isinstance(value, np.ndarray | int | float):
            raise ConfigError(f"{type(state).__name__}.{field.name} is no array, so this learner cannot be served")
        arrays[f"{prefix}.{field.name}"] = np.array(value)
    return arrays


def unpack_arrays(like: Any, arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> Any:
    """The state with the arrays of a checkpoint, each of the kind that `like` has."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(like):
        model, array = getattr(like, field.name), arrays[f"{prefix}.{field.name}"]
        if not isinstance(model, np.ndarray):
            values[field.name] = type(model)(array.item())
            continue
        if array.shape != model.shape or array.dtype != model.dtype:
            raise ValueError(f"{prefix}.{field.name} is {array.dtype} {array.shape}, not {model.dtype} {model.shape}")
        values[field.name] = np.array(array)
    return type(like)(**values)
