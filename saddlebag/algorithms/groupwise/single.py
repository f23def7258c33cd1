"""Single rounds and requests in compiled loops: `Groupwise(compiled=True)` where numba is installed (the extra `fast`).

Ridge regression under AdaNormalHedge with squared loss, as in `run_rounds`. What the loops do not take (members in part that
are to be learned, numbers out of the usual range) goes the plain way, errors included. Both agree up to rounding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import guard
from saddlebag.algorithms.groupwise.kernels import loader
from saddlebag.algorithms.groupwise.learners.ridge import Ridge
from saddlebag.algorithms.groupwise.ledger import Ledger, open_ledger
from saddlebag.algorithms.groupwise.mixers.ada_normal_hedge import AdaNormalHedge, HedgeState
from saddlebag.algorithms.groupwise.state import GroupwiseState, Prediction

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.base import AnyLearner, AnyMixer, Array

    Mixed = tuple[Any, Array, Array, Array, Any]


class Single:
    """The loops of one algorithm; they are compiled, or loaded from the disk, when this is made."""

    def __init__(
        self, learner: AnyLearner, mixer: AnyMixer, interval: tuple[float, float] | None, default: float, *, charge_played: bool
    ) -> None:
        assert isinstance(learner, Ridge)
        assert isinstance(mixer, AdaNormalHedge)
        self._learner, self._loops = learner, loader.compiled("compiled_single")
        low, high = interval or (-math.inf, math.inf)
        self._fixed = (float(low), float(high), float(default))
        self._charge = (charge_played, float(mixer.loss_range), guard.LARGEST)
        self._begin(mixer)

    def _begin(self, mixer: AdaNormalHedge) -> None:
        """Go through every loop once: whoever calls first must not wait for a compiler."""
        one_G, x_D = np.ones(1), np.zeros(self._learner.dimension)
        state = GroupwiseState(self._learner.init(1), mixer.init(one_G), open_ledger(1))
        self.predict_rows(state, x_D[None], one_G[None], np.zeros(1))
        found = self.predict(state, x_D, one_G)
        assert found is not None
        self.learn(state, x_D, 0.0, Prediction(*found))

    def predict(self, state: GroupwiseState, x: Any, awake_G: Any) -> Mixed | None:
        """The fields of a `Prediction`; None for what the loops do not take."""
        x_D, awake_G = np.array(x, np.float64), np.array(awake_G, np.float64)  # copies: of one kind for the loops
        theta_GD, mixer = state.learner.theta_GD, state.mixer
        if (len(awake_G), *x_D.shape) != theta_GD.shape or awake_G.ndim != 1:
            return None
        p_G, z_G = np.zeros((2, len(awake_G)))
        weighs = (mixer.regret_E, mixer.absolute_E, mixer.prior_E)
        fine, value, fell_back = self._loops.round_mixed(theta_GD, x_D, awake_G, *weighs, *self._fixed, p_G, z_G)
        return (value, p_G, z_G, awake_G, fell_back) if fine else None

    def predict_rows(self, state: GroupwiseState, x_ND: Array, awake_NG: Any, log_weight_G: Array) -> Mixed | None:
        """The fields of a `Block`; None for what the loops do not take."""
        x_ND, awake_NG = np.array(x_ND, np.float64, order="C"), np.array(awake_NG, np.float64, order="C")
        groups, dimension = state.learner.theta_GD.shape
        if (x_ND.shape, awake_NG.shape) != ((len(x_ND), dimension), (len(x_ND), groups)) or len(log_weight_G) != groups:
            return None
        p_NG, z_NG = np.zeros((2, *awake_NG.shape))
        value_N, fell_back_N = np.zeros(len(x_ND)), np.zeros(len(x_ND), np.bool_)
        fixed = (state.mixer.prior_E, *self._fixed)
        results = (p_NG, z_NG, value_N, fell_back_N)
        fine = self._loops.rows_mixed(state.learner.theta_GD, x_ND, awake_NG, log_weight_G, *fixed, *results)
        return (value_N, p_NG, z_NG, awake_NG, fell_back_N) if fine else None

    def learn(self, state: GroupwiseState, x: Any, y: Any, prediction: Prediction) -> tuple[HedgeState, Ledger] | None:
        """Mixer and ledger after a round that `state.learner` learns in place; None, and nothing done, if it is not taken."""
        models, mixer, ledger = state.learner, state.mixer, state.ledger
        x_D, awake_G = np.array(x, np.float64), prediction.awake_E
        alike = prediction.p_E.shape == prediction.z_E.shape == awake_G.shape == models.count_G.shape
        if not alike or x_D.shape != (self._learner.dimension,) or not self._learner.is_usual(x_D, y):
            return None
        after_6G = np.empty((6, len(awake_G)))
        before = (ledger.count_E, ledger.loss_E, ledger.charged_E, ledger.absolute_E, mixer.regret_E, mixer.absolute_E)
        shown = (float(y), prediction.p_E, prediction.z_E, awake_G, float(prediction.value))
        fine, played, expected, largest = self._loops.round_booked(*shown, *self._charge, before, after_6G)
        if not fine:
            return None
        taught = (models.inverse_GDD, models.theta_GD, models.moment_GD, models.count_G, models.since_G)
        buffer = (models.row_RD, models.member_RG, models.pending)
        if not self._loops.models_taught(*taught, *buffer, x_D, float(y), awake_G):
            return None
        self._learner._tidy(models)
        count_G, loss_G, charged_G, gap_G, regret_G, absolute_G = after_6G
        sums = (ledger.played + played, ledger.expected + expected, ledger.rounds + 1)
        odd = (ledger.fell_back + prediction.fell_back, ledger.orphans + int(not awake_G.any()))
        booked = Ledger(count_G, loss_G, charged_G, gap_G, *sums, *odd, max(ledger.largest, largest))
        return HedgeState(regret_G, absolute_G, mixer.prior_E), booked
