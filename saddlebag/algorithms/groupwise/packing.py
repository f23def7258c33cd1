"""A state as named arrays, for checkpoints and messages."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise.algorithm import GroupwiseState
from saddlebag.errors import ConfigError, StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

__all__ = ["pack_state", "unpack_state"]

_PARTS = ("learner", "mixer", "ledger")


def pack_state(state: GroupwiseState) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a state by name, copied, since learners write into theirs; numbers as 0-d arrays.

    Raises:
        ConfigError: a part holds something else (a model behind an adapter), so it cannot be written without pickle.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.algorithms.groupwise import SquaredLoss
        >>> algorithm = sb.Groupwise(
        ...     learner=sb.make_learner("ridge", 1), mixer=sb.make_mixer("ada_normal_hedge"), loss=SquaredLoss()
        ... )
        >>> sorted(name for name in pack_state(algorithm.init(2)) if name.startswith("mixer"))
        ['mixer.absolute_E', 'mixer.prior_E', 'mixer.regret_E']
    """
    return {name: array for part in _PARTS for name, array in pack_part(getattr(state, part), part).items()}


def unpack_state(like: GroupwiseState, arrays: Mapping[str, npt.NDArray[Any]]) -> GroupwiseState:
    """The state that `pack_state` gave.

    Args:
        like: a state of the same algorithm with the same groups: kinds and shapes are compared with its.
        arrays: others among them are ignored.

    Raises:
        StateError: an array is missing or of another kind.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.algorithms.groupwise import SquaredLoss
        >>> algorithm = sb.Groupwise(
        ...     learner=sb.make_learner("ridge", 1), mixer=sb.make_mixer("ada_normal_hedge"), loss=SquaredLoss()
        ... )
        >>> from saddlebag.compression import Draws
        >>> start = algorithm.init(2)
        >>> prediction = algorithm.predict(start, np.ones(1), np.ones(2), Draws(0, 0))
        >>> state = algorithm.learn(start, np.ones(1), 1.0, prediction)
        >>> unpack_state(start, pack_state(state)).ledger.rounds
        1
    """
    try:
        return GroupwiseState(**{part: unpack_part(getattr(like, part), arrays, part) for part in _PARTS})
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"the state does not fit: {error}") from error


def pack_part(state: Any, prefix: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays of one dataclass by name, copied; errors as `pack_state`."""
    arrays = {}
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if not isinstance(value, np.ndarray | int | float):
            raise ConfigError(f"{type(state).__name__}.{field.name} is no array, so this state cannot be saved")
        arrays[f"{prefix}.{field.name}"] = np.array(value)
    return arrays


def unpack_part(like: Any, arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> Any:
    """What `pack_part` gave; KeyError, TypeError or ValueError where it is something else."""
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
