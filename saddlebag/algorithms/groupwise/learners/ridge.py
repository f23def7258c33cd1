"""Online ridge regression, and the forecaster of Vovk, Azoury and Warmuth: rank-one updates, batched over groups.

With A = penalty I + sum x x' and b = sum y x over the rounds of a group so far,

    ridge    predicts b' A^-1 x,
    VAW      predicts b' (A + x x')^-1 x = ridge / (1 + x' A^-1 x)      (`forward = True`).

Ridge: for every order of the data, exactly,

    sum_t (y_t - z_t)^2 / (1 + x_t' A_{t-1}^-1 x_t) = min_theta { sum_t (y_t - theta' x_t)^2 + penalty |theta|^2 },

so with E the largest |y_t - z_t|, regret <= penalty |theta|^2 + E^2 ln det(A_T / penalty). VAW: the same with the largest
|y| in place of E, whatever was predicted (Vovk 2001; Azoury, Warmuth 2001).

A round that counts w times is the row (sqrt(w) x, sqrt(w) y): identity and bounds hold of the rows so scaled, word for word.

The inverse is kept by Sherman and Morrison's formula and is computed afresh from A now and then. A itself gathers its rows
in a buffer, one product of matrices for many rounds; merging blocks needs it, since it adds up where inverses do not.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from saddlebag.algorithms.groupwise.base import Array, Index, LearnerDefaults, Sums, check_positive, copied
from saddlebag.algorithms.groupwise.kernels.loader import compiled
from saddlebag.algorithms.groupwise.weights import are_whole
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from saddlebag.compression import Draws

__all__ = ["Ridge", "vovk_azoury_warmuth"]

_PENDING = 64  # rounds between two products of matrices
_IN_CACHE = 2**15  # float64 entries of inverses worked on at once: 256 KiB, a part of a core's second cache
_FEW = 8  # groups that fit at once, below which they go one by one
_LONG = 1 << 22  # rounds x D^2 from which the loops are compiled; importing numba takes half a second
_ROOM = 1e10  # of |x|^2 / penalty: 1e6 below the digits of float64
_USUAL = 1e25  # of labels and penalties; theta stays below 1e10 times that for 1e50 rounds
_BLOCK = 96  # rounds of a block in a replay: a Cholesky factor of this size costs about what its products do


@dataclasses.dataclass(frozen=True, eq=False)
class RidgeState:
    """The models of G groups; the last three are the buffer of rounds not yet in `gram_GDD`.

    Attributes:
        gram_GDD: A, less the rows of the buffer.
        inverse_GDD: A^-1, the buffer's rows included; symmetric.
        moment_GD: b.
        theta_GD: A^-1 b.
        count_G: rounds learned.
        since_G: rank-one updates since the inverse was computed afresh.
        row_RD, member_RG, pending: the buffer, and how many of its rows are in use (shape (1,)).
    """

    gram_GDD: Array
    inverse_GDD: Array
    moment_GD: Array
    theta_GD: Array
    count_G: Array
    since_G: Array
    row_RD: Array = dataclasses.field(metadata={"grouped": False})
    member_RG: npt.NDArray[np.bool_] = dataclasses.field(metadata={"grouped": False})
    pending: Index = dataclasses.field(metadata={"grouped": False})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ridge(LearnerDefaults):
    """Online ridge regression for each group.

    Attributes:
        dimension: D >= 1. There is no intercept; give a constant feature for one.
        penalty: lambda > 0.
        forward: predict as Vovk, Azoury and Warmuth do. It shrinks towards 0: centre the labels.
        refresh: rank-one updates after which an inverse is computed afresh.

    Example:
        >>> import numpy as np
        >>> import saddlebag as sb
        >>> from saddlebag.compression import Draws
        >>> learner = sb.make_learner("ridge", 2)
        >>> state = learner.init(3)  # of three groups
        >>> group_K = np.array([0, 2])
        >>> learner.predict(state, np.ones(2), group_K, Draws(0, 0)).shape
        (2,)
    """

    dimension: int
    penalty: float = 1.0
    forward: bool = False
    refresh: int = 4096

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise ConfigError(f"dimension must be at least 1, got {self.dimension}")
        if self.refresh < 1:
            raise ConfigError(f"refresh must be at least 1, got {self.refresh}")
        check_positive("penalty", self.penalty)

    def init(self, num_groups: int) -> RidgeState:
        G, D = num_groups, self.dimension
        eye_DD = np.eye(D)
        return RidgeState(
            gram_GDD=np.tile(self.penalty * eye_DD, (G, 1, 1)),
            inverse_GDD=np.tile(eye_DD / self.penalty, (G, 1, 1)),
            moment_GD=np.zeros((G, D)),
            theta_GD=np.zeros((G, D)),
            count_G=np.zeros(G),
            since_G=np.zeros(G),
            row_RD=np.zeros((_PENDING, D)),
            member_RG=np.zeros((_PENDING, G), np.bool_),
            pending=np.zeros(1, np.int64),
        )

    def predict(self, state: RidgeState, x: Array, group_K: Index, draws: Draws) -> Array:
        del draws
        z_K: Array = state.theta_GD[group_K] @ x
        if self.forward and len(group_K):
            z_K = z_K / (1.0 + np.concatenate([P_KDD @ x @ x for P_KDD in _chunks(state, group_K)]))
        return z_K

    def predict_weighted(self, state: RidgeState, x: Array, group_K: Index, weight_K: Array, draws: Draws) -> Array:
        del draws
        z_K: Array = state.theta_GD[group_K] @ x
        if self.forward and len(group_K):
            z_K = z_K / (1.0 + weight_K * np.concatenate([P_KDD @ x @ x for P_KDD in _chunks(state, group_K)]))
        return z_K

    def predict_block(self, state: RidgeState, x_ND: Array, weight_NG: Array | npt.NDArray[np.bool_]) -> Array:
        """The predictions of N rows, shape (N, G); those of sleeping groups are to be ignored."""
        z_NG: Array = x_ND @ state.theta_GD.T
        if self.forward:
            member_NG = weight_NG > 0
            for g in np.flatnonzero(member_NG.any(axis=0)):
                row_N = member_NG[:, g]
                square_N = ((x_ND[row_N] @ state.inverse_GDD[g]) * x_ND[row_N]).sum(axis=1)
                z_NG[row_N, g] /= 1.0 + weight_NG[row_N, g] * square_N
        return z_NG

    def is_usual(self, x: Array, y: float) -> bool:
        """X' A^-1 x is at most |x|^2 / penalty; its rounding, 1e-16 times as large, must leave 1 + x' A^-1 x positive."""
        return bool(np.vdot(x, x) <= _ROOM * self.penalty) and abs(y) <= _USUAL and 1.0 / _USUAL <= self.penalty <= _USUAL

    def advance(self, state: RidgeState, x: Array, y: float, group_K: Index) -> None:
        step = _IN_CACHE // self.dimension**2
        if step < _FEW:  # a group at a time, in place: the inverses would only be copied out of the cache and back
            for g in group_K.tolist():
                _learn_one(state.inverse_GDD[g], state.theta_GD[g], x, y)
        else:
            for at in range(0, len(group_K), step):
                _learn(state, x, y, group_K[at : at + step])
        state.moment_GD[group_K] += y * x
        state.count_G[group_K] += 1.0
        state.since_G[group_K] += 1.0
        row = int(state.pending[0])
        state.row_RD[row] = x
        state.member_RG[row] = False
        state.member_RG[row, group_K] = True
        state.pending[0] = row + 1
        self._tidy(state)

    def _tidy(self, state: RidgeState) -> None:
        """After a round: empty the buffer when it is full, and compute afresh the inverses that are due."""
        if state.pending[0] == _PENDING:
            _flush(state)
            self._refresh(state, np.flatnonzero(state.since_G >= self.refresh))

    def advance_weighted(self, state: RidgeState, x: Array, y: float, group_K: Index, weight_K: Array) -> None:
        """The rows differ from group to group, so they go past the buffer, which holds one row for all."""
        for g, weight in zip(group_K.tolist(), weight_K.tolist(), strict=True):
            root = math.sqrt(weight)
            row_D, label = root * x, root * y
            _learn_one(state.inverse_GDD[g], state.theta_GD[g], row_D, label)
            state.gram_GDD[g] += np.multiply.outer(row_D, row_D)
            state.moment_GD[g] += label * row_D
        state.count_G[group_K] += weight_K
        state.since_G[group_K] += 1.0
        if (state.since_G[group_K] >= self.refresh).any():
            _flush(state)
            self._refresh(state, np.flatnonzero(state.since_G >= self.refresh))

    def sums(self, state: RidgeState, x_N: Array, y_N: Array, member_NG: npt.NDArray[np.bool_]) -> Sums:
        return self.sums_weighted(state, x_N, y_N, member_NG.astype(np.float64))

    def sums_weighted(self, state: RidgeState, x_N: Array, y_N: Array, weight_NG: Array) -> Sums:
        G, D = state.theta_GD.shape
        gram_GDD, moment_GD = np.zeros((G, D, D)), np.zeros((G, D))
        for g in np.flatnonzero(weight_NG.any(axis=0)):
            member_N = weight_NG[:, g] > 0
            row_KD, label_K, weight_K = x_N[member_N], y_N[member_N], weight_NG[member_N, g]
            if not are_whole(weight_K):
                root_K = np.sqrt(weight_K)
                row_KD, label_K = row_KD * root_K[:, None], label_K * root_K
            gram_GDD[g], moment_GD[g] = row_KD.T @ row_KD, label_K @ row_KD
        return {"gram_GDD": gram_GDD, "moment_GD": moment_GD, "count_G": weight_NG.sum(axis=0)}

    def merge(self, state: RidgeState, sums: Sums) -> RidgeState:
        after = self._settled(state)
        after.gram_GDD[:] += sums["gram_GDD"]
        after.moment_GD[:] += sums["moment_GD"]
        after.count_G[:] += sums["count_G"]
        self._refresh(after, np.flatnonzero(sums["count_G"]))
        return after

    def grow(self, state: RidgeState, extra: int) -> RidgeState:
        before, new = self._settled(state), self.init(extra)
        names = ("gram_GDD", "inverse_GDD", "moment_GD", "theta_GD", "count_G", "since_G")
        joined = {name: np.concatenate((getattr(before, name), getattr(new, name))) for name in names}
        member_RG = np.zeros((_PENDING, len(joined["count_G"])), np.bool_)
        return dataclasses.replace(before, member_RG=member_RG, **joined)

    def _settled(self, state: RidgeState) -> RidgeState:
        """A copy whose buffer is empty."""
        after = copied(state)
        _flush(after)
        return after

    def _taught(self, state: RidgeState, x_ND: Array, y_N: Array, weight_NG: Array) -> RidgeState:
        """A settled state whose inverses and thetas have learned rounds already, with the sums of these rounds added."""
        sums = self.sums_weighted(state, x_ND, y_N, weight_NG)
        state.gram_GDD[:] += sums["gram_GDD"]
        state.moment_GD[:] += sums["moment_GD"]
        state.count_G[:] += sums["count_G"]
        state.since_G[:] += np.count_nonzero(weight_NG, axis=0)
        self._refresh(state, np.flatnonzero(state.since_G >= self.refresh))
        return state

    def _refresh(self, state: RidgeState, group_K: Index) -> None:
        if not len(group_K):
            return
        inverse_KDD = np.linalg.inv(state.gram_GDD[group_K])
        inverse_KDD = (inverse_KDD + inverse_KDD.swapaxes(1, 2)) / 2.0
        state.inverse_GDD[group_K] = inverse_KDD
        state.theta_GD[group_K] = (inverse_KDD @ state.moment_GD[group_K][..., None])[..., 0]
        state.since_G[group_K] = 0.0

    def replay_weighted(self, x_ND: Array, y_N: Array, weight_N: Array) -> Array:
        """`replay` of rounds that count in part."""
        root_N = np.sqrt(weight_N)
        return self.replay(x_ND * root_N[:, None], y_N * root_N) / root_N

    def replay(self, x_ND: Array, y_N: Array) -> Array:
        """The predictions that one group would make on its rounds, in order, each before its label; shape (N,).

        Long streams go through the compiled loop where there is one: the same up to rounding.
        """
        kernels = compiled() if not self.forward and x_ND.size * self.dimension >= _LONG else None
        if kernels:
            z_N, inverse_DD = np.empty(len(y_N)), np.eye(self.dimension) / self.penalty
            rows = (np.ascontiguousarray(x_ND), np.ascontiguousarray(y_N), np.arange(len(y_N)))
            kernels.ridge_pass(inverse_DD, np.zeros(self.dimension), *rows, z_N)
            return z_N
        return replay_ridge(x_ND, y_N, penalty=self.penalty, forward=self.forward)

    def regret_bound(self, x_ND: Array, y_N: Array, z_N: Array) -> float:
        """The proven bound on one group's regret to the least squares solution of least norm, from what was observed.

        penalty |theta|^2 + E^2 ln det(A_T / penalty), with E the largest error (ridge) or the largest label (VAW). Of rounds
        that count in part: rows, labels and predictions times the root of the weight.
        """
        theta_D = np.linalg.lstsq(x_ND, y_N, rcond=1e-10)[0]
        gram_DD = np.eye(self.dimension) + x_ND.T @ x_ND / self.penalty
        largest = np.abs(y_N if self.forward else y_N - z_N).max()
        return float(self.penalty * theta_D @ theta_D + largest**2 * np.linalg.slogdet(gram_DD)[1])


def _chunks(state: RidgeState, group_K: Index) -> list[Array]:
    step = max(1, _IN_CACHE // state.theta_GD.shape[1] ** 2)
    return [state.inverse_GDD[group_K[at : at + step]] for at in range(0, len(group_K), step)]


def _learn(state: RidgeState, x_D: Array, y: float, group_K: Index) -> None:
    """Rank-one updates of a few groups, which fit the cache together."""
    inverse_KDD = state.inverse_GDD[group_K]
    u_KD = inverse_KDD @ x_D
    s_K = 1.0 + u_KD @ x_D
    error_K = y - state.theta_GD[group_K] @ x_D
    state.theta_GD[group_K] += u_KD * (error_K / s_K)[:, None]
    u_KD /= np.sqrt(s_K)[:, None]
    inverse_KDD -= u_KD[:, :, None] * u_KD[:, None, :]
    state.inverse_GDD[group_K] = inverse_KDD


def _learn_one(inverse_DD: Array, theta_D: Array, x_D: Array, y: float) -> None:
    """The rank-one update of one group, in place."""
    u_D = inverse_DD @ x_D
    s = 1.0 + u_D @ x_D
    theta_D += u_D * ((y - theta_D @ x_D) / s)
    u_D /= np.sqrt(s)
    inverse_DD -= np.multiply.outer(u_D, u_D)


def _flush(state: RidgeState) -> None:
    """Move the buffer's rows into A."""
    used = int(state.pending[0])
    row_RD, member_RG = state.row_RD[:used], state.member_RG[:used]
    for g in np.flatnonzero(member_RG.any(axis=0)):
        row_KD = row_RD[member_RG[:, g]]
        state.gram_GDD[g] += row_KD.T @ row_KD
    state.pending[0] = 0


