"""The table `[calibration]` of a recipe."""

from __future__ import annotations

import dataclasses

from saddlebag.algorithms.groupwise import Calibration


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationTable:
    """Probabilities that are right on average, for every group and level; labels lie in [0, 1].

    Attributes:
        bins: levels of equal width.
        step: of the correction: see `Calibration`.
    """

    bins: int = 10
    step: float = 0.005

    def __post_init__(self) -> None:
        self.rule()

    def rule(self) -> Calibration:
        """The rule."""
        return Calibration(bins=self.bins, step=self.step)
