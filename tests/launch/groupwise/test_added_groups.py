"""Groups that join a running service: late labels of before, shadows, intervals, calibration, restarts; and what is refused."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.client.groupwise import GroupwiseClient
from saddlebag.client.groupwise.requests import predicted, table_request, values_request
from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.launch.groupwise.serving import make_parts
from saddlebag.proto.endpoint import ServerSecurity
from saddlebag.proto.v1 import groupwise_pb2 as pb
from saddlebag.server.groupwise.service import GroupwiseService
from saddlebag.server.groupwise.shell import GroupwiseShell

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """
[data]
source = "rows.csv"
[features]
numeric = ["x"]
intercept = true
[label]
column = "y"
[groups]
low = "x < 0.5"
odd = 'kind == "odd"'
[intervals]
targets = [0.9]
[calibration]
bins = 4
"""
ROWS = [{"x": (7 * i % 20) / 20, "kind": "odd" if i % 3 else "even"} for i in range(60)]
LABELS = [0.3 + 0.4 * row["x"] + (0.2 if row["kind"] == "even" else 0.0) for row in ROWS]  # type: ignore[operator]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = [f"{row['x']:.2f},{row['kind']},{y:.4f}" for row, y in zip(ROWS, LABELS, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["x,kind,y", *rows]) + "\n")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


def served(recipe: Path, state: Path | None = None, sets: Any = (), **options: Any) -> GroupwiseService:
    core, encoder = make_parts(recipe, list(sets), max_rows=64, max_pending=1000)
    return GroupwiseService(core, state, encoder=encoder, **options)


def grow(service: GroupwiseService, prior: float = 0.0, **rules: str) -> pb.AddGroupsReply:
    groups = [pb.NewGroup(name=name, rule=rule, prior=prior) for name, rule in rules.items()]
    return service.add_groups(pb.AddGroupsRequest(groups=groups).SerializeToString())


def ask(service: GroupwiseService, rows: Any) -> Any:
    return predicted(service.predict(table_request(service.describe(), rows, True).SerializeToString()))


def tell(service: GroupwiseService, tickets: Any, labels: Any) -> None:
    outcomes = service.feedback(values_request(service.describe(), tickets, labels).SerializeToString()).outcomes
    assert outcomes == bytes([1] * len(labels))


@pytest.mark.parametrize("mixer", ["specialists", "ada_normal_hedge"])
@pytest.mark.parametrize("shadows", ["false", "true"])
def test_a_group_that_joins_learns_its_rounds_and_survives_restarts(
    recipe: Path, tmp_path: Path, mixer: str, shadows: str
) -> None:
    sets = [f"mixing.shadows={shadows}", f"mixer.name={mixer}"]
    whole, killed = served(recipe, sets=sets), served(recipe, tmp_path / "state", sets, checkpoint_every=7)
    plain = served(recipe, sets=sets)  # nobody joins
    late, answers = [], {}
    for i, (row, label) in enumerate(zip(ROWS, LABELS, strict=True)):
        for service in (whole, killed, plain):
            if i == 30 and service is not plain:
                assert grow(service, even='kind == "even"', top="x >= 0.8").groups == 5
            answers[id(service)] = ask(service, [row])
        assert np.array_equal(answers[id(whole)].weight_NE, answers[id(killed)].weight_NE)
        assert np.array_equal(answers[id(whole)].low_NM, answers[id(killed)].low_NM)
        late.append((answers[id(whole)].ticket_N[0], label))
        if i > 2 and i % 2:  # labels are three rounds late, also those of predictions from before
            for service in (whole, killed, plain):
                tell(service, [late[0][0], late[1][0]], [late[0][1], late[1][1]])
            del late[:2]
        if i in (20, 31, 45):
            killed = served(recipe, tmp_path / "state", sets, checkpoint_every=7)  # nobody has said goodbye
            answers[id(killed)] = None
    for name in ("theta_GD", "inverse_GDD", "count_G"):
        found, expected, before = (getattr(each.core.state.learner, name) for each in (killed, whole, plain))
        assert np.array_equal(found, expected), name
        assert found[:3] == pytest.approx(before, abs=1e-9), name  # a learner of before knows nothing of the new
    assert killed.report() == whole.report()
    rounds = {expert.name: expert.rounds for expert in whole.report().experts}
    told = [row for i, row in enumerate(ROWS) if i >= 30][: 30 - len(late)]
    assert rounds["even"] == sum(row["kind"] == "even" for row in told) > 0
    assert rounds["top"] == sum(row["x"] >= 0.8 for row in told) > 0  # type: ignore[operator]
    assert len(rounds) == (9 if shadows == "true" else 5)
    about = whole.describe()
    assert list(about.groups) == ["low", "odd", "always_on", "even", "top"]
    assert {each.group for each in whole.report().coverage} == set(about.groups)
    assert {each.group for each in whole.report().calibrated} == set(about.groups)
    assert not whole.report().alarms


@pytest.mark.parametrize(
    ("rules", "prior", "message"),
    [
        ({"low": "x < 0.1"}, 0.0, "a new group needs a name of its own, of 1 to 200 characters, got 'low'"),
        ({"a" * 201: "x < 0.1"}, 0.0, "a new group needs a name of its own"),
        ({}, 0.0, "1 to 1000 groups join a service, got 0"),
        ({"new": ""}, 0.0, "group 'new': this server needs its rule"),
        ({"new": "x <"}, 0.0, r"groups\.new = 'x <'"),
        ({"new": "y < 0.5"}, 0.0, r"groups\.new depends on the label 'y'"),
        ({"new": "height < 0.5"}, 0.0, r"groups\.new: the table has no column 'height'; it has x, kind, y"),
        ({"new": "kind < 0.5"}, 0.0, r"groups\.new"),
        ({"new": "x < 0.1"}, -1.0, r"the prior of group 'good' must lie in \(0, 1\], got -1\.0"),
        ({"new": "x < 0.1"}, float("nan"), "the prior of group 'good' must lie"),
    ],
)
def test_what_cannot_join_is_refused_and_nothing_has_joined(
    recipe: Path, tmp_path: Path, rules: dict[str, str], prior: float, message: str
) -> None:
    service = served(recipe, tmp_path / "state")
    with pytest.raises(RemoteProtocolError, match=message):
        grow(service, prior, good="x < 0.9", **rules) if rules else grow(service)
    assert list(service.describe().groups) == ["low", "odd", "always_on"]
    assert list(served(recipe, tmp_path / "state").describe().groups) == ["low", "odd", "always_on"]


def test_a_watched_service_takes_no_more(recipe: Path) -> None:
    with pytest.raises(RemoteProtocolError, match=r"a service with \[alarms\] takes no more groups"):
        grow(served(recipe, sets=['alarms.kinds=["features"]']), new="x < 0.1")


def test_a_client_adds_a_group_with_the_secret_and_clients_of_before_are_told(recipe: Path) -> None:
    service, found, ready = served(recipe), dict[str, Any](), threading.Event()

    async def run() -> None:
        shell = GroupwiseShell(service, token="secret")
        found["port"], found["loop"], found["stop"] = (
            await shell.start("127.0.0.1:0", ServerSecurity()),
            asyncio.get_running_loop(),
            shell.stop,
        )
        ready.set()
        await shell.run()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(60)
    address = f"127.0.0.1:{found['port']}"
    try:
        with pytest.raises(ConfigError, match="server's secret"):
            GroupwiseClient(address, token="guess")
        with GroupwiseClient(address, token="secret") as client, GroupwiseClient(address, token="secret") as old:
            client.add_groups({"even": 'kind == "even"'}, prior=0.5)
            assert list(client.about.groups) == ["low", "odd", "always_on", "even"]
            assert client.predict_table(ROWS[:3], weights=True).weight_NE.shape == (3, 4)  # type: ignore[union-attr]
            with pytest.raises(RemoteProtocolError, match="rows need 4 groups, got 3"):
                old.predict(np.zeros((1, 2)), np.ones((1, 3), bool))
    finally:
        found["loop"].call_soon_threadsafe(found["stop"])
        thread.join(60)
