"""The table [intervals] of a recipe."""

from __future__ import annotations

import dataclasses
from typing import Literal

from saddlebag.algorithms.groupwise import Thresholds

_STEP = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntervalTable:
    """Intervals that are to cover every group alike.

    Attributes:
        targets: coverage asked for, one or several.
        score: how far a label lies from what was predicted: see `saddlebag.algorithms.groupwise.coverage.scores`.
        form: "adaptive" needs no unit; "fixed" is the plain rule with a constant step.
        step: of the thresholds: see `Thresholds`. For "fixed" in units of the scaled label: 0.01 is usual.
        prediction: a column with predictions of your own, in units of the label's column, to put intervals around; empty for
            ours.
    """

    targets: list[float] = dataclasses.field(default_factory=lambda: [0.9])
    score: Literal["absolute", "scaled", "quantile"] = "absolute"
    form: Literal["adaptive", "fixed"] = "adaptive"
    step: float = _STEP
    prediction: str = ""

    def __post_init__(self) -> None:
        self.rule()

    def rule(self) -> Thresholds:
        """The thresholds."""
        return Thresholds(targets=tuple(self.targets), form=self.form, step=self.step)
