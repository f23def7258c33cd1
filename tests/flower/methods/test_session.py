"""A session whose server fails ends at once with the reason, not when the time for the whole run is over."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytest.importorskip("flwr", reason="Flower is an extra")

from saddlebag.errors import SaddlebagError
from saddlebag.flower.methods.session import run_session
from saddlebag.launch.recipe.recipe import recipe_from_dict

RECIPE = {
    "workers": 1,
    "problem": {"name": "bilinear", "n": 4, "regularisation": 0.5},
    "method": {"name": "extragradient", "step_size": "1/L"},
    "stop": {"max_rounds": 6, "every": 2},
}


class Grid:
    """Flower's, with no client."""

    def get_node_ids(self) -> list[int]:
        return []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("boom")], ids=["full", "defect"])
def test_a_server_that_fails_ends_the_session(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr("saddlebag.server.core.ServerCore.tick", fail)
    begin = time.monotonic()
    with pytest.raises(SaddlebagError, match=r"No space left on device|RuntimeError: boom"):
        run_session(Grid(), recipe_from_dict(RECIPE), timeout=60.0)  # type: ignore[arg-type]
    assert time.monotonic() - begin < 30
