"""Rows of plain values through a service: encoded as a study encodes its table, refused by name, the same after a restart."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.client.groupwise.requests import table_request, values_request
from saddlebag.client.groupwise.rows import columns_of
from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.launch.groupwise.data.stream import build_stream
from saddlebag.launch.groupwise.recipe import load_groupwise
from saddlebag.launch.groupwise.serving import make_parts
from saddlebag.proto.groupwise import join_columns, join_rows, numbers
from saddlebag.proto.v1 import groupwise_pb2 as pb
from saddlebag.server.groupwise.service import GroupwiseService

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """
[data]
source = "people.csv"
missing = ["?"]
[features]
numeric = ["age", "hours"]
one_hot = ["work"]
groups = ["young"]
intercept = true
[label]
column = "pay"
[groups]
young = "age <= 35"
"late and state" = 'round >= 3 and work == "State"'
"""
ROWS: list[dict[str, Any]] = [
    {"age": 30, "hours": 40.5, "work": "Private", "pay": 10.0, "name": "a"},
    {"age": 40, "hours": 10, "work": "State", "pay": 30.0, "name": "b"},
    {"age": 50, "hours": 20, "work": "Private", "pay": 20.0, "name": "c"},
    {"age": 20, "hours": 60, "work": "State", "pay": 50.0, "name": "d"},
    {"age": 35, "hours": 35, "work": "State", "pay": 15.0, "name": "e"},
]


def written(folder: Path, rows: Any = ROWS, recipe: str = RECIPE) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [",".join(ROWS[0]), *(",".join("" if value is None else str(value) for value in row.values()) for row in rows)]
    (folder / "people.csv").write_text("\n".join(lines) + "\n")
    (folder / "recipe.toml").write_text(recipe)
    return folder / "recipe.toml"


def served(recipe: Path, sets: Any = (), state: Path | None = None) -> GroupwiseService:
    core, encoder = make_parts(recipe, list(sets), max_rows=16, max_pending=16)
    return GroupwiseService(core, state, encoder=encoder)


def asked(service: GroupwiseService, rows: Any) -> pb.PredictReply:
    return service.predict(table_request(service.describe(), rows, True).SerializeToString())


@pytest.mark.parametrize("form", ["dictionaries", "columns", "arrow"])
def test_rows_of_any_form_are_encoded_as_the_study_encodes_its_table(tmp_path: Path, form: str) -> None:
    recipe = written(tmp_path / "data")
    stream = build_stream(load_groupwise(recipe, [])[0])
    plain, encoded = served(recipe), served(recipe)
    rows: Any = ROWS
    if form != "dictionaries":
        rows = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    if form == "arrow":
        rows = pytest.importorskip("pyarrow").table(rows)
    for _ in range(2):  # the second time the models know something
        first = asked(plain, rows)
        member_NG = stream.awake_NG > 0
        if first.first_ticket:
            member_NG = member_NG | np.outer([row["work"] == "State" for row in ROWS], [False, True, False])
        features, groups = join_rows(stream.x_ND, member_NG)
        other = encoded.predict(pb.PredictRequest(features=features, groups=groups, weights=True).SerializeToString())
        assert first.weights == other.weights
        np.testing.assert_array_equal(numbers(first.predictions), 10.0 + 40.0 * numbers(other.predictions))
        tickets = np.arange(first.first_ticket, first.first_ticket + 5)
        pay = [row["pay"] for row in ROWS]
        plain.feedback(values_request(plain.describe(), tickets, pay).SerializeToString())
        encoded.feedback(
            pb.FeedbackRequest(tickets=tickets.astype("<u8").tobytes(), labels=stream.y_N.tobytes()).SerializeToString()
        )
    ours, theirs = (service.core.capture()[0] for service in (plain, encoded))
    assert {name: array.tobytes() for name, array in ours.items()} == {name: a.tobytes() for name, a in theirs.items()}


def row_of(**changes: Any) -> list[dict[str, Any]]:
    return [ROWS[0], {**ROWS[1], **changes}]


@pytest.mark.parametrize(
    ("sets", "changes", "message"),
    [
        ([], {"age": None}, "groups.young compares column 'age', which has 1 missing values, the first in row 1"),
        ([], {"hours": None}, "column 'hours' has 1 missing values, the first in row 1"),
        ([], {"work": "Self"}, "column 'work' holds 'Self' in row 1, which the recipe's table does not have"),
        ([], {"work": None}, "column 'work' has 1 missing values, the first in row 1"),
        ([], {"work": "?"}, "column 'work' has 1 missing values, the first in row 1"),
        ([], {"hours": 1e300}, "column 'hours' holds 1e[+]300"),
        ([], {"hours": 1e9}, "feature 'hours' of row 1 is .* beyond its bound"),
    ],
)
def test_what_the_recipe_does_not_take_is_refused_by_column_and_row(
    tmp_path: Path, sets: list[str], changes: Any, message: str
) -> None:
    service = served(written(tmp_path / "data"), sets)
    with pytest.raises(RemoteProtocolError, match=message) as refused:
        asked(service, row_of(**changes))
    assert "\n" not in str(refused.value)
    assert service.core.tickets.next == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"age": "old"}, "column 'age' must hold numbers, got 'old' in row 1"),
        ({"work": 3}, "column 'work' must hold text, got 3 in row 1"),
        ({"hours": float("inf")}, "column 'hours' must be finite, got inf in row 1"),
    ],
)
def test_values_of_the_wrong_kind_are_refused_by_the_client(tmp_path: Path, changes: Any, message: str) -> None:
    service = served(written(tmp_path / "data"))
    with pytest.raises(ConfigError, match=message):
        asked(service, row_of(**changes))
    with pytest.raises(ConfigError, match="row 1 has no 'age'; a value that is not known is None"):
        asked(service, [ROWS[0], {"hours": 1, "work": "State"}])
    with pytest.raises(ConfigError, match="rows need column 'work'"):
        asked(service, {"age": [1], "hours": [2]})
    with pytest.raises(ConfigError, match="rows must be a list of dictionaries"):
        asked(service, 3)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"age": np.ones(2), "hours": np.ones(2), "work": np.ones(2)}, "column 'work' must hold text, got numbers"),
        ({"age": np.ones(2), "hours": np.array(["a", "b"])}, "column 'hours' must hold numbers, got text"),
        ({"age": np.ones(2), "hours": np.ones(2)}, "rows need column 'work'"),
        ({"age": np.ones(2), "hours": np.ones(3), "work": np.array(["a"])}, "columns must be of one length"),
        ({"years": np.ones(2)}, "column 'years' is not one of the row's columns"),
        ({"age": np.array([np.inf])}, "column 'age' must be finite"),
        ({"age": np.ones(0), "hours": np.ones(0), "work": np.array([], np.str_)}, "1 to 16 rows, got 0"),
        ({"age": np.ones(17), "hours": np.ones(17), "work": np.array(["State"] * 17)}, "1 to 16 rows, got 17"),
        ({"age": np.ones(1), "hours": np.ones(1), "work": np.array(["S" * 1001])}, "a text of 1001 characters, at most 1000"),
    ],
)
def test_the_server_checks_columns_again(tmp_path: Path, columns: Any, message: str) -> None:
    service = served(written(tmp_path / "data"))
    request = pb.PredictRequest(columns=join_columns(columns))
    with pytest.raises(RemoteProtocolError, match=message):
        service.predict(request.SerializeToString())
    request.features = b"x"
    with pytest.raises(RemoteProtocolError, match="either columns, or features"):
        service.predict(request.SerializeToString())


def test_missing_and_unknown_values_are_means_or_categories_by_recipe(tmp_path: Path) -> None:
    recipe = written(tmp_path / "data", [*ROWS, {**ROWS[0], "hours": None}])
    row = {"age": None, "hours": None, "work": "Self"}

    def encoded(**policy: str) -> dict[str, float]:
        core, encoder = make_parts(recipe, [f"features.{k}={v}" for k, v in policy.items()], max_rows=16, max_pending=16)
        x_ND, member_NG, _ = encoder.encode(columns_of([row], {"age": False, "hours": False, "work": True}), 0)
        assert member_NG.tolist() == [[False, False, True]]
        return dict(zip(core.settings.features, x_ND[0].tolist(), strict=True))

    ages, hours = [30, 40, 50, 20, 35, 30], [40.5, 10, 20, 60, 35]
    mean = encoded(missing="mean", unknown="mean")
    assert mean["age"] == pytest.approx((np.mean(ages) - 20) / 30)
    assert mean["hours"] == pytest.approx((np.mean(hours) - 10) / 50)
    assert (mean["work=Private"], mean["work=State"], mean["1"]) == (0.5, 0.5, 1.0)
    category = encoded(missing="category", unknown="category")
    assert category["age missing"] == category["hours missing"] == category["work=(other)"] == 1.0
    assert category["work="] == category["work=Private"] == category["work=State"] == 0.0
    assert category["hours"] == mean["hours"]
    row["work"] = ""
    assert encoded(missing="category", unknown="category")["work="] == 1.0


def test_constants_stay_as_they_were_when_a_service_resumes(tmp_path: Path) -> None:
    """More rows within the same ranges resume; what stands for a missing value is still the mean of then."""
    sets = ["features.missing=mean"]
    with_gap = [*ROWS, {**ROWS[0], "hours": None}]
    first = served(written(tmp_path / "data", with_gap), sets, tmp_path / "state")
    again = served(written(tmp_path / "data", [*with_gap, {**ROWS[0], "hours": 60}]), sets, tmp_path / "state")
    (old,), (new,) = (
        [fact["missing"] for fact in json.loads(service.describe().meaning)["features"] if fact["name"] == "hours"]
        for service in (first, again)
    )
    assert old == new == pytest.approx(np.mean([40.5, 10, 20, 60, 35]))
    assert again.encoder is not None
    assert next(fact["missing"] for fact in again.encoder.facts if fact["name"] == "hours") == old  # type: ignore[attr-defined]


def test_a_journal_of_plain_rows_resumes_with_every_bit(tmp_path: Path) -> None:
    recipe = written(tmp_path / "data")
    service = served(recipe, state=tmp_path / "state")
    for _ in range(3):
        first = asked(service, ROWS).first_ticket
        service.feedback(values_request(service.describe(), [first, first + 3], [12.0, 44.0]).SerializeToString())
    resumed = served(recipe, state=tmp_path / "state")
    ours, theirs = (each.core.capture()[0] for each in (service, resumed))
    assert {name: array.tobytes() for name, array in ours.items()} == {name: a.tobytes() for name, a in theirs.items()}


def test_labels_of_text_and_labels_of_another_column(tmp_path: Path) -> None:
    recipe = written(tmp_path / "data")
    service = served(
        recipe, ["label.column=work", 'label.positive="State"', "features.one_hot=[]", 'groups={young="age <= 35"}']
    )
    about = service.describe()
    assert (about.label.name, about.label.text) == ("work", True)
    asked(service, ROWS)
    request = values_request(about, [0, 1], ["State", "Private"])
    assert list(service.feedback(request.SerializeToString()).outcomes) == [1, 1]
    assert service.core.state.ledger.rounds == 2
    request.label.name = "name"
    with pytest.raises(RemoteProtocolError, match="labels are values of the column 'work', got 'name'"):
        service.feedback(request.SerializeToString())
    with pytest.raises(RemoteProtocolError, match="label 'work' has 1 missing values"):
        service.feedback(values_request(about, [2], [None]).SerializeToString())


def test_groups_of_a_membership_file_are_columns_of_zero_and_one(tmp_path: Path) -> None:
    recipe = written(tmp_path / "data", recipe=RECIPE.replace("[features]", 'membership = "members.csv"\n[features]'))
    (tmp_path / "data" / "members.csv").write_text("east\n1\n0\n1\n1\n0\n")
    service = served(recipe)
    assert {column.name: column.text for column in service.describe().columns}["east"] is False
    assert asked(service, [{**ROWS[0], "east": True}]).first_ticket == 0
    with pytest.raises(RemoteProtocolError, match=r"groups\.east: column 'east' must hold 0 and 1"):
        asked(service, [{**ROWS[0], "east": 0.5}])


def test_shares_of_the_groups_encode_their_own_memberships(tmp_path: Path) -> None:
    recipe = written(tmp_path / "data")
    whole = make_parts(recipe, ["mixer.name=ada_normal_hedge"], max_rows=16, max_pending=16)[1]
    shares = [make_parts(recipe, [], max_rows=16, max_pending=16, shard=s, shards=2)[1] for s in range(2)]
    kinds = {name: kind == "text" for name, kind in whole.columns.items()}
    encoded = [encoder.encode(columns_of(ROWS, kinds), 0) for encoder in (whole, *shares)]
    np.testing.assert_array_equal(encoded[0][1], np.hstack([member_NG for _, member_NG, _ in encoded[1:]]))
    for x_ND, _, _ in encoded[1:]:
        np.testing.assert_array_equal(encoded[0][0], x_ND)  # "in young" on every share


def test_many_texts_are_refused_before_they_take_the_room_of_the_longest(tmp_path: Path) -> None:
    """A million texts, one of them of a thousand characters, would be an array of 4 GB."""
    service = served(
        written(tmp_path / "data"),
        ["label.column=work", 'label.positive="State"', "features.one_hot=[]", 'groups={young="age <= 35"}'],
    )
    many = pb.Column(name="work", texts=["", "S" * 1000, *[""] * 999_998])
    with pytest.raises(RemoteProtocolError, match="1 to 16 rows, got 1000000"):
        service.predict(pb.PredictRequest(columns=[many]).SerializeToString())
    with pytest.raises(RemoteProtocolError, match="1 to 16 rows, got 1000000"):
        service.feedback(pb.FeedbackRequest(tickets=bytes(8), label=many).SerializeToString())
