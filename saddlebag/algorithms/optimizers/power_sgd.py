"""PowerSGD as a method: a low-rank projection of the *mean* of the workers' gradients, in two rounds an iteration.

For every tensor, as a matrix M_m of what worker m owes, and the Q of the last iteration as a warm start:

    round 1    up  M_m Q          server: mean, orthonormalised      down  P,   and small tensors as they are
    round 2    up  M_m' P         server: mean                       down  Q = mean(M)' P
    replicas   z <- rule(z, P Q')                                    worker m owes M_m - P Q'

The operator is asked in the first round alone. Vogels, Karimireddy, Jaggi 2019, Algorithms 1 and 2; the state of a tensor and
what is worth compressing are those of `compression/power_sgd.py`, whose generators serve collectives. Differs: the server
orthonormalises and sends P, so that replicas need no factorisation that could differ between machines; a product P Q' is summed
in a fixed order by all. Factors travel as float32, and memories subtract them as they arrived. Outside the theory.

Shapes: D = coordinates, R x C = a tensor as a matrix, K = the rank, N = values of a round.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np

from saddlebag.algorithms.base import Message
from saddlebag.algorithms.capabilities import HasTensors
from saddlebag.algorithms.methods.one_part import Stateless
from saddlebag.algorithms.optimizers.keys import RuleKeys
from saddlebag.algorithms.optimizers.replica import LocalMoments, ReplicaKeys, ReplicaOptimizer, Ruled, split_parameters
from saddlebag.algorithms.optimizers.rules import make_rule
from saddlebag.compression import Dense, Purpose, Vector
from saddlebag.compression.compressors.low_rank import aligned, orthonormal, start_matrix
from saddlebag.compression.compressors.power_sgd import PowerSGD, revive
from saddlebag.compression.payload import LowRank
from saddlebag.compression.values import cast
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saddlebag.algorithms.base import Operator, Problem
    from saddlebag.algorithms.method_capabilities import Sends
    from saddlebag.compression import Draws, Mean

__all__ = ["PowerSgd", "power_sgd"]

_SYNC_EVERY = 16  # rounds between comparisons of digests


@dataclasses.dataclass(frozen=True, eq=False)
class PowerReplica(Ruled):
    """The factors and the rule's state.

    Attributes:
        factor_D: what the last two rounds brought: (P and small tensors; Q), then zeros up to D.
        at_half: whether the first round is over.
        rule: the rule's state.
    """

    factor_D: Vector
    at_half: bool
    rule: Any


@dataclasses.dataclass(frozen=True, eq=False)
class PowerWorker:
    """What a worker owes, before the product that the replica holds is subtracted; and the moments of its own steps."""

    owed_D: Vector
    local: LocalMoments | None


class Piece(NamedTuple):
    """A tensor: its coordinates, its shape as a matrix (no columns if it travels as it is), its places in the two rounds."""

    here: slice
    rows: int
    columns: int
    first: slice
    second: slice


@dataclasses.dataclass(frozen=True, kw_only=True)
class PowerSgd(ReplicaOptimizer):
    """A rule of practice fed by PowerSGD; see the module and `ReplicaOptimizer`.

    Attributes:
        layout: the tensors, the rank, and what is worth compressing.

    Example:
        >>> from saddlebag.algorithms.optimizers.rules import Momentum
        >>> method = PowerSgd(step_size=0.1, rule=Momentum(), layout=PowerSGD(shapes=((8, 8),)))
        >>> method.layout.exchange_sizes()  # in place of 64 values
        (8, 8)
    """

    layout: PowerSGD

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self._sizes[1]:
            raise ConfigError(f"power_sgd of rank {self.layout.rank} compresses none of the tensors {self.layout.shapes}")

    def init_replica(self, z_D: Vector) -> PowerReplica:
        return PowerReplica(np.zeros(len(z_D)), at_half=False, rule=self.rule.init(z_D))

    def restart(self, replica: PowerReplica) -> PowerReplica:
        """The replica from which new memories start: moving means, schedule and the start Q stay, what was owed does not."""
        first, second = self._sizes
        factor_D = np.zeros(len(replica.z_D))
        factor_D[first : first + second] = replica.factor_D[first : first + second]
        return PowerReplica(factor_D, at_half=False, rule=replica.rule)

    def init_worker(self, replica: PowerReplica) -> PowerWorker:
        d = len(replica.z_D)
        return PowerWorker(np.zeros(d), self._local_start(d))

    def init_server(self, replica: PowerReplica) -> Stateless:
        del replica
        return Stateless()

    def synchronises(self, replica: PowerReplica, draws: Draws) -> bool:
        del replica
        return draws.round % _SYNC_EVERY == 0

    def uplink_sizes(self, replica: PowerReplica, draws: Draws) -> tuple[int, ...]:
        del draws
        return (self._sizes[replica.at_half],)

    downlink_sizes = uplink_sizes

    def worker_step(
        self, replica: PowerReplica, own: PowerWorker, operator: Operator, draws: Draws
    ) -> tuple[PowerWorker, Message]:
        out_N = np.zeros(self.uplink_sizes(replica, draws)[0])
        if replica.at_half:
            owed_D = _aligned(own.owed_D)
            for piece in self._matrices:
                m_RC = owed_D[piece.here].reshape(piece.rows, piece.columns)
                out_N[piece.second] = (m_RC.T @ self._p(piece, replica.factor_D)).reshape(-1)
            return own, Message((Dense(cast(out_N)),))
        value_D, local = self._gradient(self._point(replica), own.local, operator, draws)
        owed_D = aligned(1, len(value_D))[0]
        np.add(own.owed_D, value_D, out=owed_D)
        fresh_N = start_matrix(draws.common(Purpose.SUPPORT), self._sizes[1], 1).reshape(-1)
        for piece in self._pieces:
            if not piece.columns:
                out_N[piece.first] = owed_D[piece.here]
                continue
            owed_D[piece.here] -= self._product(piece, replica.factor_D)
            m_RC = owed_D[piece.here].reshape(piece.rows, piece.columns)
            start_CK = self._q(piece, replica.factor_D)
            out_N[piece.first] = (m_RC @ revive(start_CK, fresh_N[piece.second].reshape(start_CK.shape))).reshape(-1)
        sent_N = cast(out_N)
        for piece in self._pieces:
            if not piece.columns:
                owed_D[piece.here] -= sent_N[piece.first]
        return PowerWorker(owed_D, local), Message((Dense(sent_N),))

    def server_step(
        self, replica: PowerReplica, own: Stateless, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[Stateless, Message]:
        del draws
        mean_N = means[0].dense().copy()
        if not replica.at_half:
            for piece in self._matrices:
                mean_RK = _aligned(mean_N[piece.first]).reshape(piece.rows, self.layout.rank)
                mean_N[piece.first] = orthonormal(mean_RK).reshape(-1)
        return own, Message((Dense(cast(mean_N)),))

    def replay(self, replica: PowerReplica, down: Message, draws: Draws) -> PowerReplica:
        del draws
        first, second = self._sizes
        factor_D = replica.factor_D.copy()
        if not replica.at_half:
            factor_D[:first] = down.parts[0].dense()
            return dataclasses.replace(replica, factor_D=factor_D, at_half=True)
        factor_D[first : first + second] = down.parts[0].dense()
        gradient_D = np.empty(len(factor_D))
        for piece in self._pieces:
            gradient_D[piece.here] = self._product(piece, factor_D) if piece.columns else factor_D[piece.first]
        return PowerReplica(factor_D, at_half=False, rule=self._moved(replica, gradient_D))

    @functools.cached_property
    def _sizes(self) -> tuple[int, int]:
        return self.layout.exchange_sizes()

    @functools.cached_property
    def _pieces(self) -> tuple[Piece, ...]:
        return tuple(self._places())

    def _places(self) -> Iterator[Piece]:
        rank, at, first, second = self.layout.rank, 0, 0, 0
        for rows, columns in self.layout.matrices():
            size, up, back = rows * max(columns, 1), rows * (rank if columns else 1), columns * rank
            yield Piece(slice(at, at + size), rows, columns, slice(first, first + up), slice(second, second + back))
            at, first, second = at + size, first + up, second + back

    @property
    def _matrices(self) -> Iterator[Piece]:
        return (piece for piece in self._pieces if piece.columns)

    def _p(self, piece: Piece, factor_D: Vector) -> Vector:
        return _aligned(factor_D[piece.first]).reshape(piece.rows, self.layout.rank)

    def _q(self, piece: Piece, factor_D: Vector) -> Vector:
        start = self._sizes[0]
        q_N = factor_D[start + piece.second.start : start + piece.second.stop]
        return _aligned(q_N).reshape(piece.columns, self.layout.rank)

    def _product(self, piece: Piece, factor_D: Vector) -> Vector:
        """P Q' as all machines sum it, flat; the factors are float32 numbers."""
        p_RK, q_CK = (x.astype(np.float32) for x in (self._p(piece, factor_D), self._q(piece, factor_D)))
        return LowRank(piece.rows * piece.columns, p_RK, q_CK).dense()


