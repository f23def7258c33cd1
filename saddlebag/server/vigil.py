"""What a round waits for, told to people while it does: for whom, since when, until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from saddlebag.server.effects import ServerSettings
    from saddlebag.server.roster import Missed

__all__ = ["Vigil", "waiting_words"]

_FIRST_S, _MOST_S = 5.0, 60.0  # until a log hears of it, and between two words there at most
_NAMED = 4


def waiting_words(round_: int, opened: float, missed: Sequence[Missed], settings: ServerSettings, now: float) -> str:
    """One line for a table or a log; empty where nobody is waited for.

    Args:
        round_: under way.
        opened: when it began.
        missed: for whom it waits.
        settings: of the run: what happens to whoever stays away.
        now: by the same clock.
    """
    if not missed:
        return ""
    alike: dict[str, list[int]] = {}
    for each in missed:
        alike.setdefault(_state(each, settings, now), []).append(each.worker)
    named = "; ".join(f"{_named(workers)} ({state})" for state, workers in alike.items())
    return f"round {round_:,} waits {now - opened:.0f} s for {named}"


def _named(workers: Sequence[int]) -> str:
    more = f" and {len(workers) - _NAMED} more" if len(workers) > _NAMED else ""
    return f"worker {', '.join(map(str, workers[:_NAMED]))}{more}"


def _state(missed: Missed, settings: ServerSettings, now: float) -> str:
    silent_s = now - missed.since
    left_s = max(0.0, missed.patience_s - silent_s)
    since = f"{missed.why} {silent_s:.0f} s {'since the start' if missed.why == 'has not come' else 'ago'}"
    if settings.on_lost == "drop":
        until = f"{left_s:.0f} s more, then the run goes on without it"
    elif left_s == 0.0:
        until = "until it comes back"
    else:
        until = f"taken for lost in {left_s:.0f} s"
    return f"{since}; {until}"


class Vigil:
    """Passes these lines on.

    Args:
        tell: hears of every change, and an empty line when the wait is over: for a live table.
        note: hears now and then, ever more rarely: for a log.
    """

    def __init__(self, tell: Callable[[str], None], note: Callable[[str], None]) -> None:
        self._tell, self._note = tell, note
        self._told, self._since, self._due_s = "", 0.0, _FIRST_S

    def look(self, words: str, now: float) -> None:
        """What is waited for now; empty for nothing."""
        if words and not self._told:
            self._since, self._due_s = now, _FIRST_S
        if words != self._told:
            self._told = words
            self._tell(words)
        if words and now - self._since >= self._due_s:
            self._due_s += min(self._due_s, _MOST_S)
            self._note(words)
