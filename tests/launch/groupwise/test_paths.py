from __future__ import annotations

import numpy as np
import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.groupwise.paths import GROUPS, paths_study


def test_leaders_of_groups_beat_the_leader_of_all_on_every_group() -> None:
    """In the mean over six runs of 1,500 rounds; and every bound holds."""
    values, study = paths_study(rounds=1500, seeds=6)
    assert [row["group"] for row in values["groups"]] == list(GROUPS)
    assert (study.ours_SG.mean(axis=0) < study.single_SG.mean(axis=0)).all()
    assert (study.ours_SG - study.own_SG <= study.meta_bound_SG).all()
    assert ((study.own_SG - study.best_SG).mean(axis=0) <= study.learner_bound_SG[0]).all()
    assert values["alarms"] == []
    assert study.rounds_SG[:, :3].sum() == study.rounds_SG[:, 3:5].sum() == 6 * 1500


def test_runs_repeat() -> None:
    (_, one), (_, two) = paths_study(side=3, rounds=40, seeds=2), paths_study(side=3, rounds=40, seeds=2)
    assert np.array_equal(one.ours_SG, two.ours_SG)
    assert not np.array_equal(one.ours_SG[0], one.ours_SG[1])


@pytest.mark.parametrize(("name", "value"), [("side", 1), ("rounds", 1), ("seeds", 0)])
def test_arguments_are_checked(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{name} must lie in"):
        paths_study(**{name: value})
