"""A game of torch modules as a problem: players with losses, data on every worker, batches from the round's key.

    F_m(z) = (s_1 grad_{z_1} loss_1, s_2 grad_{z_2} loss_2, ...),  s = 1 for a player that minimises, else -1

F_m is a function of z and the round's key: batch, dropout and random starts derive from the key, so a method may ask it at two
points of a round and subtract. What a loss does inside, such as an inner maximisation over perturbations of its samples,
stays on the worker and never travels.

Shapes: D = parameters of all players, N = samples of a worker, B = a batch.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from saddlebag.algorithms.base import identity_prox
from saddlebag.algorithms.networks.chance import Chance, seed_of, seeded
from saddlebag.algorithms.networks.finite import all_finite
from saddlebag.algorithms.networks.local import Keeper, LocalBlock
from saddlebag.algorithms.networks.part import Part
from saddlebag.compression.draws import Draws, uniform_subset
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError, NotFiniteError, check_choice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt
    import torch
    from torch import nn

    from saddlebag.algorithms.base import Constants, Operator
    from saddlebag.algorithms.networks.flat import FlatModules
    from saddlebag.compression.combinators.per_tensor import Tensor
    from saddlebag.compression.payload import Vector

    Players = Mapping[str, nn.Module]

__all__ = ["ModuleGame", "Precision"]

Precision = Literal["float32", "float64", "bfloat16"]
_STEP = 2**48  # see `Draws.within`


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
    _lock: Any = dataclasses.field(default_factory=threading.RLock, init=False, repr=False)

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
        return self._flat.dimension

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
        return self._flat.tensors

    def start(self) -> Vector:
        return self._made[1].copy()

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
        return Part(self, worker, range(rank, ranks * self.accumulate, ranks), ranks * self.accumulate)

    def step(self, worker: int, z_D: Vector, block_E: Vector, draws: Draws) -> tuple[Vector, Vector]:
        """The operator at a worker's local block, and the block after its step."""
        block_N: npt.NDArray[np.float64] = block_E.astype(np.float64).reshape(self.block_shape(worker))
        value_D = self.value(worker, z_D, draws, range(self.accumulate), self.accumulate, block_N)
        return value_D.double().cpu().numpy(), block_N.reshape(-1)

    def block_shape(self, worker: int) -> tuple[int, ...]:
        """(N or B, shape of a sample's variables)."""
        assert self.local is not None
        arrays = self.data[worker]
        count = (self.batch_size if self.local.by_place else None) or len(arrays[0])
        return (count, *self.local.shape(arrays))

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        if self.evaluate is None:
            values = [self._at_first(worker, z_D) for worker in range(self.num_workers)]
            return {"operator_norm": float(np.linalg.norm(np.mean(values, axis=0)))}
        with self._at(z_D) as players:
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
        with self._at(z_D) as players:
            return {name: copy.deepcopy(module) for name, module in players.items()}

    @contextlib.contextmanager
    def _at(self, z_D: Vector) -> Iterator[Players]:
        """The modules at z in evaluation mode."""
        with self._lock:
            self._flat.load(z_D)
            self._flat.train(False)
            try:
                yield self._flat.modules
            finally:
                self._flat.train(True)

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and gradients."""
        import torch

        return torch.float64 if self.precision == "float64" else torch.float32

    @property
    def _flat(self) -> FlatModules:
        return self._made[0]

    @property
    def _made(self) -> tuple[FlatModules, Vector]:
        """The modules, and the weights they began with; made once, whichever thread asks first."""
        with self._lock:
            return self._makes

    @functools.cached_property
    def _makes(self) -> tuple[FlatModules, Vector]:
        from saddlebag.algorithms.networks.flat import FlatModules

        modules = self.build()
        if not self.maximises <= set(modules):
            raise ConfigError(f"maximises must name players of {', '.join(modules)}, got {', '.join(sorted(self.maximises))}")
        flat = FlatModules(modules, dtype=self.dtype, device=self.device)
        flat.train(True)
        start_D = flat.value()
        self._probe(flat)
        return flat, start_D

    def _probe(self, flat: FlatModules) -> None:
        """Refuse what is no function of z and the key, at worker 0's first batch."""
        from saddlebag.algorithms.networks.probe import require_function

        block_N = None if self.local is None else np.zeros(self.block_shape(0))

        def value(z_D: torch.Tensor, key: int) -> torch.Tensor:
            own = None if block_N is None else block_N.copy()
            return self._evaluate(flat, 0, z_D, Draws(0, key, 0), range(1), self.accumulate, own)

        require_function(self.name, flat, value, bits=self.device == "cpu")

    @functools.cached_property
    def _sign_D(self) -> torch.Tensor | None:
        """-1 where a player maximises; None where all minimise."""
        return self._flat.signs(self.maximises) if self.maximises else None

    def rows(self, worker: int, draws: Draws) -> npt.NDArray[np.int64]:
        """The rows of a round's batch."""
        total = len(self.data[worker][0])
        count = self.batch_size or total
        if count == total:
            return np.arange(count)
        if self.replays > 1:  # the number of a step within the round stands in the upper bits
            draws = Draws(draws.seed, draws.round - draws.round % _STEP % self.replays, draws.worker)
        return uniform_subset(draws.own(Purpose.BATCH), total, count)

    def value(self, worker: int, z_D: Any, draws: Draws, parts: range, total: int, block_N: Any = None) -> torch.Tensor:
        """The mean of some of `total` parts, see `FlatModules.gradient`; moves its samples' variables in `block_N`."""
        value_D = self._evaluate(self._flat, worker, z_D, draws, parts, total, block_N)
        self._flat.require_unwritten()
        if not all_finite(value_D):
            raise NotFiniteError(f"{self.name}: the gradient of worker {worker} is not finite")
        return value_D if self._sign_D is None else value_D * self._sign_D

    def _evaluate(
        self, flat: FlatModules, worker: int, z_D: Any, draws: Draws, parts: range, total: int, block_N: Any
    ) -> torch.Tensor:
        row_B, seed = self.rows(worker, draws), seed_of(draws)
        with self._lock, seeded(seed, self.device), self.autocast():
            flat.load(z_D)
            for part in parts:
                here = slice(part, None, total)
                batch = tuple(self.tensor(array[row_B[here]]) for array in self.data[worker])
                chance = Chance(seed, len(row_B), here)
                if block_N is None:
                    self._backward(flat, self.loss(flat.modules, batch, chance))
                else:
                    kept = here if self.local and self.local.by_place else row_B[here]
                    block_N[kept] = self._raised(flat, batch, block_N[kept], chance)
            return flat.gradient(len(parts))

    def _raised(
        self, flat: FlatModules, batch: tuple[torch.Tensor, ...], block_B: Any, chance: Chance
    ) -> npt.NDArray[np.float64]:
        """Add the gradients at the samples' variables, and return the variables after their own step."""
        assert self.local is not None
        leaf = self.tensor(block_B).requires_grad_()
        self._backward(flat, self.loss(flat.modules, (*batch, leaf), chance), leaf)
        assert leaf.grad is not None
        moved: npt.NDArray[np.float64] = self.local.move(leaf.detach(), leaf.grad, batch).double().cpu().numpy()
        return moved

    def _backward(self, flat: FlatModules, losses: Any, *leaves: torch.Tensor) -> None:
        """Add each player's gradient of its own loss to the flat one, and that of the first loss to the leaves."""
        import torch

        if not isinstance(losses, torch.Tensor | Mapping):
            raise ConfigError(
                f"loss must return a tensor, or one for each player by name, got {type(losses).__name__}; "
                "return the tensor itself, without .item()"
            )
        if isinstance(losses, torch.Tensor):
            _require_scalar(losses)
            parameters = [p for player in flat.modules for p in flat.parameters_of(player)]
            torch.autograd.backward(losses, inputs=[*parameters, *leaves])
            return
        if not losses or not set(losses) <= set(flat.modules):
            raise ConfigError(f"loss must be of players among {', '.join(flat.modules)}, got {', '.join(losses) or 'none'}")
        for number, (player, loss) in enumerate(losses.items()):
            _require_scalar(loss)
            inputs = [*flat.parameters_of(player), *(() if number else leaves)]
            if inputs:  # a frozen player has none
                torch.autograd.backward(loss, inputs=inputs, retain_graph=number < len(losses) - 1)

    def tensor(self, rows: Any) -> torch.Tensor:
        """Rows of an array as networks take them."""
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(rows))
        if tensor.is_floating_point():
            tensor = tensor.to(self.dtype)
        return tensor.to(self.device)

    def autocast(self) -> Any:
        """The context that forward passes run in."""
        import torch

        bfloat16 = self.precision == "bfloat16"
        return torch.autocast(torch.device(self.device).type, torch.bfloat16) if bfloat16 else contextlib.nullcontext()

    def _check_parts(self, count: int, parts: int, what: str) -> None:
        if count % parts:
            raise ConfigError(f"a batch of {count} does not divide into {parts} equal parts ({what}); change batch_size")


def _require_scalar(loss: Any) -> None:
    import torch

    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
        what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise ConfigError(
            f"loss must be one number as a tensor that depends on the parameters, got {what}"
            f"{' without a gradient' if isinstance(loss, torch.Tensor) and not loss.requires_grad else ''}; "
            "return the mean over the batch, without .item() or .detach()"
        )
