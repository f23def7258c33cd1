"""Intervals of a service: those of the study, tickets and late labels, restarts, shares of the groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms.groupwise.coverage.offered import join_notes
from saddlebag.client.groupwise.requests import table_request, values_request
from saddlebag.errors import RemoteProtocolError
from saddlebag.launch.groupwise.data.stream import build_stream
from saddlebag.launch.groupwise.recipe import load_groupwise
from saddlebag.launch.groupwise.reports.report import summarise_recipe
from saddlebag.launch.groupwise.serving import make_parts
from saddlebag.launch.groupwise.study import stream_study
from saddlebag.proto.groupwise import join_labels, join_rows, numbers
from saddlebag.proto.v1 import groupwise_pb2 as pb
from saddlebag.server.groupwise.service import GroupwiseService

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
loud = 'loud == "yes"'
low = "x < 0.5"
[intervals]
targets = [0.8, 0.9]
"""
SCORES = ["absolute", "scaled", "quantile"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    loud_N, x_N = rng.random(120) < 0.3, rng.random(120)
    y_N = 0.3 + 0.4 * x_N + rng.normal(size=120) * np.where(loud_N, 0.15, 0.03)
    rows = [
        f"{x:.4f},{'yes' if d else 'no'},{10 + 40 * y:.4f},{28 + 4 * x:.4f}" for x, d, y in zip(x_N, loud_N, y_N, strict=True)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["x,loud,y,mine", *rows]) + "\n")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


def rows_of(recipe: Path) -> list[dict[str, Any]]:
    header, *lines = (recipe.parent / "rows.csv").read_text().split()
    names = header.split(",")
    return [{k: v if k == "loud" else float(v) for k, v in zip(names, line.split(","), strict=True)} for line in lines]


def served(recipe: Path, sets: Any = (), state: Path | None = None, **share: int) -> GroupwiseService:
    core, encoder = make_parts(recipe, list(sets), max_rows=64, max_pending=1000, **share)
    return GroupwiseService(core, state, encoder=encoder)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("prediction", ["", "mine"])
def test_a_service_that_is_told_each_label_gives_the_studys_intervals(recipe: Path, score: str, prediction: str) -> None:
    sets = [f"intervals.score={score}", f'intervals.prediction="{prediction}"']
    loaded, _ = load_groupwise(recipe, sets)
    stream, study = stream_study(loaded)
    expected = summarise_recipe(loaded, "t", stream, study)["intervals"]["groups"]
    service = served(recipe, sets)
    about = service.describe()
    assert list(about.targets) == [0.8, 0.9]
    for row in rows_of(recipe):
        reply = service.predict(table_request(about, [row], False).SerializeToString())
        low, high = numbers(reply.low), numbers(reply.high)
        assert (low >= stream.meaning["label"]["low"] - 1e-9).all()  # in units of the label
        assert (high <= stream.meaning["label"]["high"] + 1e-9).all()
        service.feedback(values_request(about, [reply.first_ticket], [row["y"]]).SerializeToString())
    found = service.report().coverage
    assert len(found) == len(expected) == 6
    unit = float(stream.meaning["label"]["high"]) - float(stream.meaning["label"]["low"])
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.group, ours.target) == (theirs["group"], theirs["target"])
        assert ours.held == pytest.approx(theirs["coverage"]["mean"], abs=1e-9)
        assert ours.width * unit == pytest.approx(theirs["width"]["mean"], rel=1e-9)
        assert ours.bound == pytest.approx(min(1.0, theirs["bound"]["mean"]), rel=1e-9)


def calls(recipe: Path, seed: int) -> list[tuple[str, bytes]]:
    """Batches, and labels late, twice, and out of order."""
    stream, rng, made = build_stream(load_groupwise(recipe, [])[0]), np.random.default_rng(seed), []
    given: list[int] = []
    for start in range(0, 120, 8):
        row_N = np.arange(start, start + 8)
        features, groups = join_rows(stream.x_ND[row_N], stream.awake_NG[row_N] > 0)
        made.append(("predict", pb.PredictRequest(features=features, groups=groups).SerializeToString()))
        given += row_N.tolist()
        ticket_N = rng.choice(given, 7)
        tickets, labels = join_labels(ticket_N, stream.y_N[ticket_N])
        made.append(("feedback", pb.FeedbackRequest(tickets=tickets, labels=labels).SerializeToString()))
    return made


