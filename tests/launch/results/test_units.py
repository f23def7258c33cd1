from __future__ import annotations

import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.results.units import format_rate, format_short, parse_rate, parse_seconds


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100M", 1e8), ("100 Mbit/s", 1e8), ("1.5G", 1.5e9), ("12.5MB/s", 1e8), ("9600", 9600), ("1e6bps", 1e6), ("2kb", 2000)],
)
def test_rates(text: str, rate: float) -> None:
    assert parse_rate(text, "--x") == rate


@pytest.mark.parametrize(("text", "seconds"), [("1ms", 1e-3), ("50 us", 5e-5), ("0.2s", 0.2), ("3", 3), ("0", 0)])
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text, "--x") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "M", "-1M", "1e999", "100 X", "nan"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="--x must be a positive rate"):
        parse_rate(text, "--x")
    with pytest.raises(ConfigError, match="--x must be a time"):
        parse_seconds(text, "--x")


def test_as_people_read_them() -> None:
    assert [format_rate(rate) for rate in (1e8, 1.234e9, 950.0)] == ["100 Mbit/s", "1.23 Gbit/s", "950 bit/s"]
    assert [format_short(seconds) for seconds in (4321, 1.234, 0.5, 7e-5)] == ["4,321 s", "1.23 s", "500 ms", "70 us"]
