"""Tables of texts at a run's end: whole cells whatever a corpus holds, and the same in TensorBoard."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Verdict
from saddlebag.algorithms.capabilities import HasTexts
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.launch.results.outputs import Outputs
from saddlebag.launch.results.shown import write_texts

if TYPE_CHECKING:
    from pathlib import Path

TABLE: dict[str, Any] = {
    "workers": 2,
    "problem": {"name": "bilinear", "n": 2},
    "method": {"name": "extragradient", "step_size": "1/L"},
    "stop": {"max_rounds": 2},
    "output": {"tensorboard": True},
}


class Said(BilinearGame):
    """A game that says its first coordinate."""

    def texts(self, z_D: np.ndarray) -> dict[str, list[tuple[str, ...]]]:
        return {"said": [("a | b", "value"), ("x\ny `*_<i>", f"{z_D[0]:.1f}")]}


@dataclasses.dataclass(frozen=True)
class Replica:
    z_D: np.ndarray
    iteration: int = 0


def test_cells_stay_whole(tmp_path: Path) -> None:
    problem = Said(n=2, num_workers=2)
    text = write_texts(problem, np.full(4, 0.5), tmp_path / "deep" / "er")["said"]
    assert text == "| a \\| b | value |\n|---|---|\n| x y \\`\\*\\_\\<i\\> | 0.5 |\n"
    assert (tmp_path / "deep" / "er" / "said.md").read_text() == text
    assert not isinstance(BilinearGame(n=2, num_workers=2), HasTexts)


def test_they_come_at_the_end_and_in_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Outputs(recipe_from_dict(TABLE), Said(n=2, num_workers=2), tmp_path) as outputs:
        outputs.watch(1, Replica(np.full(4, 1.0)), Verdict({"error": 1.0}, None))
        assert not (tmp_path / "texts").exists()
        outputs.watch(2, Replica(np.full(4, 2.0)), Verdict({"error": 1.0}, "max_rounds"))
    text = (tmp_path / "texts" / "said.md").read_text()
    assert "| 2.0 |" in text
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (shown,) = events.Tensors("said")
    assert (shown.step, shown.tensor_proto.string_val[0].decode()) == (2, text)
    assert events.SummaryMetadata("said").plugin_data.plugin_name == "text"