@pytest.mark.parametrize("score", SCORES)
def test_a_service_that_was_killed_has_every_bit_and_counts_what_it_gave_out(recipe: Path, score: str, tmp_path: Path) -> None:
    sets = [f"intervals.score={score}"]
    whole, service = served(recipe, sets), served(recipe, sets, tmp_path / "state")
    stream = build_stream(load_groupwise(recipe, [])[0])
    ends: list[Any] = []
    missed_MG, rounds_G, seen = np.zeros((2, 3)), np.zeros(3), set()
    for number, (kind, raw) in enumerate(calls(recipe, 3)):
        reply, other = getattr(whole, kind)(raw), getattr(service, kind)(raw)
        assert reply == other
        if kind == "predict":
            ends += zip(numbers(reply.low).reshape(-1, 2), numbers(reply.high).reshape(-1, 2), strict=True)
        else:
            for ticket in np.frombuffer(pb.FeedbackRequest.FromString(raw).tickets, "<u8").tolist():
                if ticket not in seen:
                    low_M, high_M = ends[ticket]
                    y = stream.y_N[ticket]
                    missed_MG += ((y < low_M) | (y > high_M))[:, None] * stream.awake_NG[ticket]
                    rounds_G += stream.awake_NG[ticket]
                seen.add(ticket)
        if number == 11:
            service.checkpoint()
        if number in (7, 13, 20):
            service = served(recipe, sets, tmp_path / "state")
    ours, theirs = (each.core.capture()[0] for each in (whole, service))
    assert {name: array.tobytes() for name, array in ours.items()} == {name: a.tobytes() for name, a in theirs.items()}
    held_MG = 1.0 - missed_MG / rounds_G
    assert [each.held for each in service.report().coverage] == pytest.approx(held_MG.ravel().tolist(), abs=1e-9)


@pytest.mark.parametrize("score", SCORES)
def test_shares_of_the_groups_cover_as_one_server_does(recipe: Path, score: str) -> None:
    sets = [f"intervals.score={score}", "mixer.name=ada_normal_hedge"]
    whole = served(recipe, sets)
    shares = [served(recipe, sets, shard=s, shards=2) for s in range(2)]
    rows = rows_of(recipe)
    for start in range(0, 120, 6):
        request = table_request(whole.describe(), rows[start : start + 6], False)
        offer = whole.core.offer(*whole._rows(whole._encoded(request)))
        first, block = offer.first, offer.block
        partial = [share.partial(request.SerializeToString()) for share in shares]
        joined_NK = join_notes(np.stack([numbers(part.notes).reshape(6, -1) for part in partial]), block.value_N)
        pay_N = np.array([row["y"] for row in rows[start : start + 6]])[::-1]
        ticket_N = np.arange(first, first + 6)[::-1]
        for share in shares:
            told = values_request(whole.describe(), ticket_N, pay_N)
            told.played, told.notes = block.value_N[::-1].tobytes(), np.ascontiguousarray(joined_NK[::-1]).tobytes()
            assert set(share.feedback(told.SerializeToString()).outcomes) == {1}
        whole.feedback(values_request(whole.describe(), ticket_N, pay_N).SerializeToString())
    found = {(each.group, each.target): each for share in shares for each in share.report().coverage}
    for each in whole.report().coverage:
        other = found[each.group, each.target]
        assert (other.held, other.width, other.rounds) == pytest.approx((each.held, each.width, each.rounds), rel=1e-9)


def test_thresholds_and_predictions_of_ones_own_come_where_they_belong(recipe: Path) -> None:
    plain, mine = served(recipe), served(recipe, ["intervals.prediction=mine"])
    features, groups = join_rows([[0.5, 1.0]], [[True, True, True]])
    request = pb.PredictRequest(features=features, groups=groups)
    with pytest.raises(RemoteProtocolError, match=r"1 rows need as many finite predictions of your own .*got 0"):
        mine.predict(request.SerializeToString())
    request.given = np.array([0.5]).tobytes()
    assert len(mine.predict(request.SerializeToString()).low) == 16
    with pytest.raises(RemoteProtocolError, match=r"names no column intervals\.prediction"):
        plain.predict(request.SerializeToString())
    tickets, labels = join_labels([0], [0.5])
    told = pb.FeedbackRequest(tickets=tickets, labels=labels, notes=np.ones(12).tobytes())
    with pytest.raises(RemoteProtocolError, match="notes come with the labels of a shard"):
        mine.feedback(told.SerializeToString())
    share = served(recipe, ["mixer.name=ada_normal_hedge"], shard=0, shards=2)
    for notes in (b"", np.ones(2).tobytes(), np.full(12, np.nan).tobytes(), np.zeros(12).tobytes(), b"123"):
        told = pb.FeedbackRequest(tickets=tickets, labels=labels, played=labels, notes=notes)
        with pytest.raises(RemoteProtocolError, match=r"notes come with|finite numbers each|no float64"):
            share.feedback(told.SerializeToString())
