"""Downlinks of a site below another server: every P-th leads to the point from above."""

from __future__ import annotations

import numpy as np
import pytest

from saddlebag.algorithms.optimizers.local_rounds import LocalRounds
from saddlebag.algorithms.optimizers.site_rounds import corrected, led, site_rounds
from saddlebag.compression import SERVER, Draws, Mean
from saddlebag.compression.compressors.identity import Identity

D, PERIOD = 6, 3


@pytest.mark.parametrize("averaged", [0, 2])
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_every_third_round_leads_to_the_point_from_above(momentum: float, averaged: int) -> None:
    given = {"step_size": 0.7, "momentum": momentum, "averaged": averaged, "up": Identity(), "down": Identity()}
    plain = LocalRounds(**given)
    site = site_rounds(plain, PERIOD)
    rng = np.random.default_rng(0)
    replica = site.init_replica(rng.normal(size=D))
    server = site.init_server(replica)
    sizes = (D - averaged, averaged) if averaged else (D,)
    for round_ in range(2 * PERIOD):
        draws, mean_D = Draws(0, round_, SERVER), rng.normal(size=D)
        means = tuple(Mean(len(part), part) for part in np.split(mean_D, [D - averaged])[: len(sizes)])
        server, down = site.server_step(replica, server, means, draws)
        own = plain.replay(replica, down, draws)
        if round_ % PERIOD < PERIOD - 1:
            assert site.downlink_sizes(replica, draws) == sizes
            replica = site.replay(replica, down, draws)
            assert np.array_equal(replica.z_D, own.z_D)
            continue
        assert site.downlink_sizes(replica, draws) == (*sizes, D)
        assert np.array_equal(led(site, replica, down, draws), own.z_D)
        point_D = rng.normal(size=D)
        down = corrected(down, own.z_D, point_D)
        assert tuple(part.dimension for part in down.parts) == (*sizes, D)
        replica = site.replay(replica, down, draws)
        assert np.allclose(replica.z_D, point_D, rtol=0, atol=1e-6)
        if momentum:
            assert np.array_equal(replica.outer_D, own.outer_D), "the site's momentum stays"
