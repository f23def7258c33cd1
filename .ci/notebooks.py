"""Run notebooks as a reader would, and write what their cells show into them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat.v4
from nbclient import NotebookClient

_BOUND_S = 600


def run(path: Path) -> Any:
    """The notebook with its cells' outputs, run in an empty folder.

    Raises:
        CellExecutionError: a cell ends with an error.
    """
    book: Any = nbformat.v4.reads(path.read_text(encoding="utf-8"))  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"resources": {"metadata": {"path": folder}}, "record_timing": False}
        NotebookClient(book, timeout=_BOUND_S, kernel_name="python3", **options).execute()
    book.metadata.pop("language_info", None)  # the version of this Python
    return book


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(nbformat.v4.writes(run(Path(name))) + "\n", encoding="utf-8")  # type: ignore[no-untyped-call]
