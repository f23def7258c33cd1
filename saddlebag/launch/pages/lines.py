"""Curves against one coordinate as SVG text: named where they end, logarithmic where they span a decade, readable in grey."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MOST", "Drawn", "draw_lines", "thinned"]

MOST = 7
"""Curves of a panel at most: as many as there are colours that all eyes tell apart."""

_WIDTH, _HEIGHT = 460.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 112.0, 12.0, 44.0
_APART = 13.0  # between names
_LETTERS = 17
_POINTS = 240  # of a curve: more than a picture resolves
_LARGEST = 1e300  # beyond it differences are infinite
_MARKS = (
    "M-4 0A4 4 0 1 1 4 0A4 4 0 1 1 -4 0Z",
    "M-4 -4H4V4H-4Z",
    "M0 -5L5 0L0 5L-5 0Z",
    "M-4.5 -4H4.5L0 4.5Z",
    "M-4.5 4H4.5L0 -4.5Z",
)


class Drawn(NamedTuple):
    """A curve: its name, its place among the page's curves, and its points."""

    name: str
    number: int
    points: Sequence[tuple[float, float]]


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Some of the finite points, the first and the last included."""
    kept = [point for point in points if abs(point[0]) <= _LARGEST and abs(point[1]) <= _LARGEST]
    if len(kept) <= _POINTS:
        return kept
    return [kept[round(number * (len(kept) - 1) / (_POINTS - 1))] for number in range(_POINTS)]


def draw_lines(
    curves: Sequence[Drawn],
    *,
    title: str,
    across: str,
    tick_x: Callable[[float], str],
    tick_y: Callable[[float], str],
    target: float | None = None,
) -> str:
    """A picture of the curves with axes of their own; `target` is a line to reach."""
    thin = [curve._replace(points=thinned(curve.points)) for curve in curves]
    drawn = [curve for curve in thin if curve.points]
    xs = [x for curve in drawn for x, _ in curve.points]
    ys = [y for curve in drawn for _, y in curve.points] + ([target] if target else [])
    ends = [curve.points[-1][0] for curve in drawn]
    x_axis = _Axis(xs, _LEFT, _WIDTH - _RIGHT, log=_decade(ends) and min(xs, default=0.0) > 0, zero=True)
    y_axis = _Axis(ys, _HEIGHT - _BOTTOM, _TOP, log=_decade([y for y in ys if y > 0]) and min(ys, default=0.0) >= 0)
    parts = [_axes(x_axis, y_axis, across, tick_x, tick_y)]
    if target:
        words = f"<title>target {escape(tick_y(target))}</title>"
        parts.append(f'<path class="target" d="M{_LEFT} {y_axis(target):.1f}H{_WIDTH - _RIGHT}">{words}</path>')
    for curve in drawn:
        at = [(x_axis(x), y_axis(y)) for x, y in curve.points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
        x, y = at[-1]
        mark = f'<path class="mark" transform="translate({x:.1f} {y:.1f})" d="{_MARKS[curve.number % len(_MARKS)]}"/>'
        last_x, last_y = curve.points[-1]
        label = f"<title>{escape(f'{curve.name}: {tick_y(last_y)} at {tick_x(last_x)}')}</title>"
        parts.append(f'{_group(curve)}<path class="line" d="{path}"/>{mark}{label}</g>')
    parts += _names([(y_axis(curve.points[-1][1]), x_axis(curve.points[-1][0]), curve) for curve in drawn])
    return f'<svg role="img" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}"><title>{escape(title)}</title>{"".join(parts)}</svg>'


def _names(placed: Sequence[tuple[float, float, Drawn]]) -> list[str]:
    """Names beside the frame, none on another, each with a thin line to its curve's end."""
    parts, below, left = [], _TOP - _APART + 6.0, _WIDTH - _RIGHT
    ordered = sorted(placed, key=lambda each: each[0])
    for number, (y, x, curve) in enumerate(ordered):
        rest = len(ordered) - 1 - number  # names that still need room
        at = max(below + _APART, min(y, _HEIGHT - _BOTTOM - rest * _APART))
        below = at
        name = curve.name if len(curve.name) <= _LETTERS else f"{curve.name[: _LETTERS - 1]}…"
        lead = f'<path class="lead" d="M{x + 6:.1f} {y:.1f}L{left + 4:.1f} {at:.1f}"/>'
        parts.append(f'{_group(curve)}{lead}<text class="name" x="{left + 7:.1f}" y="{at + 3.5:.1f}">{escape(name)}</text></g>')
    return parts


def _group(curve: Drawn) -> str:
    """What holds all parts of a curve, for the style and for who hides it."""
    return f'<g class="curve c{curve.number % MOST}" data-curve="{curve.number}">'


class _Axis:
    """From values to places on the picture."""

    def __init__(self, values: Sequence[float], first: float, last: float, *, log: bool, zero: bool = False) -> None:
        self._first, self._last, self.log = first, last, log
        kept = [value for value in values if value > 0] if log else [*values, *([0.0] if zero else [])]
        low, high = min(kept, default=0.0), max(kept, default=1.0)
        if log:
            self.low, self.high = low, high if high > low else 10.0 * low
        else:
            room = 0.0 if zero else 0.04 * (high - low)
            self.low, self.high = (low - room, high + room) if high > low else (low, low + 1.0)

    def __call__(self, value: float) -> float:
        if self.log:
            low = math.log(self.low)
            share = (math.log(max(value, self.low)) - low) / (math.log(self.high) - low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self._first + (self._last - self._first) * share

    def ticks(self) -> list[float]:
        """Two to seven round numbers."""
        if not self.log:
            rough = (self.high - self.low) / 4.0
            size = 10.0 ** math.floor(math.log10(rough))
            step = next(size * factor for factor in (1.0, 2.0, 5.0, 10.0) if size * factor >= rough)
            first = math.ceil(self.low / step - 1e-9)
            return [step * number for number in range(first, math.floor(self.high / step + 1e-9) + 1)]
        low, high = math.log10(self.low), math.log10(self.high)
        every = max(1, round((high - low) / 6.0))
        powers = [10.0**power for power in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1, every)]
        return powers if len(powers) > 1 else [self.low, self.high]


def _axes(x_axis: _Axis, y_axis: _Axis, across: str, tick_x: Callable[[float], str], tick_y: Callable[[float], str]) -> str:
    parts = []
    for tick in y_axis.ticks():
        parts.append(f'<path class="grid" d="M{_LEFT} {y_axis(tick):.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick end" x="{_LEFT - 6}" y="{y_axis(tick) + 3.5:.1f}">{escape(tick_y(tick))}</text>')
    for tick in x_axis.ticks():
        parts.append(f'<path class="grid" d="M{x_axis(tick):.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        parts.append(
            f'<text class="tick middle" x="{x_axis(tick):.1f}" y="{_HEIGHT - _BOTTOM + 15}">{escape(tick_x(tick))}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return "".join([*parts, f'<text class="middle" x="{middle}" y="{_HEIGHT - 8}">{escape(across)}</text>'])


def _decade(values: Sequence[float]) -> bool:
    positive = [value for value in values if value > 0]
    return bool(positive) and max(positive) >= 10 * min(positive)
