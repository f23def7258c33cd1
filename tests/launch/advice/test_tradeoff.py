from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saddlebag.errors import DataError
from saddlebag.launch.advice.tradeoff import Point, frontier, plot_tradeoff, points_of
from saddlebag.launch.advice.vectors import synthetic

if TYPE_CHECKING:
    from pathlib import Path


def point(bits: float, error: float) -> Point:
    return Point(name="x", table={}, family="quantised", unbiased=True, bits=bits, error=error)


def test_the_frontier_is_what_nothing_beats() -> None:
    best = [point(1, 0.9), point(2, 0.5), point(8, 0.1)]
    beaten = [point(1, 0.95), point(2.5, 0.5), point(3, 0.7), point(8, 0.2)]
    assert frontier([*beaten, *best]) == best
    assert frontier([]) == []


def test_the_plot_shows_every_setting_that_fits(tmp_path: Path) -> None:
    x_D = synthetic("heavy", 400)  # a 20 x 20 matrix: rank 32 does not fit
    points = plot_tradeoff(x_D, tmp_path / "plot.png", what="x", mark=("top_k", {"k": 7}))
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert {("top_k", 7), ("low_rank", 16), ("identity", None)} <= {
        (p.name, p.table.get("k", p.table.get("rank"))) for p in points
    }
    assert ("low_rank", 32) not in {(p.name, p.table.get("rank")) for p in points}
    (identity,) = (p for p in points if p.name == "identity")
    assert (identity.error, identity.family, identity.unbiased) == (0, "quantised", True)
    assert identity.bits == pytest.approx(32, rel=0.01)
    assert len(points_of(x_D)) == len(points) - 1
    assert "hard_threshold" in {p.name for p in points_of(x_D / 1e3)}, "listed, though it sends nothing here"
    plot_tradeoff(x_D / 1e3, tmp_path / "nothing.png", what="x")
    with pytest.raises(DataError, match=r"cannot write the plot .*plot\.xyz: "):
        plot_tradeoff(x_D, tmp_path / "plot.xyz", what="x")
