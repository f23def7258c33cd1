"""What a run in this process gives back: last iterate, merits, bytes, and the history as table, plot or frame."""

from __future__ import annotations

import dataclasses
from html import escape
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.simulate import Outcome as Reference
from saddlebag.errors import ConfigError
from saddlebag.launch.results.units import REASONS, format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from saddlebag.compression.payload import Vector

__all__ = ["Outcome", "Traffic"]

_ROWS = 12  # of a history that a table shows: its beginning and its end


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes of encoded messages since the start.

    Attributes:
        up, down: of all workers together: what they sent, and what was sent to them.
        workers: how many share it.

    Example:
        >>> Traffic(up=4000, down=6000, workers=2).up_each
        2000.0
    """

    up: int
    down: int
    workers: int

    @property
    def total(self) -> int:
        """Both directions, all workers."""
        return self.up + self.down

    @property
    def up_each(self) -> float:
        """What a worker sent, in the mean."""
        return self.up / self.workers

    @property
    def down_each(self) -> float:
        """What a worker received, in the mean."""
        return self.down / self.workers

    def __str__(self) -> str:
        return f"{format_bytes(self.up_each)} up and {format_bytes(self.down_each)} down per worker"


@dataclasses.dataclass(frozen=True, repr=False)
class Outcome(Reference):
    """How a run ended.

    Attributes:
        replica: what all machines hold at the end; its `z_D` is `z`.
        rounds: exchanges with the server.
        reason: "merit", "max_rounds", "max_iterations", "max_bytes", "max_seconds" or "diverged".
        up_bytes, down_bytes: of all workers together, see `bytes`.
        history: a record for each evaluation of the merits, the last one at the end.
        start: the merits at the starting point.
        workers: how many there were.
        target: the merit that was asked for, or None.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=10, workers=2)
        >>> run = sb.simulate(game, sb.make_method("ogda", game, step_size="auto"), stop=1e-3)
        >>> run.z.shape, run.bytes.up_each == run.up_bytes / 2
        ((20,), True)
    """

    start: Mapping[str, float]
    workers: int
    target: float | None

    @property
    def z(self) -> Vector:
        """The last iterate, float64 (D,)."""
        z_D: Vector = self.replica.z_D
        return z_D

    @property
    def iterations(self) -> int:
        """Completed iterations of the method; one may take several rounds."""
        return int(self.replica.iteration)

    @property
    def merits(self) -> Mapping[str, float]:
        """The problem's measures of quality at the end; the first is the one to stop on."""
        return self.history[-1].merits if self.history else self.start

    @property
    def bytes(self) -> Traffic:
        """What crossed, by direction."""
        return Traffic(self.up_bytes, self.down_bytes, self.workers)

    def __repr__(self) -> str:
        name, value = next(iter(self.merits.items()))
        how = REASONS.get(self.reason, self.reason)
        return (
            f"<Outcome: {how}, {name} {value:.2g} after {self.iterations:,} iterations, {self.rounds:,} rounds, {self.bytes}>"
        )

    def _repr_html_(self) -> str:
        """For notebooks: the line of `repr`, and the table."""
        lines = [line.split("  ") for line in self.table().splitlines()]
        cells = [[escape(cell.strip()) for cell in line if cell.strip()] for line in lines]
        head, *body = ("".join(f"<td>{cell}</td>" for cell in line) for line in cells)
        rows = "".join(f"<tr>{line}</tr>" for line in body)
        return f"<p>{escape(repr(self)[1:-1])}</p><table><tr>{head.replace('td>', 'th>')}</tr>{rows}</table>"

    def rows(self) -> list[dict[str, float]]:
        """The history from the starting point on, a dictionary for each record; bytes are those of a worker."""
        begin = {"round": 0, "iteration": 0, "up_bytes": 0.0, "down_bytes": 0.0}
        return [{**begin, **self.start}] + [
            {
                "round": record.round,
                "iteration": record.iteration,
                "up_bytes": record.up_bytes / self.workers,
                "down_bytes": record.down_bytes / self.workers,
                **record.merits,
            }
            for record in self.history
        ]

    def table(self) -> str:
        """The history as text: rounds, iterations, bytes of a worker, and the merits; a long one is shortened in its middle."""
        rows = self.rows()
        shown = rows if len(rows) <= _ROWS else [*rows[: _ROWS // 2], None, *rows[-_ROWS // 2 :]]
        heads = list(rows[0])
        lines = [heads, *([_cell(key, row[key]) for key in heads] if row else ["..."] * len(heads) for row in shown)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
        return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)

    def plot(self) -> Figure:
        """The first merit against bytes up, bytes down and rounds; a figure of matplotlib, which notebooks show."""
        from saddlebag.launch.results.plot import Curve, draw  # here, for matplotlib takes half a second
        from saddlebag.launch.results.results import Line

        merit, value = next(iter(self.start.items()))
        lines = [Line(record, 0.0) for record in self.history]
        curve = Curve(
            label=REASONS.get(self.reason, self.reason),
            detail=str(self.bytes),
            title="",
            merit=merit,
            target=self.target,
            start=value,
            workers=self.workers,
            lines=lines,
        )
        return draw([curve])

    def to_pandas(self) -> Any:
        """The history as a DataFrame, with the columns of `rows`.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ConfigError("to_pandas needs pandas, which is not installed; `rows()` has the same as a list") from error
        return pd.DataFrame(self.rows())


def _cell(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return format_bytes(value)
    return f"{value:,}" if name in ("round", "iteration") else f"{value:.3g}"
