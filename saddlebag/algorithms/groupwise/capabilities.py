"""What learners and mixers may have beside their contracts; callers ask by `isinstance`.

Two more stand beside what they are used by: `Careful` (guard.py) and `WeightedLearner` (weights.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import Array

__all__ = [
    "BoundsRegret",
    "BoundsRegretByRounds",
    "DeclaresRange",
    "MayNotAdd",
    "PredictsBlocks",
    "Replays",
    "ReplaysWeighted",
    "SeparateExperts",
]


@runtime_checkable
class MayNotAdd(Protocol):
    """A learner that says whether the sums of its blocks add up; those of a learner without this do.

    Example:
        >>> class RoundByRound:
        ...     additive = False
        >>> isinstance(RoundByRound(), MayNotAdd)
        True
    """

    @property
    def additive(self) -> bool: ...


@runtime_checkable
class PredictsBlocks(Protocol):
    """A learner that predicts many rows at once.

    Example:
        >>> import numpy as np
        >>> from saddlebag.algorithms.groupwise import Ridge
        >>> learner = Ridge(dimension=1)
        >>> learner.predict_block(learner.init(2), np.ones((3, 1)), np.ones((3, 2), bool)).shape
        (3, 2)
    """

    def predict_block(self, state: Any, x_ND: Array, member_NG: Any) -> Array:
        """Shape (N, G); what it says for sleeping groups is ignored."""


@runtime_checkable
class Replays(Protocol):
    """A learner with a quicker way through a recorded stream.

    Example:
        >>> import numpy as np
        >>> from saddlebag.algorithms.groupwise import Ridge
        >>> Ridge(dimension=1).replay(np.ones((3, 1)), np.ones(3)).round(2).tolist()  # each before its label
        [0.0, 0.5, 0.67]
    """

    def replay(self, x_KD: Array, y_K: Array) -> Array:
        """The predictions of one group's model on its rounds, in order, each before its label; shape (K,)."""


@runtime_checkable
class ReplaysWeighted(Replays, Protocol):
    """The same for rounds that count in part.

    Example:
        >>> import numpy as np
        >>> from saddlebag.algorithms.groupwise import Ridge
        >>> Ridge(dimension=1).replay_weighted(np.ones((3, 1)), np.ones(3), np.array([1.0, 0.5, 1.0])).round(2).tolist()
        [0.0, 0.5, 0.6]
    """

    def replay_weighted(self, x_KD: Array, y_K: Array, weight_K: Array) -> Array:
        """`replay`, where round k counts `weight_K[k]` times."""


@runtime_checkable
class BoundsRegret(Protocol):
    """A learner with a proven bound on one group's regret in the squared loss, from what was observed.

    Example:
        >>> import numpy as np
        >>> from saddlebag.algorithms.groupwise import Ridge
        >>> learner = Ridge(dimension=1)
        >>> isinstance(learner, BoundsRegret), learner.regret_bound(np.ones((4, 1)), np.ones(4), np.zeros(4)) > 0
        (True, True)
    """

    def regret_bound(self, x_KD: Array, y_K: Array, z_K: Array) -> float:
        """Of its rounds, labels and predictions."""


@runtime_checkable
class BoundsRegretByRounds(Protocol):
    """A randomised learner with a proven bound on a group's expected regret, from the number of its rounds.

    Example:
        >>> class Random:
        ...     def expected_regret_bound(self, rounds):
        ...         return 2.0 * rounds**0.5
        >>> isinstance(Random(), BoundsRegretByRounds), Random().expected_regret_bound(9)
        (True, 6.0)
    """

    def expected_regret_bound(self, rounds: int) -> float: ...


@runtime_checkable
class SeparateExperts(Protocol):
    """A mixer whose experts have nothing in common: a round costs what the awake cost, whatever their number.

    Example:
        >>> from saddlebag.algorithms.groupwise import AdaNormalHedge
        >>> isinstance(AdaNormalHedge(), SeparateExperts)
        True
    """

    def among(self, state: Any, expert_K: Any) -> Any:
        """The state of some experts by themselves; its `log_weights` and `absorb` are these experts' part of the whole's."""


@runtime_checkable
class DeclaresRange(Protocol):
    """A mixer that is told how far losses may lie apart.

    Example:
        >>> class Told:
        ...     loss_range = 1.0
        >>> isinstance(Told(), DeclaresRange)
        True
    """

    @property
    def loss_range(self) -> float: ...
