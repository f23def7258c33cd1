"""Noise of the server's own: of the law that is promised, on the grid, and in every replica alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import saddlebag as sb
from saddlebag.compression import Mean
from saddlebag.errors import ConfigError
from saddlebag.server.effects import ServerSettings
from saddlebag.server.noising import noised

KEYS: dict[str, Any] = {"up": "nearest_int8", "down": "nearest_int8", "common_range": 127.0, "level_clip": 500.0}


def test_the_noise_of_a_mean_is_whole_numbers_of_one_sigma_on_the_grid() -> None:
    game = sb.make_problem("quadratic", n=20, workers=3, seed=3)
    method = sb.make_method("compressed_sgd", game, step_size=1.0, momentum=0.0, **KEYS)
    replica = method.init_replica(game.start())
    size, rounds = len(game.start()), 150
    drawn = [noised((Mean(size, np.zeros(size)),), method, replica, 40.0, 4)[0].dense() for _ in range(2 * rounds)]
    one, other = np.concatenate(drawn[:rounds]), np.concatenate(drawn[rounds:])
    level_D = one * 4 / method.common_grid(replica).scale
    assert np.array_equal(level_D, np.rint(level_D))
    assert abs(level_D.std() / 40.0 - 1) < 6 / np.sqrt(2 * len(one))
    assert abs(np.corrcoef(one, other)[0, 1]) < 6 / np.sqrt(len(one))
    fixed = noised((Mean(size, np.ones(size)),), method, replica, 40.0, 4, lambda count: b"\x80" * count)[0].dense()
    assert np.unique(fixed).shape == (1,)


def test_noise_needs_a_grid_that_all_share() -> None:
    game = sb.make_problem("quadratic", n=4, workers=3, seed=3)
    method = sb.make_method("compressed_sgd", game, step_size=1.0, up="nearest_int8", down="nearest_int8")
    with pytest.raises(ConfigError, match="no whole numbers on one grid"):
        noised((Mean(4, np.zeros(4)),), method, method.init_replica(game.start()), 40.0, 3)


@pytest.mark.parametrize("ways", [{"quorum": 2}, {"contributions": True}, {"shards": 2}, {"weights": "samples"}])
def test_settings_under_which_nothing_is_promised_are_refused(ways: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"server\.noise is for the plain mean"):
        ServerSettings(num_workers=3, seed=0, noise=4.0, **ways)
