"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["byte_unit", "format_bytes", "format_time"]

_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def byte_unit(num_bytes: float) -> tuple[float, str]:
    """The largest decimal unit that such a number has at least one of."""
    return next(((size, unit) for size, unit in _UNITS if num_bytes >= size), (1.0, "B"))


def format_bytes(num_bytes: float) -> str:
    """Three significant digits and a decimal unit.

    Example:
        >>> format_bytes(1008420)
        '1.01 MB'
    """
    size, unit = byte_unit(num_bytes)
    value = num_bytes / size
    if unit == "B":
        return f"{value:.0f} B"
    return f"{value:.{max(0, 2 - (value >= 10) - (value >= 100))}f} {unit}"


def format_time(seconds: float) -> str:
    """Seconds, or minutes and seconds, or hours and minutes."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"
