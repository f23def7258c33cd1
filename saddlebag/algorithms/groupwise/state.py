"""What a round's prediction was made of, and what outlives a round."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.algorithms.groupwise.ledger import Ledger

__all__ = ["GroupwiseState", "Prediction"]


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What a round's prediction was made of: all that its feedback needs, besides (x, y).

    Attributes:
        value: the prediction, a scalar or an array.
        p_E: the weights; all 0 when nobody was awake.
        z_E: each expert's own prediction, clipped; 0 for sleepers. Shape (E, ...).
        awake_E: confidences I in [0, 1].
        fell_back: all the awake had weight 0, and the prior was taken.

    Example:
        >>> import numpy as np
        >>> prediction = Prediction(0.5, np.array([0.5, 0.5]), np.array([0.0, 1.0]), np.ones(2), fell_back=False)
        >>> float(prediction.p_E @ prediction.z_E) == prediction.value
        True
    """

    value: Any
    p_E: Array
    z_E: Array
    awake_E: Array
    fell_back: bool


@dataclasses.dataclass(frozen=True, eq=False)
class GroupwiseState:
    """What outlives a round: the learners' state, the mixer's, and the accounts.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.algorithms.groupwise import SquaredLoss
        >>> state = sb.Groupwise(
        ...     learner=sb.make_learner("ridge", 1), mixer=sb.make_mixer("ada_normal_hedge"), loss=SquaredLoss()
        ... ).init(2)
        >>> state.ledger.rounds
        0
    """

    learner: Any
    mixer: Any
    ledger: Ledger
