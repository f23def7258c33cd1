"""The table [alarms] of a recipe."""

from __future__ import annotations

import dataclasses

from saddlebag.algorithms.groupwise import Watch


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlarmTable:
    """Alarms for every group that hold at all times at once.

    Attributes:
        kinds: some of "worse" (off than under the single model), "coverage" (left target +- margin), "calibration" (off by more
            than the tolerance) and "features" (drifted); empty for all that the recipe allows.
        rate: the probability of any false alarm on a stream, ever.
        margin: of coverage, around each of `intervals.targets`.
        tolerance: of calibration: a mean of label - prediction below it is none of an alarm.
        levels: of the prediction, for calibration.
    """

    kinds: list[str] = dataclasses.field(default_factory=list)
    rate: float = 0.05
    margin: float = 0.02
    tolerance: float = 0.05
    levels: int = 10

    def __post_init__(self) -> None:
        if self.kinds:
            Watch(kinds=tuple(self.kinds), targets=(0.9,), rate=self.rate, tolerance=self.tolerance, levels=self.levels)
        else:
            Watch(rate=self.rate, targets=(0.9,), tolerance=self.tolerance, levels=self.levels)
