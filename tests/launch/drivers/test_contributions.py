"""Scores of workers reach result.json where a recipe asks for them, and only there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saddlebag.launch.drivers.server import _result
from saddlebag.launch.drivers.simulated import run_simulated
from saddlebag.launch.job import Job
from saddlebag.launch.recipe.recipe import recipe_from_dict

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("mean", ["mean", "coordinate_median"])
def test_both_drivers_say_them_when_asked(tmp_path: Path, asked: bool, mean: str) -> None:
    recipe = recipe_from_dict(
        {
            "workers": 3,
            "driver": "simulate",
            "problem": {"name": "bilinear", "n": 4, "regularisation": 0.5},
            "method": {"name": "qsgda", "step_size": 0.1},
            "stop": {"max_rounds": 4},
            "server": {"contributions": asked, "mean": mean},
        }
    )
    result = run_simulated(recipe, tmp_path)
    job = Job.lead(recipe, "grpc")
    served = _result(job, job.server_core(0.0), {})
    assert ("contributions" in result) == ("contributions" in served) == asked
    if asked:
        assert len(result["contributions"]) == 3
        assert served["contributions"] == [0.0, 0.0, 0.0]
        if mean == "mean":
            assert sum(result["contributions"]) > 0  # squares of means
