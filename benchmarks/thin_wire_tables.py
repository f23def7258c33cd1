"""Tables and the plot of `bench_thin_wire.py`: where a step's time goes, and wall time to the same loss."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from harness import Row, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DDP = "DDP, float32"  # what all are compared with


def show_steps(rows: Sequence[Row], names: Sequence[str], *, markdown: bool) -> None:
    """Where a step's time goes, a table for each rate."""
    for rate in sorted({row["rate_mbit"] for row in rows}, key=lambda rate: rate or float("inf")):
        here = [row for row in rows if row["rate_mbit"] == rate]
        header = ("contender", "step ms", "compute", "compress", "exchange", "apply", "kB a step, wire", "ledger", "times DDP")
        show(f"A step, {at(rate)}", header, list(_steps(here, names)), markdown=markdown)


def show_times(rows: Sequence[Row], names: Sequence[str], *, markdown: bool) -> None:
    """Wall time to the loss that all contenders at one rate reach."""
    target = max(min(point["loss"] for point in row["history"]) for row in rows)
    header = ("contender", "loss at the end", f"s to {target:.3f}", "times DDP")
    lines = list(_times(rows, names, target))
    show(f"Wall time to the same loss, {at(rows[0]['rate_mbit'])}", header, lines, markdown=markdown)


def at(rate_mbit: float) -> str:
    return f"{rate_mbit:g} Mbit/s each way" if rate_mbit else "no limit"


def seconds_to(history: Sequence[Row], loss: float) -> float | None:
    """When a loss was reached, between evaluations on a straight line; None when it was not."""
    for before, after in zip([None, *history], history, strict=False):
        if after["loss"] <= loss:
            if before is None:
                return float(after["seconds"])
            share = (before["loss"] - loss) / (before["loss"] - after["loss"])
            return float(before["seconds"] + share * (after["seconds"] - before["seconds"]))
    return None


def _steps(rows: Sequence[Row], names: Sequence[str]) -> Iterator[list[str]]:
    plain = statistics.median([row["step_s"] for row in rows if row["contender"] == DDP] or [float("nan")])
    for name in names:
        mine = [row for row in rows if row["contender"] == name]
        if not mine:
            continue
        middle = {key: statistics.median(row[key] for row in mine) for key in mine[0] if key.endswith(("_s", "_bytes"))}
        parts = [f"{1e3 * middle[key]:.0f}" for key in ("step_s", "compute_s", "compress_s", "exchange_s", "apply_s")]
        ledger = f"{middle['ledger_bytes'] / 1e3:.0f}" if "ledger_bytes" in middle else "-"
        yield [name, *parts, f"{middle['wire_bytes'] / 1e3:.0f}", ledger, f"{plain / middle['step_s']:.2f}"]


def _times(rows: Sequence[Row], names: Sequence[str], target: float) -> Iterator[list[str]]:
    took = [seconds_to(row["history"], target) for row in rows]
    plain = statistics.median([s for row, s in zip(rows, took, strict=True) if row["contender"] == DDP and s] or [float("nan")])
    for name in names:
        for row, seconds in zip(rows, took, strict=True):
            if row["contender"] == name:
                assert seconds is not None, "the target is a loss that all reach"
                yield [name, f"{row['history'][-1]['loss']:.4f}", f"{seconds:.1f}", f"{plain / seconds:.2f}"]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Loss against seconds and against bytes."""
    from matplotlib.figure import Figure

    from saddlebag.launch.results.house import in_style, look, name_beside, tidy

    with in_style():
        figure = Figure(figsize=(12, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        names = list(dict.fromkeys(row["contender"] for row in rows))
        ends = {}
        for row in rows:  # several seeds of a contender look alike, and the last one bears the name
            seen, loss = look(names.index(row["contender"])), [point["loss"] for point in row["history"]]
            left.plot([point["seconds"] for point in row["history"]], loss, **seen)
            right.plot([point["up_bytes"] / 1e6 for point in row["history"]], loss, **seen)
            ends[row["contender"]] = (seen["color"], (row["history"][-1]["up_bytes"] / 1e6, loss[-1]))
        left.set_xlabel("seconds of training")
        left.set_ylabel("loss on held-out text")
        right.set_xlabel("MB sent by a node")
        for axes in (left, right):
            axes.set_xscale("log")
            tidy(axes)
        name_beside(right, [(name, *end) for name, end in ends.items()])
        figure.suptitle(f"Masked words, two nodes, {at(rows[0]['rate_mbit'])}")
        figure.savefig(path, dpi=150)
