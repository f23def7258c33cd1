"""What anybody could have done: one constant for all, and the best fixed model for all, both known in hindsight only.

A study without them can look good and be worse than guessing the average.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from saddlebag.algorithms.groupwise import best_linear_losses, best_logistic_losses
from saddlebag.launch.groupwise.reports.shown import listed

if TYPE_CHECKING:
    from rich.console import Console

    from saddlebag.algorithms.groupwise import Loss
    from saddlebag.algorithms.groupwise.base import Array
    from saddlebag.launch.groupwise.data.stream import RoundStream

_CLEAR = 0.001  # relative: a tenth of a percent of the loss is not worth a word
_STYLE: Any = {"box": None, "pad_edge": False, "padding": (0, 1, 0, 0), "header_style": "bold", "title_justify": "left"}


@dataclasses.dataclass(frozen=True, eq=False)
class Rivals:
    """Total losses on each group's rounds, the same for every order.

    Attributes:
        constant_G: of the best constant for all rounds (the mean label).
        fixed_G: of the best fixed linear (for log loss, logistic) model for all rounds.
    """

    constant_G: Array
    fixed_G: Array


def rivals_of(stream: RoundStream, loss: Loss, *, is_log: bool) -> Rivals:
    """The rivals of a study."""
    constant_N = loss.value(np.full(len(stream.y_N), stream.y_N.mean()), stream.y_N)
    fixed_N = (
        best_logistic_losses(stream.x_ND, stream.y_N, np.ones(len(stream.y_N)))
        if is_log
        else best_linear_losses(stream.x_ND, stream.y_N)
    )
    return Rivals(stream.members.totals(constant_N), stream.members.totals(fixed_N))


def plain_words(values: dict[str, Any]) -> list[str]:
    """What the study says, in sentences for people who have no statistics."""
    rows = values["groups"]
    groups = [row for row in rows if row is not rows[-1]] or rows
    whole, counts = rows[-1], {word: [row["group"] for row in groups if row["verdict"] == word] for word in _WORDS}
    said = [
        f"Over all rounds ours loses {_compared(whole['loss'], whole['single_loss'])} the single model, and "
        f"{_compared(whole['loss'], whole['constant_loss'])} guessing the average every time."
    ]
    others = len(groups) - len(counts["better"]) - len(counts["worse"])
    said.append(
        f"Of {len(groups)} groups {len(counts['better'])} are better off than under the single model, "
        f"{len(counts['worse'])} worse ({listed(counts['worse']) or 'none'})"
        + (f"; for {others} it depends on the order of the rows." if others else ".")
    )
    beaten = [row["group"] for row in rows if row["loss"]["mean"] > row["constant_loss"]["mean"] * (1.0 + _CLEAR)]
    if beaten:
        said.append(f"Guessing the average would have been better in: {listed(beaten)}. Do not use these predictions there.")
    said.append(
        "The best fixed model for all rounds, which nobody knows beforehand, would have lost "
        f"{_compared(whole['fixed_loss'], whole['loss'])} ours."
    )
    return said


_WORDS = ("better", "worse", "no clear difference")


def _compared(ours: dict[str, float], theirs: dict[str, float]) -> str:
    """`5.3 % less than`, or what else fits."""
    share = ours["mean"] / max(theirs["mean"], 1e-300) - 1.0
    if abs(share) < _CLEAR:
        return "as much as"
    return f"{abs(share):.1%} {'more' if share > 0 else 'less'} than"


def print_rivals(console: Console, values: dict[str, Any]) -> None:
    """Losses of all four beside each other, and the plain words."""
    table = Table(title="\nmean loss of a round", **_STYLE)
    table.add_column("group", no_wrap=True)
    for name in ("constant", "single\nmodel", "best fixed model\n(in hindsight)", "ours"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in values["groups"]:
        losses = [row[key]["mean"] for key in ("constant_loss", "single_loss", "fixed_loss", "loss")]
        cells = [f"{loss / max(row['rounds'], 1e-300):.5g}" for loss in losses]
        table.add_row(row["group"], *cells[:-1], f"[bold]{cells[-1]}[/]" if losses[-1] <= min(losses) else cells[-1])
    console.print(table)
    for sentence in values["plain_words"]:
        console.print(sentence)
