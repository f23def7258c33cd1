"""What problems of networks are told alike: who holds which samples, and how a batch is computed."""

from __future__ import annotations

import dataclasses
from typing import Annotated, TypedDict

from saddlebag.algorithms.networks.evaluation import Precision  # noqa: TC001 (the keys' types are read at run time)
from saddlebag.algorithms.problems.data.shards import Division, DivisionKeys


class _Computing(TypedDict):
    """How a `ModuleGame` computes a batch, under the names of its fields."""

    batch_size: int
    accumulate: int
    precision: Precision
    device: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(Division):
    """Keys of a recipe beside the division's, with their defaults; see `ModuleGame`.

    Attributes:
        batch_size: samples of a worker in a round; 0 for all that it has.
        accumulate: parts of a batch that are computed one after the other, to save memory.
        precision: what the networks compute in; "bfloat16" is autocast over float32.
        device: of torch.
    """

    batch_size: int = 64
    accumulate: int = 1
    precision: Precision = "float32"
    device: str = "cpu"

    @property
    def computing(self) -> _Computing:
        """For the game."""
        return _Computing(batch_size=self.batch_size, accumulate=self.accumulate, precision=self.precision, device=self.device)

    @property
    def dtype(self) -> str:
        """Of data and parameters, by name."""
        return "float64" if self.precision == "float64" else "float32"


class TrainingKeys(DivisionKeys, total=False):
    """`Training` as keys."""

    batch_size: Annotated[int, Training]
    accumulate: Annotated[int, Training]
    precision: Annotated[Precision, Training]
    device: Annotated[str, Training]
