"""The house style of pictures: axes, names, targets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from saddlebag.algorithms.simulate import Record
from saddlebag.launch.results.house import MOST, PALETTE, look, name_beside
from saddlebag.launch.results.plot import Curve, draw
from saddlebag.launch.results.results import Line


def curve(label: str, merits: list[float], up: int, *, merit: str = "relative_error", target: float | None = None) -> Curve:
    lines = [
        Line(Record(round_, round_, {merit: value}, up * round_, 10 * round_), 0.1 * round_)
        for round_, value in enumerate(merits, 1)
    ]
    start, detail = 1.0, "grid up"
    return Curve(label=label, merit=merit, target=target, lines=lines, detail=detail, title="A run", start=start, workers=2)


FALLING = [10.0**-step for step in range(8)]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_axes_are_logarithmic_where_values_span_a_decade() -> None:
    near = draw([curve("a", FALLING, 100), curve("b", FALLING, 500)])
    far = draw([curve("a", FALLING, 100), curve("b", FALLING, 5000)])
    assert [ax.get_xscale() for ax in near.axes] == ["linear"] * 3
    assert [ax.get_xscale() for ax in far.axes] == ["log", "linear", "linear"]
    assert far.axes[0].get_yscale() == "log"


def test_rates_within_a_decade_are_linear_and_in_per_cent() -> None:
    figure = draw([curve("a", [0.9, 0.5, 0.3, 0.2], 100, merit="robust_error")])
    assert figure.axes[0].get_yscale() == "linear"
    assert figure.axes[0].yaxis.get_major_formatter()(0.5).startswith("50")


def test_every_line_is_named_away_from_its_marker() -> None:
    figure = draw([curve("ours", FALLING, 100, target=1e-6), curve("theirs", FALLING, 500, target=1e-6)])
    first = figure.axes[0]
    assert {"ours", "theirs"} <= set(texts(figure))
    ends = {tuple(np.asarray(line.get_xydata())[-1]) for line in first.get_lines()}
    assert not ends & {tuple(vars(text)["xy"]) for text in first.texts}
    assert texts(figure).count("target\n1.0e-06") == 1


@pytest.mark.parametrize(("number", "rows"), [(1, 1), (7, 1), (8, 2), (15, 3)])
def test_a_panel_has_at_most_seven_curves(number: int, rows: int) -> None:
    figure = draw([curve(f"m{each}", FALLING, 100 + each) for each in range(number)])
    assert len(figure.axes) == 3 * rows
    assert max(sum(len(np.asarray(line.get_xydata())) > 1 for line in ax.get_lines()) for ax in figure.axes) <= 7


def test_lines_differ_in_grey_too() -> None:
    seen = [look(number) for number in range(MOST)]
    assert len({each["color"] for each in seen}) == MOST
    for one, other in itertools.pairwise(seen):
        assert one["linestyle"] != other["linestyle"]
    assert len({*PALETTE}) == 7


@pytest.mark.parametrize("heights", [[0.5] * 7, [0.0] * 7, [1.0] * 7, [0.1, 0.12, 0.9, 0.95, 0.96, 0.5, 2.0], [0.3]])
def test_names_beside_a_panel_lie_apart_and_within(heights: list[float]) -> None:
    ax = Figure().subplots()
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    name_beside(ax, [(f"m{place}", "k", (1.0, height)) for place, height in enumerate(heights)])
    at = sorted(text.xyann[1] for text in ax.texts)  # type: ignore[attr-defined]
    assert all(higher - lower > 0.059 for lower, higher in itertools.pairwise(at))
    assert min(at) > -0.01
    assert max(at) < 1.01
