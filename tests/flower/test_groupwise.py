from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")
from flwr.app import Array
from flwr.clientapp import ClientApp

from saddlebag.algorithms.groupwise import (
    AdaNormalHedge,
    Calibration,
    Groupwise,
    Intervals,
    Ridge,
    Scorer,
    SquaredLoss,
    Thresholds,
    block_sums,
    merge_block,
)
from saddlebag.compression import Draws
from saddlebag.errors import DataError, NotFiniteError, PeerLost, RemoteProtocolError
from saddlebag.flower import GroupwiseFederation, InProcessGrid, add_groupwise

D, G, CLIENTS, ROWS = 3, 4, 5, 6


def algorithm() -> Groupwise:
    mixer = AdaNormalHedge(loss_range=float(CLIENTS * ROWS))
    return Groupwise(learner=Ridge(dimension=D), mixer=mixer, loss=SquaredLoss(), interval=(0.0, 1.0))


def rows(client: int, block: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng([client, block])
    x_ND, awake_NG = rng.random((ROWS, D)), (rng.random((ROWS, G)) < 0.5) * 1.0
    return x_ND, np.clip(x_ND.mean(axis=1) + 0.2 * awake_NG[:, 1], 0, 1), awake_NG


def app_of() -> ClientApp:
    app = ClientApp()
    add_groupwise(app, algorithm(), G, lambda context, block: rows(int(context.node_config["partition-id"]), block))
    return app


def test_sums_of_clients_make_the_block_of_one_machine_with_all_rows() -> None:
    federation, grid = GroupwiseFederation(algorithm(), G), InProcessGrid(app_of(), CLIENTS)
    alone = algorithm().init(G)
    for block in range(15):
        metrics = federation.round(grid, list(grid.get_node_ids()))
        assert (metrics["clients"], metrics["rows"]) == (CLIENTS, CLIENTS * ROWS)
        whole: Any = (np.concatenate(part) for part in zip(*(rows(client, block) for client in range(CLIENTS)), strict=True))
        alone = merge_block(algorithm(), alone, block_sums(algorithm(), alone, *whole, lambda row: Draws(0, row)))
    np.testing.assert_allclose(federation.state.learner.theta_GD, alone.learner.theta_GD, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(federation.state.ledger.regret_E, alone.ledger.regret_E, rtol=1e-9, atol=1e-12)
    assert federation.algorithm.alarms(federation.state) == ()


def test_intervals_and_calibration_of_clients_are_those_of_one_machine() -> None:
    rule = Thresholds(targets=(0.8, 0.9))
    intervals = Intervals(rule=rule, scorer=Scorer(name="scaled", dimension=D, targets=rule.targets), labels=(0.0, 1.0))
    calibration, app = Calibration(bins=5, step=0.02), ClientApp()
    add_groupwise(
        app,
        algorithm(),
        G,
        lambda context, block: rows(int(context.node_config["partition-id"]), block),
        intervals=intervals,
        calibration=calibration,
    )
    federation = GroupwiseFederation(algorithm(), G, intervals=intervals, calibration=calibration)
    grid = InProcessGrid(app, CLIENTS)
    alone, covered, cells = algorithm().init(G), intervals.init(G), calibration.init(G)
    for block in range(10):
        federation.round(grid, list(grid.get_node_ids()))
        whole: Any = (np.concatenate(part) for part in zip(*(rows(client, block) for client in range(CLIENTS)), strict=True))
        sums = block_sums(
            algorithm(),
            alone,
            *whole,
            lambda row: Draws(0, row),
            intervals=(intervals, covered),
            calibration=(calibration, cells),
        )
        alone, covered = merge_block(algorithm(), alone, sums), intervals.merge(covered, sums.intervals)
        cells = calibration.merge(cells, sums.calibration)
    assert federation.intervals_state is not None
    assert federation.calibration_state is not None
    for name in ("excess_GB", "count_GB", "room"):
        ours_G, theirs_G = getattr(federation.calibration_state, name), getattr(cells, name)
        np.testing.assert_allclose(ours_G, theirs_G, rtol=1e-9, atol=1e-9, err_msg=name)
    ours, theirs = (intervals.pack(state) for state in (federation.intervals_state, covered))
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-9, atol=1e-9, err_msg=name)


def test_only_sums_of_groups_leave_a_client() -> None:
    """What travels up is as long for 6 rows as for none: nothing of single rows is in it."""
    federation, grid = GroupwiseFederation(algorithm(), G), InProcessGrid(app_of(), CLIENTS)
    sent = []
    original = grid._reply
    grid._reply = lambda message: sent.append(original(message)) or sent[-1]  # type: ignore[method-assign, func-returns-value]
    federation.round(grid, list(grid.get_node_ids()))
    lengths = {len(reply.content.array_records["saddlebag.sums"]["sums"].data) for reply in sent}
    assert len(lengths) == 1
    assert min(lengths) - 128 <= 8 * (G * (D * D + D + 1) + 4 * G + 5)


def test_absent_clients_have_no_part_and_nobody_is_an_error() -> None:
    federation = GroupwiseFederation(algorithm(), G)
    grid = InProcessGrid(app_of(), CLIENTS, lost=lambda number, partition: partition == 1)
    assert federation.round(grid, list(grid.get_node_ids()))["clients"] == CLIENTS - 1
    with pytest.raises(PeerLost, match="none of 2"):
        federation.round(InProcessGrid(app_of(), 2, lost=lambda number, partition: True), [2, 3])


@pytest.mark.parametrize(("place", "value"), [("feature", 1e10), ("feature", np.nan), ("label", 5.0)])
def test_a_row_out_of_range_never_leaves_its_client(place: str, value: float) -> None:
    """What failed: its sums entered everybody's models."""

    def spoiled(context: Any, block: int) -> tuple[Any, Any, Any]:
        x_ND, y_N, awake_NG = rows(0, block)
        if place == "feature":
            x_ND[2, 1] = value
        else:
            y_N[2] = value
        return x_ND, y_N, awake_NG

    app, federation = ClientApp(), GroupwiseFederation(algorithm(), G)
    add_groupwise(app, algorithm(), G, spoiled)
    grid, before = InProcessGrid(app, 1), federation.state
    with pytest.raises((DataError, PeerLost), match=r"beyond its bound|must be in|none of 1"):
        federation.round(grid, list(grid.get_node_ids()))
    assert federation.state is before


def test_sums_too_large_for_the_state_are_refused_and_it_stays() -> None:
    federation, grid = GroupwiseFederation(algorithm(), G), InProcessGrid(app_of(), 1)
    before, original = federation.state, grid._reply

    def forge(message: Any) -> Any:
        reply = original(message)
        record = reply.content.array_records["saddlebag.sums"]
        record["sums"] = Array(np.full(len(record["sums"].numpy()), 1e300))
        return reply

    grid._reply = forge  # type: ignore[method-assign]
    with pytest.raises(NotFiniteError, match=r"nothing was learned|cannot be booked"):
        federation.round(grid, list(grid.get_node_ids()))
    assert federation.state is before


def test_malformed_sums_are_refused() -> None:
    federation, grid = GroupwiseFederation(algorithm(), G), InProcessGrid(app_of(), 1)
    original = grid._reply

    def forge(message: Any) -> Any:
        reply = original(message)
        reply.content.array_records["saddlebag.sums"]["sums"] = Array(np.full(7, np.nan))
        return reply

    grid._reply = forge  # type: ignore[method-assign]
    with pytest.raises(RemoteProtocolError, match="finite numbers"):
        federation.round(grid, [2])
