"""What a game of torch modules computes: its players at a point, a worker's batch of a round, and the gradients there.

Everything is a function of z and the round's key: which rows, what dropout hides, where inner ascents begin.

Shapes: D = parameters of all players, N = samples of a worker, B = a batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from saddlebag.algorithms.networks.chance import Chance, alone, seed_of, seeded
from saddlebag.algorithms.networks.finite import all_finite
from saddlebag.compression.draws import Draws, uniform_subset
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt
    import torch
    from torch import nn

    from saddlebag.algorithms.networks.flat import FlatModules
    from saddlebag.algorithms.networks.local import LocalBlock
    from saddlebag.compression.payload import Vector

    Players = Mapping[str, nn.Module]

Precision = Literal["float32", "float64", "bfloat16"]
_STEP = 2**48  # see `Draws.within`
_KEPT = 1 << 20  # parameters whose start is kept


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """The modules of a game and what is computed with them; the attributes are those of `ModuleGame`, which checks them."""

    name: str
    build: Callable[[], Players]
    loss: Callable[[Players, tuple[torch.Tensor, ...], Chance], Any]
    data: Sequence[Any]
    maximises: frozenset[str]
    batch_size: int | None
    local: LocalBlock | None
    replays: int
    accumulate: int
    precision: Precision
    device: str
    _lock: Any = dataclasses.field(default_factory=threading.RLock, init=False, repr=False)

    @contextlib.contextmanager
    def at(self, z_D: Vector) -> Iterator[Players]:
        """The modules at z in evaluation mode."""
        with self._lock:
            self.flat.load(z_D)
            self.flat.train(False)
            try:
                yield self.flat.modules
            finally:
                self.flat.train(True)

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and gradients."""
        import torch

        return torch.float64 if self.precision == "float64" else torch.float32

    @property
    def flat(self) -> FlatModules:
        """The players and their parameters as one vector."""
        return self._made[0]

    def start(self) -> Vector:
        """The weights they begin with, (D,); those of large modules are built again, not kept."""
        start_D = self._made[1]
        return self._flat_of(self._built()).value() if start_D is None else start_D.copy()

    def start_narrow(self) -> Vector:
        """The same in the type of the modules: memory that is the caller's, and theirs until they are put somewhere else."""
        start_D = self._made[1]
        given_D: Vector
        if start_D is None:
            given_D = self._flat_of(self._built()).give()
        else:
            given_D = start_D.astype(np.float64 if self.precision == "float64" else np.float32)
        with self._lock:
            self.flat.load(given_D)
        return given_D

    @property
    def _made(self) -> tuple[FlatModules, Vector | None]:
        """The modules, and the weights they began with, unless there are many; made once, whichever thread asks first."""
        with self._lock:
            return self._makes

    @functools.cached_property
    def _makes(self) -> tuple[FlatModules, Vector | None]:
        modules = self._built()
        if not self.maximises <= set(modules):
            raise ConfigError(f"maximises must name players of {', '.join(modules)}, got {', '.join(sorted(self.maximises))}")
        flat = self._flat_of(modules)
        flat.train(True)
        start_D = flat.value() if flat.dimension <= _KEPT else None
        self._probe(flat)
        return flat, start_D

    def _built(self) -> Players:
        """New modules; their layers may draw, which another thread's dropout must not see."""
        with alone():
            return self.build()

    def _flat_of(self, modules: Players) -> FlatModules:
        from saddlebag.algorithms.networks.flat import FlatModules

        return FlatModules(modules, dtype=self.dtype, device=self.device)

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
        return self.flat.signs(self.maximises) if self.maximises else None

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
        value_D = self._evaluate(self.flat, worker, z_D, draws, parts, total, block_N)
        self.flat.require_unwritten()
        if not all_finite(value_D):
            raise NotFiniteError(f"{self.name}: the gradient of worker {worker} is not finite")
        return value_D if self._sign_D is None else value_D * self._sign_D

    def _evaluate(
        self, flat: FlatModules, worker: int, z_D: Any, draws: Draws, parts: range, total: int, block_N: Any
    ) -> torch.Tensor:
        row_B, seed = self.rows(worker, draws), seed_of(draws)
        with self._lock, seeded(seed, self.device), self.autocast():
            flat.load(z_D)
            flat.clear()
            for part in parts:
                here = slice(part, None, total)
                batch = tuple(self.tensor(array[row_B[here]]) for array in self.data[worker])
                chance = Chance(seed, len(row_B), here, round_=draws.round % _STEP)
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

    def block_shape(self, worker: int) -> tuple[int, ...]:
        """(N or B, shape of a sample's variables)."""
        assert self.local is not None
        arrays = self.data[worker]
        count = (self.batch_size if self.local.by_place else None) or len(arrays[0])
        return (count, *self.local.shape(arrays))


def _require_scalar(loss: Any) -> None:
    import torch

    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
        what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise ConfigError(
            f"loss must be one number as a tensor that depends on the parameters, got {what}"
            f"{' without a gradient' if isinstance(loss, torch.Tensor) and not loss.requires_grad else ''}; "
            "return the mean over the batch, without .item() or .detach()"
        )
