from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise import (
    AdaNormalHedge,
    Calibration,
    Groupwise,
    Intervals,
    Ridge,
    Scorer,
    SquaredLoss,
    Thresholds,
)
from saddlebag.client.groupwise.client import GroupwiseClient
from saddlebag.client.groupwise.shards import ShardedClient
from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.proto.endpoint import ServerSecurity
from saddlebag.server.groupwise.core import GroupwiseCore, ServiceSettings
from saddlebag.server.groupwise.service import GroupwiseService
from saddlebag.server.groupwise.shell import GroupwiseShell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

D, G = 3, 7
GROUPS = tuple(f"g{g}" for g in range(G))


def core(start: int = 0, stop: int = G, shard: int = 0, shards: int = 1) -> GroupwiseCore:
    algorithm = Groupwise(
        learner=Ridge(dimension=D), mixer=AdaNormalHedge(), loss=SquaredLoss(), interval=(0.0, 1.0), default=0.5
    )
    rule = Thresholds(targets=(0.8, 0.9))
    intervals = Intervals(rule=rule, scorer=Scorer(name="scaled", dimension=D, targets=rule.targets), labels=(0.0, 1.0))
    settings = ServiceSettings(
        features=("a", "b", "c"),
        groups=GROUPS[start:stop],
        shard=shard,
        shards=shards,
        intervals=intervals,
        calibration=Calibration(bins=5, step=0.05),
    )
    return GroupwiseCore(algorithm, settings, np.full(stop - start, 1.0 / G))


@pytest.fixture
def addresses(tmp_path: Path) -> Iterator[list[str]]:
    """Three shards, all in one thread's loop."""
    ready, found, shells = threading.Event(), [], []

    async def serve() -> None:
        cuts = [(0, 2), (2, 3), (3, 7)]
        for shard, (start, stop) in enumerate(cuts):
            service = GroupwiseService(core(start, stop, shard, len(cuts)), tmp_path / str(shard))
            shells.append(GroupwiseShell(service))
            found.append(f"127.0.0.1:{await shells[-1].start('127.0.0.1:0', ServerSecurity())}")
        ready.set()
        await asyncio.gather(*(shell.run() for shell in shells))

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(20)
    yield found
    for shell in shells:
        loop.call_soon_threadsafe(shell.stop)
    thread.join(20)
    loop.close()


def test_shards_over_grpc_are_one_server(addresses: list[str]) -> None:
    whole, rng = core(), np.random.default_rng(0)
    with ShardedClient(addresses[::-1]) as client:
        assert client.groups == GROUPS
        for _ in range(25):
            x_ND, member_NG = rng.random((6, D)), rng.random((6, G)) < 0.4
            label_N = np.clip(x_ND.mean(axis=1) + 0.3 * member_NG[:, 4], 0, 1)
            offer = whole.offer(x_ND, member_NG)
            first, block, low_NM, high_NM = offer.first, offer.block, offer.low_NM, offer.high_NM
            predicted = client.predict(x_ND, member_NG)
            np.testing.assert_allclose(predicted.value_N, block.value_N, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(predicted.low_NM, low_NM, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(predicted.high_NM, high_NM, rtol=1e-9, atol=1e-9)
            assert predicted.calibrated_N is not None
            np.testing.assert_allclose(predicted.calibrated_N, offer.calibrated_N, rtol=1e-9, atol=1e-9)
            row_N = rng.permutation(6)[:4]
            assert client.feedback(predicted, row_N, label_N[row_N]).tolist() == [1] * 4
            whole.feedback(first + row_N, label_N[row_N])
        levels = {each.group: each for report in client.reports() for each in report.calibrated}
        for each in whole.levels():
            assert list(levels[each.group].rounds) == list(each.rounds)
            np.testing.assert_allclose(levels[each.group].error, each.error, rtol=1e-9, atol=1e-9)
        accounts = [account for report in client.reports() for account in report.experts]
        for ours, theirs in zip(accounts, whole.accounts(), strict=True):
            assert ours.name == theirs.name
            assert ours.regret == pytest.approx(theirs.regret, rel=1e-9, abs=1e-9)
            assert ours.regret <= theirs.bound <= ours.bound * (1 + 1e-9) or theirs.rounds == 0


def test_wrong_sets_of_shards_are_refused(addresses: list[str]) -> None:
    for some in (addresses[:2], [addresses[0]] * 3):
        with pytest.raises(ConfigError, match="every shard of one service once"):
            ShardedClient(some)
    with GroupwiseClient(addresses[0]) as client:
        rows: Any = (np.ones((1, D)), np.ones((1, 2), bool))
        with pytest.raises(RemoteProtocolError, match="ask for Partial"):
            client.predict(*rows)
        tickets, _, _ = client.partial(*rows)
        with pytest.raises(RemoteProtocolError, match="played values"):
            client.feedback(tickets, [0.5])
