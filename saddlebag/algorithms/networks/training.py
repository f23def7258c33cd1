"""What problems of networks are told alike: who holds which samples, and how a batch is computed."""

from __future__ import annotations

import dataclasses
from typing import Annotated, TypedDict

from saddlebag.algorithms.networks.evaluation import Precision  # noqa: TC001 (the keys' types are read at run time)

__all__ = ["Training", "TrainingKeys"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Keys of a recipe, with their defaults; see `ModuleGame`.

    Attributes:
        split: who holds which samples; "label_skew" by class.
        seed: of the weights and of the split.
        accumulate: parts of a batch that are computed one after the other, to save memory.
        precision: what the networks compute in; "bfloat16" is autocast over float32.
        device: of torch.
    """

    split: str = "even"
    seed: int = 0
    accumulate: int = 1
    precision: Precision = "float32"
    device: str = "cpu"

    @property
    def dtype(self) -> str:
        """Of data and parameters, by name."""
        return "float64" if self.precision == "float64" else "float32"


class TrainingKeys(TypedDict, total=False):
    """`Training` as keys."""

    split: Annotated[str, Training]
    seed: Annotated[int, Training]
    accumulate: Annotated[int, Training]
    precision: Annotated[Precision, Training]
    device: Annotated[str, Training]
