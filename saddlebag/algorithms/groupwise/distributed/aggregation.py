"""Sleeping experts as the aggregation rule of federated training: clients' models are experts that sleep while absent.

In a round the awake clients' models are weighed by the mixer, and what was played is charged on that round's examples. For
every client k at once, our loss on its rounds exceeds that of its own model by at most the mixer's bound, whoever drops out,
as long as who is there is known before predicting. For linear models the weighted mean of the parameters *is* the mixture
predictor, so the guarantee holds for one model; for others the predictions must be mixed, and a mean of parameters has none.

Shapes: M = clients, D = parameters.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import guard
from saddlebag.algorithms.groupwise.mixers.mixing import distribution
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import AnyMixer, Array

__all__ = ["ExpertAggregation", "mean_of_models"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpertAggregation:
    """The rule.

    Attributes:
        mixer: weighs the clients; its `loss_range`, where it has one, is the largest possible difference of two losses.

    Example:
        >>> import saddlebag as sb
        >>> rule = ExpertAggregation(mixer=sb.make_mixer("ada_normal_hedge"))
        >>> state = rule.init(3)
        >>> awake_M, loss_M = np.array([1, 1, 0]), np.array([0.1, 0.9, 0.0])  # the third client is not there
        >>> weight_M = rule.weights(state, awake_M)
        >>> state = rule.update(state, weight_M, loss_M, awake_M, played=float(weight_M @ loss_M))
        >>> weight_M.tolist(), bool(np.diff(rule.weights(state, awake_M))[0] < 0)
        ([0.5, 0.5, 0.0], True)
    """

    mixer: AnyMixer

    def init(self, num_clients: int, prior_M: Array | None = None) -> Any:
        """The mixer's state before the first round; the prior is uniform unless given."""
        return self.mixer.init(np.full(num_clients, 1.0 / num_clients) if prior_M is None else prior_M)

    def weights(self, state: Any, awake_M: Array) -> Array:
        """Weights of the clients: 0 for absent ones, and a sum of 1 unless nobody is there. Shape (M,).

        Args:
            state: the mixer's.
            awake_M: availability in [0, 1], or booleans.
        """
        return distribution(self.mixer.log_weights(state), state.prior_E, np.asarray(awake_M, np.float64)).p_E

    def update(self, state: Any, weight_M: Array, loss_M: Array, awake_M: Array, played: float) -> Any:
        """The state after a round.

        Args:
            state: from which the weights were formed.
            weight_M: as `weights` gave them.
            loss_M: loss of each awake client's model on the round's examples; anything for the others.
            awake_M: availability.
            played: loss of what was played, at most the weighted mean of the losses where the loss is convex.

        Raises:
            ConfigError: a loss of an awake client is not finite.
            NotFiniteError: the state would not be finite.
        """
        awake_M = np.asarray(awake_M, np.float64)
        loss_M = np.where(awake_M > 0, loss_M, 0.0)
        if not (np.isfinite(loss_M).all() and np.isfinite(played)):
            raise ConfigError(f"losses must be finite, got {loss_M.tolist()} and {played}")
        reference = self.mixer.reference(weight_M, loss_M, played)
        return guard.checked(self.mixer.absorb(state, awake_M * (reference - loss_M)), state)


def mean_of_models(weight_M: Array, model_MD: Array) -> Array:
    """sum_k p_k theta_k: the mixture predictor where models are linear in their parameters. Shape (D,).

    Raises:
        ConfigError: nobody has weight.

    Example:
        >>> mean_of_models(np.array([0.25, 0.75]), np.array([[0.0, 4.0], [4.0, 0.0]])).tolist()
        [3.0, 1.0]
    """
    if not weight_M.any():
        raise ConfigError("no client is awake, so there is nothing to aggregate")
    return weight_M @ model_MD
