"""Many rows predicted from one state: what a service does with a batch, and a worker with a frozen block.

Shapes: N = rows, D = features, G = groups, E = experts.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.algorithms.groupwise import guard, weights
from saddlebag.algorithms.groupwise.algorithm import Groupwise, GroupwiseState, Prediction
from saddlebag.algorithms.groupwise.capabilities import PredictsBlocks
from saddlebag.algorithms.groupwise.learners.ridge import Ridge
from saddlebag.algorithms.groupwise.mixers.mixing import shared_distribution
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.compression import Draws

    Memberships = Array | npt.NDArray[np.bool_]

__all__ = ["Block", "predict_block"]


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Scalar predictions of N rows; see `Prediction`.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.algorithms.groupwise import SquaredLoss
        >>> from saddlebag.compression import Draws
        >>> algorithm = sb.Groupwise(
        ...     learner=sb.make_learner("ridge", 1), mixer=sb.make_mixer("ada_normal_hedge"), loss=SquaredLoss()
        ... )
        >>> block = predict_block(algorithm, algorithm.init(2), np.ones((3, 1)), np.ones((3, 2)), lambda row: Draws(0, row))
        >>> block.value_N.tolist(), block[0].p_E.tolist()
        ([0.0, 0.0, 0.0], [0.5, 0.5])
    """

    value_N: Array
    p_NE: Array
    z_NE: Array
    awake_NE: Array
    fell_back_N: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.value_N)

    def __getitem__(self, row: int) -> Prediction:
        return Prediction(self.value_N[row], self.p_NE[row], self.z_NE[row], self.awake_NE[row], bool(self.fell_back_N[row]))


def predict_block(
    algorithm: Groupwise,
    state: GroupwiseState,
    x_ND: Array,
    awake_NG: Memberships,
    draws: Callable[[int], Draws],
    log_weight_E: Array | None = None,
) -> Block:
    """Predict N rows from the same state: what `Groupwise.predict` gives for each, up to the rounding of sums.

    Args:
        algorithm: with a learner of scalar predictions. A learner may have `predict_block(state, x_ND, member_NG)` -> (N, G),
            which is asked for all rows at once; of others each row is asked.
        state: as it is now; not changed.
        x_ND: contexts.
        awake_NG: memberships, booleans or confidences.
        draws: the randomness of a row.
        log_weight_E: the mixer's, where the caller has them already.

    Raises:
        ConfigError: the learner's predictions are no scalars.
        NotFiniteError: one of them is not finite.

    Example:
        >>> import saddlebag as sb
        >>> from saddlebag.algorithms.groupwise import SquaredLoss
        >>> algorithm = sb.Groupwise(
        ...     learner=sb.make_learner("ridge", 1), mixer=sb.make_mixer("ada_normal_hedge"), loss=SquaredLoss()
        ... )
        >>> from saddlebag.compression import Draws
        >>> block = predict_block(algorithm, algorithm.init(2), np.ones((3, 1)), np.eye(3, 2), lambda row: Draws(0, row))
        >>> len(block), block.p_NE.tolist()  # in the third row nobody is awake
        (3, [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    """
    if log_weight_E is None:
        log_weight_E = algorithm.mixer.log_weights(state.mixer)
    if algorithm.single is not None:
        found = algorithm.single.predict_rows(state, x_ND, awake_NG, log_weight_E)
        if found is not None:
            return Block(*found)
    with np.errstate(over="ignore", invalid="ignore"):
        z_NG = _learners(algorithm, state, x_ND, awake_NG, draws)
    guard.check_predictions(algorithm.learner, z_NG)
    if algorithm.interval is not None:
        z_NG = np.where(awake_NG > 0, np.clip(z_NG, *algorithm.interval), 0.0)
    z_NE, awake_NE = z_NG, np.asarray(awake_NG, np.float64)
    if algorithm.shadows and algorithm.always_on is not None:
        shadow_NG = np.repeat(z_NG[:, [algorithm.always_on]], z_NG.shape[1], axis=1)
        z_NE = np.concatenate((z_NG, np.delete(shadow_NG, algorithm.always_on, axis=1)), axis=1)
        awake_NE = np.concatenate((awake_NE, np.delete(awake_NE, algorithm.always_on, axis=1)), axis=1)
    chosen = shared_distribution(log_weight_E, state.mixer.prior_E, awake_NE)
    if algorithm.output == "mixture":
        value_N = np.einsum("ne,ne->n", chosen.p_E, z_NE)
        value_N[~awake_NE.any(axis=1)] = algorithm.default
    else:
        value_N = np.array(
            [float(algorithm.play(p_E, z_E, draws(row))) for row, (p_E, z_E) in enumerate(zip(chosen.p_E, z_NE, strict=True))]
        )
    return Block(value_N, chosen.p_E, z_NE, awake_NE, chosen.fell_back)


def _learners(
    algorithm: Groupwise, state: GroupwiseState, x_ND: Array, awake_NG: Memberships, draws: Callable[[int], Draws]
) -> Array:
    """Each awake group's prediction of each row, 0 for sleepers; shape (N, G)."""
    learner: object = algorithm.learner
    whole = weights.are_whole(awake_NG)
    if isinstance(learner, PredictsBlocks) and (whole or isinstance(learner, Ridge)):
        member_NG = awake_NG > 0
        return np.where(member_NG, learner.predict_block(state.learner, x_ND, member_NG if whole else awake_NG), 0.0)
    z_NG = np.zeros(awake_NG.shape)
    for row, (x_D, awake_G) in enumerate(zip(x_ND, awake_NG, strict=True)):
        group_K = np.flatnonzero(awake_G)
        z_K = np.asarray(weights.predict(algorithm.learner, state.learner, x_D, group_K, awake_G[group_K], draws(row)))
        if z_K.ndim != 1:
            raise ConfigError(
                f"blocks need a learner of scalar predictions, got shape {z_K.shape[1:]} from {algorithm.learner}"
            )
        z_NG[row, group_K] = z_K
    return z_NG
