"""Small pictures as SVG text: curves with bands, and dots against a target. No script, no network, colours for all eyes."""

from __future__ import annotations

import dataclasses
import math
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

__all__ = ["Series", "draw_curves", "draw_dots"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 10.0, 8.0, 36.0
_WIDTH, _HEIGHT = 420.0, 212.0


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """A line with its band.

    Attributes:
        name: for people.
        look: the class of the style sheet that colours and dashes it.
        x_P, mean_P, low_P, high_P: points.
    """

    name: str
    look: str
    x_P: Array
    mean_P: Array
    low_P: Array
    high_P: Array


def draw_curves(series: Sequence[Series], title: str, *, across: str, up: str, diagonal: bool = False) -> str:
    """Lines with bands over common axes; with `diagonal`, both axes run from 0 to 1 and the line of equality is drawn."""
    everything = np.concatenate([np.concatenate((line.low_P, line.high_P)) for line in series])
    low, high = (0.0, 1.0) if diagonal else _span(everything)
    right = 1.0 if diagonal else max(float(line.x_P.max()) for line in series) or 1.0
    frame = _Frame(0.0, right, low, high)
    parts = [frame.axes(across, up)]
    if diagonal:
        parts.append(f'<path class="zero" d="{frame.path(np.array([0.0, 1.0]), np.array([0.0, 1.0]))}"/>')
    elif low < 0.0 < high:
        parts.append(f'<path class="zero" d="{frame.path(np.array([0.0, right]), np.zeros(2))}"/>')
    for line in series:
        band = frame.path(np.concatenate((line.x_P, line.x_P[::-1])), np.concatenate((line.high_P, line.low_P[::-1])))
        parts.append(f'<path class="band {line.look}" d="{band}Z"/>')
    for line in series:
        parts.append(f'<path class="line {line.look}" d="{frame.path(line.x_P, line.mean_P)}"/>')
        if diagonal:
            parts += [f'<circle class="{line.look}" r="3" cx="{x}" cy="{y}"/>' for x, y in frame.points(line.x_P, line.mean_P)]
    return _svg(title, "".join(parts), _WIDTH, _HEIGHT)


def draw_dots(rows: Sequence[tuple[str, float, float]], target: float, title: str, names: tuple[str, str]) -> str:
    """For each row its name, a filled dot (first value) and a hollow square (second) on one axis with the target's line."""
    values = np.array([[first, second] for _, first, second in rows])
    low, high = max(0.0, min(float(values.min()), target) - 0.02), min(1.0, max(float(values.max()), target) + 0.02)
    width, left, step = 640.0, 150.0, 20.0
    height = step * len(rows) + 34.0

    def across(value: float) -> float:
        return left + (width - left - 16.0) * (value - low) / (high - low)

    parts = []
    for tick in _ticks(low, high):
        parts.append(f'<path class="grid" d="M{across(tick):.1f} 4V{height - 26:.1f}"/>')
        parts.append(f'<text class="tick middle" x="{across(tick):.1f}" y="{height - 12:.1f}">{tick:g}</text>')
    parts.append(f'<path class="target" d="M{across(target):.1f} 2V{height - 26:.1f}"/>')
    for number, (name, first, second) in enumerate(rows):
        y = 14.0 + step * number
        parts.append(f'<text class="tick end" x="{left - 8:.1f}" y="{y + 4:.1f}">{escape(name[:24])}</text>')
        parts.append(f'<path class="link" d="M{across(first):.1f} {y:.1f}H{across(second):.1f}"/>')
        parts.append(
            f'<rect class="hollow single" x="{across(second) - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9">'
            f"<title>{escape(name)}, {escape(names[1])}: {second:.4f}</title></rect>"
        )
        parts.append(
            f'<circle class="ours" r="5" cx="{across(first):.1f}" cy="{y:.1f}">'
            f"<title>{escape(name)}, {escape(names[0])}: {first:.4f}</title></circle>"
        )
    return _svg(title, "".join(parts), width, height)


def _svg(title: str, body: str, width: float, height: float) -> str:
    return f'<svg role="img" viewBox="0 0 {width:g} {height:g}"><title>{escape(title)}</title>{body}</svg>'


@dataclasses.dataclass(frozen=True)
class _Frame:
    """From data to places on the picture."""

    left: float
    right: float
    low: float
    high: float

    def points(self, x_P: Array, y_P: Array) -> list[tuple[str, str]]:
        across_P = _LEFT + (_WIDTH - _LEFT - _RIGHT) * (x_P - self.left) / ((self.right - self.left) or 1.0)
        up_P = _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (y_P - self.low) / ((self.high - self.low) or 1.0)
        return [(f"{x:.1f}", f"{y:.1f}") for x, y in zip(across_P.tolist(), up_P.tolist(), strict=True)]

    def path(self, x_P: Array, y_P: Array) -> str:
        return "M" + "L".join(f"{x} {y}" for x, y in self.points(x_P, y_P))

    def axes(self, across: str, up: str) -> str:
        parts = []
        for tick in _ticks(self.low, self.high):
            ((_, y),) = self.points(np.array([self.left]), np.array([tick]))
            parts.append(f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>')
            parts.append(f'<text class="tick end" x="{_LEFT - 5}" y="{float(y) + 3.5:.1f}">{tick:g}</text>')
        for tick in _ticks(self.left, self.right):
            ((x, _),) = self.points(np.array([tick]), np.array([self.low]))
            parts.append(f'<text class="tick middle" x="{x}" y="{_HEIGHT - 21}">{_short(tick)}</text>')
        parts.append(f'<text class="tick end" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 5}">{escape(across)}</text>')
        parts.append(f'<text class="tick" x="{_LEFT + 4}" y="{_TOP + 7}">{escape(up)}</text>')
        return "".join(parts)


def _span(values: Array) -> tuple[float, float]:
    """The ends of an axis for finite values, never of width 0, with 0 in it."""
    kept = values[np.isfinite(values)]
    low, high = min(0.0, float(kept.min(initial=0.0))), max(0.0, float(kept.max(initial=0.0)))
    return (low, high) if high > low else (low, low + 1.0)


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers in [low, high]."""
    rough = (high - low) / 5.0
    size = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next(size * factor for factor in (1.0, 2.0, 5.0, 10.0) if size * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(step * number, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _short(number: float) -> str:
    return f"{number / 1000:g}k" if abs(number) >= 1000 else f"{number:g}"
