"""What a person sees of a run inside Flower: one line a round, and a table at its end.

Every line begins with the same words, so that it can be found between Flower's own in a log.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.serverapp.strategy import Strategy

from saddlebag.flower.compression.ledger import Ledger, serialised_bytes
from saddlebag.flower.compression.strategy import Compressed
from saddlebag.launch.results.progress import Pace
from saddlebag.launch.results.progress import Progress as Done

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Result

    from saddlebag.algorithms import Record
    from saddlebag.algorithms.simulate import Stop

__all__ = ["Progress", "RecordLines", "Tail", "facts_table", "log_and_file"]

MARK = "saddlebag: round "
"""What every line of progress begins with."""
_SHOWN = 4  # numbers of a line: it is read in passing
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def _log(text: str) -> None:
    logging.getLogger("flwr").info("%s", text)


def log_and_file(path: str) -> Callable[[str], None]:
    """Writes lines into Flower's log, and at the end of a file if one is named."""

    def write(text: str) -> None:
        _log(text)
        if path:
            with Path(path).open("a") as file:
                file.write(text + "\n")

    return write


class Tail:
    """The lines of a file that grows, each once.

    Args:
        path: of the file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0

    def fresh(self) -> list[str]:
        """The complete lines since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode().splitlines()


class Progress(Strategy):
    """Writes a line after each round of a strategy: clients, loss and accuracy where known, bytes so far, seconds, time left.

    Args:
        strategy: any, `Compressed` for example; what it does is not changed.
        write: takes the lines; Flower's log by default.

    Example:
        >>> from flwr.serverapp.strategy import FedAvg
        >>> strategy = Progress(FedAvg(), write=print)
        >>> strategy.strategy.__class__.__name__
        'FedAvg'
    """

    def __init__(self, strategy: Strategy, *, write: Callable[[str], None] = _log) -> None:
        self.strategy, self._write = strategy, write
        self._own = Ledger()
        self._facts: dict[str, Any] = {}
        self._asked = self._answered = 0

    @property
    def ledger(self) -> Ledger:
        """Bytes so far, in both directions: the strategy's own count if it has one."""
        return self.strategy.ledger if isinstance(self.strategy, Compressed) else self._own

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """As any strategy's, with a line after each round."""
        begin_s = time.monotonic()

        def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            found = evaluate_fn(server_round, arrays) if evaluate_fn else None
            if server_round:
                seconds = time.monotonic() - begin_s
                self._facts = {**(found or {}), **self._facts}
                left_s = seconds / server_round * (num_rounds - server_round)
                clients = f"{self._answered} of {self._asked} clients"
                text = progress_line(
                    f"{server_round} of {num_rounds}", clients, self._facts, self.ledger.up, self.ledger.down, seconds, left_s
                )
                self._write(text)
            self._facts, self._asked, self._answered = {}, 0, 0
            return found

        return super().start(grid, initial_arrays, num_rounds, timeout, train_config, evaluate_config, evaluate)

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The strategy's."""
        messages = self._sent(self.strategy.configure_train(server_round, arrays, config, grid))
        self._asked = len(messages)
        return messages

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The strategy's."""
        return self._sent(self.strategy.configure_evaluate(server_round, arrays, config, grid))

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The strategy's."""
        received = self._received(replies)
        self._answered = sum(reply.has_content() for reply in received)
        arrays, metrics = self.strategy.aggregate_train(server_round, received)
        if isinstance(self.strategy, Compressed):
            self._answered = self.strategy.heard
        self._facts |= metrics or {}
        return arrays, metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The strategy's."""
        metrics = self.strategy.aggregate_evaluate(server_round, self._received(replies))
        self._facts |= metrics or {}
        return metrics

    def summary(self) -> None:
        """The strategy's."""
        self.strategy.summary()

    def _sent(self, messages: Iterable[Message]) -> list[Message]:
        sent, known = list(messages), dict[str, tuple[int, list[str]]]()
        if self.ledger is self._own:
            self._own.down += sum(serialised_bytes(message.content, known) for message in sent)
        return sent

    def _received(self, replies: Iterable[Message]) -> list[Message]:
        received = list(replies)
        if self.ledger is self._own:
            self._own.up += sum(serialised_bytes(reply.content) for reply in received if reply.has_content())
        return received


class RecordLines:
    """Writes a line for each record of a method's history, for `observe` of `MethodStrategy` and `run_session`.

    Args:
        stop: of the recipe.
        num_workers: clients that take part.
        write: takes the lines; Flower's log by default.
        clock: in seconds.
    """

    def __init__(
        self, stop: Stop, num_workers: int, write: Callable[[str], None] = _log, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stop, self._workers, self._write, self._clock = stop, num_workers, write, clock
        self._begin_s, self._pace = clock(), Pace(clock)

    def __call__(self, record: Record) -> None:
        """Write the record's line."""
        now_s = self._clock() - self._begin_s
        merit, sent = next(iter(record.merits.values()), None), (record.up_bytes + record.down_bytes) / self._workers
        self._pace.tell(Done(record.round, record.iteration), merit, sent)
        left_s = self._pace.left_s(self._stop)
        limit = self._stop.max_rounds
        which = f"{record.round}" if limit is None else f"{record.round} of at most {limit}"
        clients = f"{self._workers} clients"
        self._write(progress_line(which, clients, record.merits, record.up_bytes, record.down_bytes, now_s, left_s))


def progress_line(
    which: str, clients: str, facts: Mapping[str, Any], up: int, down: int, seconds: float, left_s: float | None
) -> str:
    """One line of progress.

    Args:
        which: the round, and of how many.
        clients: how many answered.
        facts: numbers by name, of which the first few are shown; byte counts have their own place.
        up: bytes so far from the clients.
        down: bytes so far to them.
        seconds: since the start.
        left_s: until the end, where one can tell.

    Example:
        >>> progress_line("3 of 10", "4 of 4 clients", {"accuracy": 0.61333}, 16038, 87705, 6.0, 14.0)
        'saddlebag: round 3 of 10, 4 of 4 clients, accuracy 0.6133, up 16 kB, down 87.7 kB, 6.0 s, 14 s left'
    """
    shown = [(name, value) for name, value in facts.items() if isinstance(value, int | float) and not name.endswith("-bytes")]
    parts = [clients, *(f"{name} {value:.4g}" for name, value in shown[:_SHOWN])]
    parts += [f"up {_bytes(up)}", f"down {_bytes(down)}", _seconds(seconds)]
    if left_s is not None and left_s > 0:
        parts.append(f"{_seconds(left_s, whole=True)} left")
    return f"{MARK}{which}, {', '.join(parts)}"


def facts_table(facts: Mapping[str, Any]) -> str:
    """A run's results as lines of a name and a value; bytes in their units, vectors left out.

    Example:
        >>> print(facts_table({"accuracy": 0.61333, "up_bytes": 16038, "z": [0.0, 1.0]}))
        accuracy  0.6133
        up_bytes  16 kB
    """
    shown = {name: _value(name, value) for name, value in facts.items() if not isinstance(value, list | dict)}
    width = max(map(len, shown), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in shown.items())


def _value(name: str, value: Any) -> str:
    if name.endswith("bytes") and isinstance(value, int):
        return _bytes(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _bytes(count: float) -> str:
    for size, unit in _UNITS:
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def _seconds(seconds: float, *, whole: bool = False) -> str:
    if seconds >= 60:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    return f"{seconds:.0f} s" if whole else f"{seconds:.1f} s"
