"""What a worker counts: bytes, and how its time divides among the parts of its rounds."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from saddlebag.algorithms.finite_sum import FiniteSum
from saddlebag.algorithms.local_blocks import LocalOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms import Operator
    from saddlebag.compression import Draws, Index, Vector

__all__ = ["ClientLedger", "Phases"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclasses.dataclass
class ClientLedger:
    """Bytes this worker handed to and took from gRPC."""

    up: int = 0
    down: int = 0


@dataclasses.dataclass(frozen=True)
class _Watched:
    """An operator's values."""

    ask: Operator

    def __call__(self, z_D: Vector, draws: Draws) -> Vector:
        return self.ask(z_D, draws)


@dataclasses.dataclass(frozen=True)
class _WatchedSum(_Watched):
    """A `FiniteSum`'s batches, too."""

    num_samples: int
    lipschitz: float | None
    batch: Callable[[Vector, Index], Vector]


@dataclasses.dataclass(frozen=True)
class _WatchedKeeper(_Watched):
    """A `LocalOperator`'s steps, too."""

    block_size: int
    step: Callable[[Vector, Vector, Draws], tuple[Vector, Vector]]


@dataclasses.dataclass
class Phases:
    """Seconds of this worker's rounds, the first of each connection left out: it waits there for others to come.

    Attributes:
        rounds: how many are counted.
        compute_s: in the operator.
        compress_s: in the rest of the step: the method, the compressor, the codec.
        exchange_s: from there until the downlink has been decoded: both ways, and waiting for the server and slower workers.
        apply_s: replaying the downlink, and checkpoints.
    """

    rounds: int = 0
    compute_s: float = 0.0
    compress_s: float = 0.0
    exchange_s: float = 0.0
    apply_s: float = 0.0
    _asked_s: float = dataclasses.field(default=0.0, repr=False, compare=False)

    def watched(self, operator: Operator) -> Operator:
        """The operator, timed; one that does more than give values (batches, blocks of its own) still does."""
        ask, known = self._timed(operator), cast("Any", operator)  # a callable may be one of these, whatever its type says
        if isinstance(known, FiniteSum):
            return _WatchedSum(ask, known.num_samples, known.lipschitz, self._timed(known.batch))
        if isinstance(known, LocalOperator):
            return _WatchedKeeper(ask, known.block_size, self._timed(known.step))
        return ask

    def _timed(self, function: Callable[P, T]) -> Callable[P, T]:
        def ask(*args: P.args, **kwargs: P.kwargs) -> T:
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._asked_s += time.perf_counter() - begin

        return ask

    def begin(self) -> float:
        """A round begins; returns the time."""
        self._asked_s = 0.0
        return time.perf_counter()

    def end(self, began_s: float, stepped_s: float, received_s: float) -> None:
        """A round ends, the parts of which ended at these times."""
        self.rounds += 1
        self.compute_s += self._asked_s
        self.compress_s += stepped_s - began_s - self._asked_s
        self.exchange_s += received_s - stepped_s
        self.apply_s += time.perf_counter() - received_s

    def as_dict(self) -> dict[str, float]:
        """Rounds and seconds, by the names of the attributes."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.repr}

    def __str__(self) -> str:
        parts = {"compute": self.compute_s, "compress": self.compress_s, "exchange": self.exchange_s, "apply": self.apply_s}
        whole_s = sum(parts.values())
        shares = ", ".join(f"{name} {100 * part_s / (whole_s or 1.0):.0f} %" for name, part_s in parts.items())
        return f"{1e3 * whole_s / max(self.rounds, 1):.3g} ms a round: {shares}"