def replay_ridge(x_ND: Array, y_N: Array, *, penalty: float = 1.0, forward: bool = False) -> Array:
    """What online ridge regression predicts on a recorded stream, each round before its label, by products of matrices.

    In a block with rows X, and A^-1 and theta at its start, y - X theta has the covariance S = I + X A^-1 X' up to scale;
    with S = L L', the errors of the sequential predictions are diag(L) L^-1 (y - X theta) (the innovations of a Kalman
    filter), and diag(L)^2 = 1 + x' A_{t-1}^-1 x. Equal to the round-by-round form up to rounding.

    Returns:
        float64 (N,).

    Raises:
        NotFiniteError: 1 + X A^-1 X' is not positive in float64.
    """
    N, D = x_ND.shape
    inverse_DD, theta_D, z_N = np.eye(D) / penalty, np.zeros(D), np.empty(N)
    for at in range(0, N, _BLOCK):
        row_BD, label_B = x_ND[at : at + _BLOCK], y_N[at : at + _BLOCK]
        u_BD = row_BD @ inverse_DD
        try:
            factor_BB = np.linalg.cholesky(u_BD @ row_BD.T + np.eye(len(row_BD)))
        except np.linalg.LinAlgError as error:
            raise NotFiniteError("ridge regression loses its numbers on features of this size; scale them") from error
        scale_B = np.diagonal(factor_BB)
        residual_B = label_B - row_BD @ theta_D
        solved = np.linalg.solve(factor_BB, np.column_stack((u_BD, residual_B)))
        gain_BD, innovation_B = solved[:, :D], solved[:, D]
        z_B = label_B - scale_B * innovation_B
        z_N[at : at + _BLOCK] = z_B / scale_B**2 if forward else z_B
        theta_D = theta_D + gain_BD.T @ innovation_B
        inverse_DD = inverse_DD - gain_BD.T @ gain_BD
    return z_N


def vovk_azoury_warmuth(*, dimension: int, penalty: float = 1.0, refresh: int = 4096) -> Ridge:
    """The forecaster of Vovk, Azoury and Warmuth: ridge regression that counts the coming round's context already.

    Example:
        >>> import numpy as np
        >>> import saddlebag as sb
        >>> from saddlebag.compression import Draws
        >>> learner = sb.make_learner("vovk_azoury_warmuth", 2)
        >>> state = learner.init(3)  # of three groups
        >>> group_K = np.array([0, 2])
        >>> learner.predict(state, np.ones(2), group_K, Draws(0, 0)).shape
        (2,)
    """
    return Ridge(dimension=dimension, penalty=penalty, forward=True, refresh=refresh)
