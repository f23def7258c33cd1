"""TensorBoard events of a run (extra `tensorboard`): merits, bytes, saving, rounds a second, pictures, texts; without torch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError
from saddlebag.launch.results.scalars import Scalars

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from saddlebag.algorithms.simulate import Record

__all__ = ["Events", "require_tensorboard"]

_VERSION = "brain.Event:2"  # what readers of event files look for in the first record


def require_tensorboard() -> Any:
    """The module that writes event files.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        from tensorboard.summary.writer import event_file_writer
    except ImportError as error:
        raise ConfigError(
            f"output.tensorboard = true needs the extra: pip install 'saddlebag[tensorboard]' ({error})"
        ) from error
    return event_file_writer


class Events:
    """Appends to the event files of one folder; the step is the round.

    Args:
        folder: of the event files; TensorBoard's --logdir may be any folder above.
        dimension: D, for the saving against full vectors.
        workers: bytes are those of each worker.
        upto_round: a resumed run goes on after this round; what the folder has of later ones is purged by readers.

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(self, folder: Path, *, dimension: int, workers: int, upto_round: int = 0) -> None:
        writer = require_tensorboard()
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._event, self._scalars = Event, Scalars(dimension=dimension, workers=workers, upto_round=upto_round)
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = writer.EventFileWriter(str(folder))
        start = SessionLog(status=SessionLog.START)
        self._writer.add_event(Event(wall_time=time.time(), step=upto_round, file_version=_VERSION))
        self._writer.add_event(Event(wall_time=time.time(), step=upto_round + 1, session_log=start))

    def __enter__(self) -> Events:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.close()

    def record(self, record: Record, elapsed_s: float) -> None:
        """Append a record; `elapsed_s` counts from the begin of this process or of the run."""
        values = self._scalars.of(record, elapsed_s)
        self._add([{"tag": tag, "simple_value": value} for tag, value in values.items()], record.round)

    def pictures(self, pngs: Mapping[str, tuple[bytes, int, int]], round_: int) -> None:
        """Append images: for each name a PNG, its height and its width."""
        self._add(
            [
                {"tag": name, "image": {"height": height, "width": width, "colorspace": 1, "encoded_image_string": png}}
                for name, (png, height, width) in pngs.items()
            ],
            round_,
        )

    def texts(self, tables: Mapping[str, str], round_: int) -> None:
        """Append texts in Markdown."""
        kind = {"plugin_data": {"plugin_name": "text"}}
        self._add(
            [
                {"tag": name, "metadata": kind, "tensor": {"dtype": "DT_STRING", "string_val": [text.encode()]}}
                for name, text in tables.items()
            ],
            round_,
        )

    def _add(self, values: list[dict[str, Any]], round_: int) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=round_, summary={"value": values}))
        self._writer.flush()  # a process that is killed leaves what metrics.jsonl has
