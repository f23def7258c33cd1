from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saddlebag.launch.groupwise.data.stream import build_stream
from saddlebag.launch.groupwise.intervals import intervals_of
from saddlebag.launch.groupwise.parallel import learn_in_blocks, learn_recipe
from saddlebag.launch.groupwise.recipe import load_groupwise, make_algorithm

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "launch" / "recipes" / "groupwise_synthetic.toml"
SETS = ["data.rounds=3000", "mixing.charge=played", "mixing.clip=true", "intervals.targets=[0.9]", "intervals.score=scaled"]
SETS += ["calibration.step=0.02"]


def test_blocks_know_the_prior() -> None:
    sets = [*SETS[1:3], "data.rounds=500"]
    found = [learn_recipe(RECIPE, [*sets, *more], longest=32) for more in ((), ("mixing.prior.circle=50.0",))]
    bounds = [{row["group"]: row["bound"] for row in values["groups"]} for values in found if values is not None]
    assert bounds[1]["circle"] < 0.8 * bounds[0]["circle"]
    assert bounds[1]["square"] > bounds[0]["square"]


def test_ranks_that_add_their_sums_learn_what_one_learns() -> None:
    """Three ranks as threads that meet at every block."""
    recipe, _ = load_groupwise(RECIPE, SETS)
    stream = build_stream(recipe)
    algorithm = make_algorithm(recipe, len(stream.features), len(stream.groups))
    assert recipe.calibration is not None
    intervals, calibration = intervals_of(recipe, stream), recipe.calibration.rule()
    states: list[Any]
    meet, shared, states = threading.Barrier(3), [np.empty(0)] * 3, [None, None, None]

    def reduce(vector: Any, largest: float, rank: int) -> tuple[Any, float]:
        shared[rank] = np.append(vector, largest)
        meet.wait(60)
        total, most = sum(each[:-1] for each in shared), max(float(each[-1]) for each in shared)
        meet.wait(60)
        return total, most

    def learn(rank: int) -> None:
        states[rank] = learn_in_blocks(
            algorithm,
            stream,
            32,
            rank=rank,
            ranks=3,
            reduce=lambda vector, largest: reduce(vector, largest, rank),
            intervals=intervals,
            calibration=calibration,
        )

    threads = [threading.Thread(target=learn, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    alone, alone_covered, alone_cells = learn_in_blocks(algorithm, stream, 32, intervals=intervals, calibration=calibration)
    assert alone_covered is not None
    assert alone_cells is not None
    for learned in states:
        assert learned is not None
        state, covered, cells = learned
        for name in ("excess_GB", "count_GB", "room"):
            np.testing.assert_allclose(getattr(cells, name), getattr(alone_cells, name), rtol=1e-9, atol=1e-9)
        assert np.abs(cells.excess_GB).max() > 0.1
        for name in ("excess_MG", "base_MG", "average_MG", "size"):
            ours, theirs = (getattr(each.thresholds, name) for each in (covered, alone_covered))
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(covered.width_MG, alone_covered.width_MG, rtol=1e-9)
        assert state.ledger.rounds == alone.ledger.rounds == 3000
        np.testing.assert_allclose(state.ledger.regret_E, alone.ledger.regret_E, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(state.learner.theta_GD, alone.learner.theta_GD, rtol=1e-9, atol=1e-9)


@pytest.mark.e2e
@pytest.mark.timeout(240)
def test_torchrun_equals_one_process(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    module = ["-m", "saddlebag", "groupwise", "blocks", str(RECIPE), "--block", "64", "--json"]
    module += [part for each in SETS for part in ("--set", each)]
    run = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True, "timeout": 200}
    alone = subprocess.run([sys.executable, *module], check=True, **run)  # type: ignore[call-overload]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    together = subprocess.run([*torchrun, *module], check=True, **run)  # type: ignore[call-overload]
    first, second = json.loads(alone.stdout), json.loads(together.stdout)
    for ours, theirs in zip(second["coverage"], first["coverage"], strict=True):
        assert (ours["held"], ours["width"]) == pytest.approx((theirs["held"], theirs["width"]), rel=1e-9)
        assert abs(ours["held"] - 0.9) < 0.1
    for ours, theirs in zip(second["calibration"], first["calibration"], strict=True):
        assert ours["levels"] == pytest.approx(theirs["levels"], abs=1e-9)
        assert 0 < ours["error"] < 0.1
    assert second["played"] == pytest.approx(first["played"], rel=1e-9)
    for ours, theirs in zip(second["groups"], first["groups"], strict=True):
        assert ours["group"] == theirs["group"]
        assert ours["loss"] <= ours["own_loss"] + ours["bound"]
        for key in ("rounds", "loss", "own_loss", "bound"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-9)
