"""The one check of labels, on every path: studies, replays, the service, blocks of a federation.

A bound on regret holds for labels in the interval that the loss's range was taken from; one label beyond it, and every account
that it enters is no theorem any more. So such labels are refused before anything is learned from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import DataError

if TYPE_CHECKING:
    from saddlebag.algorithms.groupwise.losses import Interval

__all__ = ["check_labels", "wrong_label"]


def wrong_label(label_N: Any, interval: Interval | None) -> tuple[int, str] | None:
    """The place of the first label that is refused, and what it must be; None if all are fine.

    Args:
        label_N: labels, numbers or vectors.
        interval: where they lie; None for any finite number.

    Example:
        >>> wrong_label([0.2, 1.5], (0.0, 1.0))
        (1, 'must be in [0, 1], got 1.5')
        >>> wrong_label([0.2, 1.5], None) is None
        True
    """
    label_N = np.asarray(label_N, np.float64)
    low, high = interval or (-np.inf, np.inf)
    wrong_N = ~(np.isfinite(label_N) & (label_N >= low) & (label_N <= high))
    if not wrong_N.any():
        return None
    place = np.argwhere(wrong_N)[0]
    allowed = "finite" if interval is None else f"in [{low:g}, {high:g}]"
    return int(place[0]), f"must be {allowed}, got {float(label_N[tuple(place)]):g}"


def check_labels(label_N: Any, interval: Interval | None, where: str) -> None:
    """Refuse labels outside the interval.

    Raises:
        DataError: `where`, the row (from 1), the label, and what to do.

    Example:
        >>> check_labels([0.2, 1.5], (0.0, 1.0), "loans.csv")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        saddlebag.errors.DataError: loans.csv, row 2: the label must be in [0, 1], got 1.5; give label.interval, ...
    """
    found = wrong_label(label_N, interval)
    if found is not None:
        row, reason = found
        raise DataError(f'{where}, row {row + 1}: the label {reason}; give label.interval, or label.scale = "min_max"')