def _aligned(x_N: Vector) -> Vector:
    """The vector at an address from which products of BLAS repeat bit for bit: itself, or a copy."""
    if x_N.ctypes.data % 64 == 0 and x_N.flags.c_contiguous:
        return x_N
    copy_N: Vector = aligned(1, len(x_N))[0]
    copy_N[:] = x_N
    return copy_N


class PowerKeys(RuleKeys, ReplicaKeys, total=False):
    """The keys of the rule that is named, and of every optimizer."""


def power_sgd(
    problem: Problem,
    *,
    step_size: float | None = None,
    rule: str = "adamw",
    rank: int = 4,
    worth: float = 0.5,
    **keys: Unpack[PowerKeys],
) -> PowerSgd:
    """PowerSGD for a problem that names its `tensors`; see `PowerSgd`. Other parameters: the rule's, and its.

    Raises:
        ConfigError: no step is given, the problem names no tensors or none worth compressing, or a parameter does not fit.

    Example:
        >>> import torch
        >>> import saddlebag as sb
        >>> def zeros():
        ...     module = torch.nn.Linear(8, 8, bias=False)
        ...     torch.nn.init.zeros_(module.weight)
        ...     return {"map": module}
        >>> x = torch.eye(8, dtype=torch.float64)
        >>> game = sb.ModuleGame(
        ...     build=zeros,
        ...     loss=lambda players, batch, chance: (players["map"](batch[0]) - batch[0]).square().mean(),
        ...     data=((x[:4],), (x[4:],)),
        ...     precision="float64",
        ... )
        >>> method = sb.make_method("power_sgd", game, step_size=0.05, rank=1)
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=20))
        >>> run.merits["operator_norm"] < game.merits(game.start())["operator_norm"]
        True
    """
    if step_size is None:
        raise ConfigError("power_sgd is outside the theory and has no proven step; give method.step_size a number")
    tensors = problem.tensors if isinstance(problem, HasTensors) else None
    if not tensors:
        raise ConfigError(f"power_sgd needs a problem with tensors, which {problem.name} does not name; use a network")
    layout = PowerSGD(shapes=tuple(tensor.shape for tensor in tensors), rank=rank, worth=worth)
    of_rule, others = split_parameters(rule, keys)
    made = make_rule(rule, problem, of_rule)
    return PowerSgd(step_size=step_size, prox=problem.prox, rule=made, layout=layout, **others)


typing.cast("Sends", power_sgd).sends = "sends factors of low rank"  # what a list of methods says of it
