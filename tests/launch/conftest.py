"""Ranks of a torch.distributed job as threads of one process, with gloo between them."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch.distributed as dist

_TIMEOUT_S = 30


@pytest.fixture
def on_ranks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[dist.ProcessGroup], Any]], list[Any]]:
    """Runs a body, given its process group, on so many ranks; returns what each returned, or the error it raised."""
    import torch.distributed

    dist: Any = torch.distributed  # it exports stores and groups that its types leave out
    monkeypatch.setitem(os.environ, "GLOO_SOCKET_IFNAME", "lo")

    def run_all(ranks: int, body: Callable[[dist.ProcessGroup], Any]) -> list[Any]:
        store = dist.HashStore()
        ends: list[Any] = [None] * ranks

        def run(rank: int) -> None:
            timeout = datetime.timedelta(seconds=_TIMEOUT_S)
            try:
                ends[rank] = body(dist.ProcessGroupGloo(dist.PrefixStore("job", store), rank, ranks, timeout))
            except Exception as error:
                ends[rank] = type(error)(str(error))  # without its frames: they would keep the connections open

        threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(ranks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * _TIMEOUT_S)
            assert not thread.is_alive(), "a rank hangs"
        return ends

    return run_all


@pytest.fixture
def browser(tmp_path: Path) -> Callable[[Path], str]:
    """A headless browser: gives the document of a page, as HTML, once its script has run."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("needs chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]

    def document(page: Path) -> str:
        command = [found, *flags, f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout

    return document
