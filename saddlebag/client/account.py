"""What a worker counts: bytes, and how its time divides among the parts of its rounds."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saddlebag.algorithms import Operator
    from saddlebag.compression import Draws, Vector

__all__ = ["ClientLedger", "Phases"]


@dataclasses.dataclass
class ClientLedger:
    """Bytes this worker handed to and took from gRPC."""

    up: int = 0
    down: int = 0


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
        """The operator, timed."""

        def ask(z_D: Vector, draws: Draws) -> Vector:
            begin = time.perf_counter()
            try:
                return operator(z_D, draws)
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
