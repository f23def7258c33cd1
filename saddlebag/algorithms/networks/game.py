"""A game of torch modules as a problem: players with losses, data on every worker, batches from the round's key.

    F_m(z) = (s_1 grad_{z_1} loss_1, s_2 grad_{z_2} loss_2, ...),  s = 1 for a player that minimises, else -1

F_m is a function of z and the round's key: batch, dropout and random starts derive from the key, so a method may ask it at two
points of a round and subtract. What a loss does inside, such as an inner maximisation over perturbations of its samples,
stays on the worker and never travels.

Shapes: D = parameters of all players, N = samples of a worker, B = a batch.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from saddlebag.algorithms.base import identity_prox
from saddlebag.algorithms.networks.evaluation import Evaluation, Precision
from saddlebag.algorithms.networks.local import Keeper, LocalBlock
from saddlebag.algorithms.networks.part import Part
from saddlebag.compression.draws import Draws
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import numpy.typing as npt
    import torch
    from torch import nn

    from saddlebag.algorithms.base import Constants, Operator
    from saddlebag.algorithms.networks.chance import Chance
    from saddlebag.compression.combinators.per_tensor import Tensor
    from saddlebag.compression.payload import Vector

    Players = Mapping[str, nn.Module]

__all__ = ["ModuleGame", "Precision"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ModuleGame:
    """Players' modules, their loss and every worker's data as a variational inequality.

    Attributes:
        build: makes the modules by name, with the same starting weights on every machine.
        loss: (players, batch, chance) -> the mean loss over the batch, or a loss for each player by name. `batch` holds the
            chosen rows of the worker's arrays as tensors; random numbers come from `chance`, torch's global ones (dropout)
            are seeded from the key.
        data: for each worker arrays with one row a sample; or a `Dataset` or `DataLoader` of torch, whose samples are collected
            into arrays, see `samples.py`.
        maximises: the players that maximise.
        batch_size: B of a worker in a round; None or 0 for all its samples.
        local: variables of samples that workers keep from round to round, 0 at the start; the loss finds those of the batch
            behind its arrays, and (the first player's, where each has a loss) is what they raise. For methods that
            `make_method` makes; see `local_blocks.py`.
        replays: rounds that a batch is kept for.
        accumulate: parts of a batch that are computed one after the other, to save memory.
        precision: what networks compute in; "bfloat16" is autocast over float32.
        device: of torch.
        evaluate: players in evaluation mode -> merits; None for the norm of the mean operator on one fixed batch.
        name: for people.

    Example:
        >>> import torch
        >>> import saddlebag as sb
        >>> samples = torch.linspace(-1, 1, 8).reshape(8, 1)
        >>> game = sb.ModuleGame(
        ...     build=lambda: {"line": torch.nn.Linear(1, 1)},
        ...     loss=lambda players, batch, chance: (players["line"](batch[0]) - 2 * batch[0]).square().mean(),
        ...     data=((samples[:4],), (samples[4:],)),
        ... )
        >>> run = sb.simulate(game, sb.make_method("extragradient", game, step_size=0.3), stop=sb.Stop(max_rounds=100))
        >>> [abs(round(value, 2)) for value in run.z.tolist()]  # weight and bias of the line
        [2.0, 0.0]
    """

    build: Callable[[], Players]
    loss: Callable[[Players, tuple[torch.Tensor, ...], Chance], Any]
    data: Sequence[Any]
    maximises: frozenset[str] = frozenset()
    batch_size: int | None = None
    local: LocalBlock | None = None
    replays: int = 1
    accumulate: int = 1
    precision: Precision = "float32"
    device: str = "cpu"
    evaluate: Callable[[Players], Mapping[str, float]] | None = None
    name: str = "module game"
    evaluation: Evaluation = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, get_args(Precision))
        for field in ("accumulate", "replays"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} must be at least 1, got {getattr(self, field)}")
        names: Any = self.maximises
        if isinstance(names, str):
            raise ConfigError(f"maximises must be a set of players' names, got the text {names!r}; write {{{names!r}}}")
        object.__setattr__(self, "maximises", frozenset(names))
        if not isinstance(self.data, Sequence) or not self.data:
            got = "none" if isinstance(self.data, Sequence) else type(self.data).__name__
            hint = "" if got == "none" else "; torch.utils.data.random_split divides a data set"
            raise ConfigError(f"data must hold arrays or a data set for each worker, got {got}{hint}")
        object.__setattr__(self, "data", tuple(self._arrays(worker, own) for worker, own in enumerate(self.data)))
        for worker, arrays in enumerate(self.data):
            self._check_arrays(worker, arrays)
            if len(rows := {len(array) for array in arrays}) != 1:
                raise ConfigError(f"arrays of worker {worker} must have one row a sample each, got {sorted(rows)} rows")
        smallest = min(len(arrays[0]) for arrays in self.data)
        if not 1 <= (self.batch_size or smallest) <= smallest:
            raise ConfigError(f"batch_size must lie in 1..{smallest}, samples of the smallest worker, got {self.batch_size}")
        for arrays in self.data:
            self._check_parts(self.batch_size or len(arrays[0]), self.accumulate, "accumulate")
        kept = (field.name for field in dataclasses.fields(Evaluation) if field.init)
        object.__setattr__(self, "evaluation", Evaluation(**{name: getattr(self, name) for name in kept}))

    def _arrays(self, worker: int, own: Any) -> Any:
        """A worker's arrays; samples of a data set or loader of torch are collected into some."""
        if isinstance(own, Sequence | np.ndarray) or "torch.utils.data" not in sys.modules:
            return own
        from saddlebag.algorithms.networks.samples import collected

        return collected(own, f"data of worker {worker}")

    def _check_arrays(self, worker: int, arrays: Any) -> None:
        if not isinstance(arrays, Sequence) or isinstance(arrays, str):
            wanted = "a tuple of arrays with one row a sample, or a Dataset or DataLoader of torch"
            raise ConfigError(f"data of worker {worker} must be {wanted}, got {type(arrays).__name__}")
        for number, array in enumerate(arrays):
            if isinstance(array, list | tuple | str):
                raise ConfigError(f"array {number} of worker {worker} must be a numpy array, got {type(array).__name__}")

    @property
    def dimension(self) -> int:
        return self.evaluation.flat.dimension

    @property
    def num_workers(self) -> int:
        return len(self.data)

    @property
    def unconstrained(self) -> bool:
        return True

    @property
    def constants(self) -> Constants | None:
        return None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Names and shapes of the parameters in the order of z, for rules by tensor."""
        return self.evaluation.flat.tensors

    def start(self) -> Vector:
        return self.evaluation.start()

    def start_narrow(self) -> Vector:
        return self.evaluation.start_narrow()

    def lent(self, z_D: Vector) -> AbstractContextManager[Players]:
        return self.evaluation.at(z_D)

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        return identity_prox(v_D, step_size)

    def operator(self, worker: int) -> Operator:
        return self.part(worker, 0, 1) if self.local is None else Keeper(self, worker)

    def part(self, worker: int, rank: int, ranks: int) -> Operator:
        """The operator on one rank's share of the worker's batch; the mean over the ranks is `operator(worker)`.

        Exact but for dropout, whose masks depend on the division.

        Raises:
            ConfigError: the batch does not divide into equal parts, or its samples have blocks, which live in one process.
        """
        if self.local is not None:
            raise ConfigError(f"{self.name}: local blocks cannot be divided among ranks; give each process a worker")
        count = self.batch_size or len(self.data[worker][0])
        self._check_parts(count, ranks * self.accumulate, f"ranks * accumulate = {ranks} * {self.accumulate}")
        return Part(self.evaluation, worker, range(rank, ranks * self.accumulate, ranks), ranks * self.accumulate)

    def step(self, worker: int, z_D: Vector, block_E: Vector, draws: Draws) -> tuple[Vector, Vector]:
        """The operator at a worker's local block, and the block after its step."""
        block_N: npt.NDArray[np.float64] = block_E.astype(np.float64).reshape(self.block_shape(worker))
        value_D = self.evaluation.value(worker, z_D, draws, range(self.accumulate), self.accumulate, block_N)
        return value_D.double().cpu().numpy(), block_N.reshape(-1)

    def block_shape(self, worker: int) -> tuple[int, ...]:
        """(N or B, shape of a sample's variables)."""
        return self.evaluation.block_shape(worker)

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        if self.evaluate is None:
            values = [self._at_first(worker, z_D) for worker in range(self.num_workers)]
            return {"operator_norm": float(np.linalg.norm(np.mean(values, axis=0)))}
        with self.evaluation.at(z_D) as players:
            return dict(self.evaluate(players))

    def _at_first(self, worker: int, z_D: Vector) -> Vector:
        """The operator on the first round's batch, with the local block of the start."""
        draws, operator = Draws(0, 0, worker), self.operator(worker)
        return (
            operator.step(z_D, np.zeros(operator.block_size), draws)[0]
            if isinstance(operator, Keeper)
            else operator(z_D, draws)
        )

    def module(self, z_D: Vector) -> dict[str, nn.Module]:
        """Copies of the plain modules at z, in evaluation mode, that share no memory with this problem."""
        with self.evaluation.at(z_D) as players:
            return {name: copy.deepcopy(module) for name, module in players.items()}

    def _check_parts(self, count: int, parts: int, what: str) -> None:
        if count % parts:
            raise ConfigError(f"a batch of {count} does not divide into {parts} equal parts ({what}); change batch_size")
