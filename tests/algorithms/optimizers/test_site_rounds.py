"""Downlinks of a site below another server: every P-th leads to the point from above."""

from __future__ import annotations

import numpy as np
import pytest

from saddlebag.algorithms.optimizers.local_rounds import LocalRounds
from saddlebag.algorithms.optimizers.site_rounds import corrected, led, site_rounds
from saddlebag.compression import SERVER, Draws, Mean, TopK
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
        own = plain.replay(replica.own, down, draws)
        if round_ % PERIOD < PERIOD - 1:
            assert site.downlink_sizes(replica, draws) == sizes
            replica = site.replay(replica, down, draws)
            assert np.array_equal(replica.z_D, own.z_D)
            continue
        assert site.downlink_sizes(replica, draws) == (*sizes, *sizes)
        assert np.array_equal(led(site, replica, down, draws), own.z_D)
        point_D = rng.normal(size=D)
        down = corrected(site, replica, down, point_D, draws)
        assert tuple(part.dimension for part in down.parts) == (*sizes, *sizes)
        replica = site.replay(replica, down, draws)
        assert np.allclose(replica.z_D, point_D, rtol=0, atol=1e-6)
        assert np.array_equal(replica.anchor_D, replica.z_D)
        if momentum:
            assert np.array_equal(replica.own.outer_D, own.outer_D), "the site's momentum stays"


def test_what_the_sites_compressor_leaves_out_comes_with_the_next_exchanges() -> None:
    """A point above that stays where it is: one coordinate an exchange, the largest first, until the site is there."""
    site = site_rounds(LocalRounds(step_size=1.0, up=Identity(), down=TopK(k=1)), 1)
    replica, point_D = site.init_replica(np.zeros(D)), np.array([1.0, -4.0, 2.0, 0.5, 8.0, -0.25])
    server, behind = site.init_server(replica), [np.abs(point_D).sum()]
    for round_ in range(D):
        draws = Draws(0, round_, SERVER)
        server, down = site.server_step(replica, server, (Mean(D, np.full(D, 3.0)),), draws)
        assert not np.array_equal(led(site, replica, down, draws), replica.z_D), "the site has a way of its own"
        replica = site.replay(replica, corrected(site, replica, down, point_D, draws), draws)
        behind.append(np.abs(point_D - replica.z_D).sum())
    assert behind == [15.75, 7.75, 3.75, 1.75, 0.75, 0.25, 0.0]
