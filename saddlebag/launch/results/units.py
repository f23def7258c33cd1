"""Numbers as people read them."""

from __future__ import annotations

import re

from saddlebag.errors import ConfigError

__all__ = [
    "REASONS",
    "byte_unit",
    "format_bytes",
    "format_merit",
    "format_rate",
    "format_short",
    "format_time",
    "is_rate",
    "parse_rate",
    "parse_seconds",
]

REASONS = {
    "merit": "reached",
    "max_rounds": "round limit",
    "max_iterations": "iteration limit",
    "max_bytes": "byte limit",
    "max_seconds": "time limit",
}
"""Why a run ended, for people; what is not here speaks for itself."""
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


def is_rate(merit: str) -> bool:
    """Whether a merit is a part of a whole, such as `robust_error`: wrong answers among all.

    Example:
        >>> is_rate("clean_error"), is_rate("relative_error")
        (True, False)
    """
    return merit.endswith("_error") and not merit.startswith("relative_")


def format_merit(merit: str, value: float) -> str:
    """A rate in per cent, any other merit with two digits.

    Example:
        >>> format_merit("robust_error", 0.1296), format_merit("relative_error", 7.61e-7)
        ('13.0 %', '7.6e-07')
    """
    return f"{100 * value:.1f} %" if is_rate(merit) else f"{value:.1e}"


def format_time(seconds: float) -> str:
    """Seconds, or minutes and seconds, or hours and minutes."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"


_NUMBER = r"(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
_RATE = re.compile(_NUMBER + r"\s*([kKMGT]?)(b|bit/s|bps|B/s|)")
_SECONDS = re.compile(_NUMBER + r"\s*(s|ms|us|)")
_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_PARTS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}


def parse_rate(text: str, name: str) -> float:
    """Bits per second: "100M", "1.5 Gbit/s", or bytes where they are written so, "12.5 MB/s".

    Raises:
        ConfigError: it is none of these, or not positive; the message names the option.

    Example:
        >>> parse_rate("12.5MB/s", "--bandwidth")
        100000000.0
    """
    match = _RATE.fullmatch(text.strip())
    rate = float(match[1]) * _PREFIXES[match[2]] * (8.0 if match[3] == "B/s" else 1.0) if match else 0.0
    if not 0.0 < rate < float("inf"):
        raise ConfigError(f"{name} must be a positive rate such as 100M (bits per second) or 12.5MB/s, got {text!r}")
    return rate


def parse_seconds(text: str, name: str) -> float:
    """Seconds: "0.2", "0.2s", "1ms" or "50us".

    Raises:
        ConfigError: it is none of these; the message names the option.

    Example:
        >>> parse_seconds("0.5ms", "--latency")
        0.0005
    """
    match = _SECONDS.fullmatch(text.strip())
    seconds = float(match[1]) * _PARTS[match[2]] if match else float("inf")
    if seconds == float("inf"):
        raise ConfigError(f"{name} must be a time such as 1ms, 50us or 0.2s, got {text!r}")
    return seconds


def format_rate(rate: float) -> str:
    """Bits per second with three digits.

    Example:
        >>> format_rate(9.41e8)
        '941 Mbit/s'
    """
    size, prefix = next(((s, p) for p, s in reversed(_PREFIXES.items()) if p != "K" and rate >= s), (1.0, ""))
    return f"{rate / size:.3g} {prefix}bit/s"


def format_short(seconds: float) -> str:
    """A time in the unit that suits it, with three digits.

    Example:
        >>> format_short(0.0123)
        '12.3 ms'
    """
    if seconds >= 1:
        return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:,.0f} s"
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} us"
