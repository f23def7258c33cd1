"""Studies from recipes: streams, orders, published tables, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.groupwise.data.stream import build_stream
from saddlebag.launch.groupwise.data.synthetic import synthetic_columns
from saddlebag.launch.groupwise.recipe import GroupwiseRecipe, groupwise_from_dict, load_groupwise, make_algorithm, prior_of
from saddlebag.launch.groupwise.reports.report import summarise, verdict
from saddlebag.launch.groupwise.study import Study, run_study

RECIPES = Path(__file__).parents[3] / "launch" / "recipes"
SYNTHETIC = RECIPES / "groupwise_synthetic.toml"

# Acharya et al. 2024, synthetic study: T_g, and mean and deviation over shuffles of the single model's and the algorithm's
# regret, then the loss of the best model.
MEAN = {
    "circle": (49857, 15.25, 0.22, 0.73, 0.09, 23.57),
    "square": (30044, 15.43, 0.13, 0.63, 0.06, 14.12),
    "triangle": (20099, 12.13, 0.10, 0.76, 0.04, 9.43),
    "green": (59985, 10.02, 0.15, -14.13, 0.19, 38.81),
    "red": (40015, 14.75, 0.16, -1.80, 0.17, 26.37),
    "always_on": (100000, 0.76, 0.06, -39.93, 0.10, 89.18),
}
DPERM = {
    "circle": (49857, 28.84, 0.45, -38.63, 0.17, 77.14),
    "square": (30044, 92.10, 0.64, -0.28, 0.27, 54.87),
    "triangle": (20099, 12.03, 0.20, -15.15, 0.09, 30.67),
    "green": (59985, 75.89, 0.89, 1.31, 0.07, 28.95),
    "red": (40015, 112.49, 0.88, 0.04, 0.26, 78.32),
    "always_on": (100000, 1.26, 0.09, -185.77, 0.25, 294.39),
}


def small(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """A recipe for a small file, as a table."""
    rng = np.random.default_rng(0)
    path = tmp_path / "small.csv"
    values = zip(rng.random(80), rng.choice(["u", "v", "w"], 80), rng.random(80), strict=True)
    rows = [f"{a:.3f},{kind},{y:.4f}" for a, kind, y in values]
    path.write_text("\n".join(["a,kind,y", *rows]))
    table: dict[str, Any] = {
        "shuffles": [1, 2, 3],
        "data": {"source": str(path)},
        "features": {"numeric": ["a"], "one_hot": ["kind"], "groups": ["low"]},
        "label": {"column": "y"},
        "groups": {"low": "a < 0.4", "u": 'kind == "u"'},
    }
    for key, value in changes.items():
        table[key] = {**table[key], **value} if isinstance(value, dict) and key in table else value
    return table


def published(study: Study, table: dict[str, tuple[float, ...]], groups: tuple[str, ...]) -> None:
    """Compare with a published table, which has two decimals."""
    for g, name in enumerate(groups):
        rounds, single, single_sd, ours, ours_sd, best = table[name]
        assert study.rounds_SG[0, g] == rounds
        for values_S, mean, sd in (
            (study.single_SG[:, g] - study.best_SG[:, g], single, single_sd),
            (study.ours_SG[:, g] - study.best_SG[:, g], ours, ours_sd),
        ):
            assert abs(values_S.mean() - mean) <= 0.0061  # half of the last digit, and rounding at weights that switch off
            assert abs(values_S.std() - sd) <= 0.0061
        assert abs(study.best_SG[:, g].mean() - best) <= 0.0051


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "table"), [("mean", MEAN), ("dperm", DPERM)])
def test_the_published_synthetic_tables(rule: str, table: dict[str, tuple[float, ...]]) -> None:
    recipe, _ = load_groupwise(SYNTHETIC, [f"data.rule={rule}"])
    groups, study = run_study(recipe, processes=2)
    published(study, table, groups)
    assert (study.ours_SG - study.own_SG <= study.meta_bound_SG).all()
    assert (study.own_SG - study.best_SG <= study.learner_bound_SG + 1).all()  # `best` lacks the last round
    expected = {"mean": (89.94, 49.25, 47.18), "dperm": (295.65, 108.62, 106.54)}[rule]
    totals = (study.single_SG[:, -1].mean(), study.expected_S.mean(), study.played_S.mean())
    assert totals == pytest.approx(expected, abs=0.0061)


def test_the_synthetic_stream_has_the_published_groups() -> None:
    columns = synthetic_columns(100_000, "mean")
    counts = {}
    for key in ("shape", "colour"):
        names, number = np.unique(columns.values[key], return_counts=True)
        counts |= dict(zip(names.tolist(), number.tolist(), strict=True))
    assert counts == {name: MEAN[name][0] for name in counts}


def test_processes_and_orders_change_nothing(tmp_path: Path) -> None:
    recipe = groupwise_from_dict(small(tmp_path))
    groups, one = run_study(recipe)
    assert groups == ("low", "u", "always_on")
    _, two = run_study(recipe, processes=2)
    assert one.intervals is two.intervals is None
    for field in dataclasses.fields(Study):
        if field.name in ("intervals", "calibration"):
            continue
        values = [getattr(study, field.name) for study in (one, two)]
        if all(value is None for value in values):  # alarms, where the recipe asks for none
            continue
        assert np.allclose(*values, rtol=1e-12, atol=1e-12, equal_nan=True), (
            field.name
        )  # numpy sums 3 and 2 columns in another order


def test_a_study_keeps_its_bounds_and_adds_up(tmp_path: Path) -> None:
    _, study = run_study(groupwise_from_dict(small(tmp_path)))
    assert (study.ours_SG - study.own_SG <= study.meta_bound_SG + 1e-12).all()
    assert (study.own_SG - study.best_SG <= study.learner_bound_SG + 1e-9).all()
    assert np.allclose(study.ours_SG[:, -1], study.played_S)
    assert np.allclose(study.ours_curve_SGP[..., -1], study.ours_SG - study.best_SG, atol=1e-8)
    assert np.allclose(study.single_SG[:, -1], study.own_SG[:, -1])
    assert (study.slack <= 1e-12).all()


@pytest.mark.parametrize("mixer", ["ada_normal_hedge", "adapt_ml_prod", "solo", "specialists"])
@pytest.mark.parametrize("shadows", [False, True])
def test_every_mixer_runs_within_its_bound(tmp_path: Path, mixer: str, shadows: bool) -> None:
    recipe = groupwise_from_dict(small(tmp_path, mixer={"name": mixer}, mixing={"shadows": shadows, "prior": {"low": 3.0}}))
    _, study = run_study(recipe)
    assert (study.ours_SG - study.own_SG <= study.meta_bound_SG + 1e-12).all()


def test_probabilities_are_compared_with_the_best_logistic_model(tmp_path: Path) -> None:
    table = small(tmp_path, label={"column": "kind", "positive": "u"}, learner={"name": "logistic"}, mixing={"loss": "log"})
    table["groups"], table["features"] = {"low": "a < 0.4", "late": "round >= 40"}, {"numeric": ["a"], "intercept": True}
    groups, study = run_study(groupwise_from_dict(table))
    assert groups == ("low", "late", "always_on")
    assert (study.best_SG > 0).all()
    assert (study.best_SG[:, 0] + study.best_SG[:, 1] < study.rounds_SG[:, :2].sum(axis=1)).all()
    assert (study.own_SG >= study.best_SG - 1e-6).all()
    assert np.isnan(study.learner_bound_SG).all()
    assert (study.ours_SG - study.own_SG <= study.meta_bound_SG).all()
    assert np.allclose(study.ours_curve_SGP[..., -1], study.ours_SG - study.best_SG, atol=1e-8)


def test_under_the_log_loss_half_the_prior_and_the_shadows_are_the_single_models(tmp_path: Path) -> None:
    """So ours is within ln 2 of it on all rounds, whatever the number of groups."""
    table = small(tmp_path, label={"column": "kind", "positive": "u"}, learner={"name": "logistic"}, mixing={"loss": "log"})
    table["groups"], table["features"] = {"low": "a < 0.4", "late": "round >= 40"}, {"numeric": ["a"], "intercept": True}
    recipe = groupwise_from_dict(table)
    assert prior_of(recipe, ("low", "late", "always_on")).tolist() == [0.25, 0.25, 0.5]
    assert make_algorithm(recipe, 2, 3).shadows
    assert not make_algorithm(recipe, 2, 3, divided=True).shadows
    _, study = run_study(recipe)
    assert (study.played_S - study.single_SG[:, -1] <= math.log(2) + 1e-9).all()
    table["mixing"] |= {"shadows": False, "prior": {"always_on": 1.0}}
    plain = groupwise_from_dict(table)
    assert not make_algorithm(plain, 2, 3).shadows
    assert prior_of(plain, ("low", "late", "always_on")).tolist() == pytest.approx([1 / 3] * 3)


def test_memberships_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("\n".join(["soft,hard", *(f"{i / 79:.6f},{i % 2}" for i in range(80))]))
    table = small(tmp_path, data={"membership": str(tmp_path / "m.csv")})
    stream = build_stream(groupwise_from_dict(table))
    assert stream.groups == ("low", "u", "soft", "hard", "always_on")
    assert stream.awake_NG[:, 2].sum() == pytest.approx(40, abs=1e-3)
    _, study = run_study(groupwise_from_dict(table))
    assert (study.ours_SG - study.own_SG <= study.meta_bound_SG + 1e-12).all()
    assert study.rounds_SG[0].tolist()[3:] == [40, 80]


@pytest.mark.parametrize("learner", ["ridge", "vovk_azoury_warmuth"])
@pytest.mark.parametrize("clip", [True, False])
def test_the_bound_holds_for_a_group_of_many_small_memberships(tmp_path: Path, learner: str, clip: bool) -> None:
    """1,000 rounds of weight 0.001 and label 0, then 20 whole ones of label 1; in full, the former would drown the latter."""
    (tmp_path / "m.csv").write_text("g\n" + "0.001\n" * 1000 + "1\n" * 20)
    (tmp_path / "x.csv").write_text("x,y\n" + "1.0,0.0\n" * 1000 + "1.0,1.0\n" * 20)
    table = {
        "data": {"source": str(tmp_path / "x.csv"), "membership": str(tmp_path / "m.csv")},
        "features": {"numeric": ["x"], "scale": "none"},
        "label": {"column": "y", "scale": "none"},
        "learner": {"name": learner},
        "mixing": {"clip": clip},
    }
    _, study = run_study(groupwise_from_dict(table))
    assert (study.own_SG - study.best_SG <= study.learner_bound_SG + 1e-9).all()
    assert (study.ours_SG - study.own_SG <= study.meta_bound_SG + 1e-9).all()
    assert study.own_SG[0, 0] - study.best_SG[0, 0] < 3.0  # 18 before rounds counted in part


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": {"none": "a > 5"}}, "groups.none is empty: no row of small.csv belongs to it"),
        ({"groups": {"bad": "wage > 5"}}, "groups.bad = 'wage > 5': small.csv has no column 'wage'"),
        ({"groups": {"late": "y > 0.5"}}, "groups.late depends on the label 'y', unknown before the prediction"),
        ({"groups": {"always_on": "all"}}, "groups.always_on: the group of all rounds is always there"),
        ({"groups": {"n": 3}}, "groups.n must be an expression, got 3"),
        ({"features": {"numeric": ["kind"]}}, "features.numeric: column 'kind' of small.csv holds text"),
        ({"features": {"groups": ["x"]}}, "features.groups: no group 'x'; known: low, u"),
        ({"features": {"numerics": ["a"]}}, "features.numerics is no known key"),
        ({"label": {"column": "z"}}, "label.column: small.csv has no column 'z'"),
        ({"groups": {"u": "all"}, "label": {"column": "kind", "positive": "q"}}, "label.positive 'q' occurs nowhere"),
        ({"learner": {"name": "rigde"}}, "learner.name 'rigde' is no known learner; did you mean 'ridge'"),
        ({"learner": {"penalty": -1.0}}, "learner: penalty must be a positive number, got -1.0"),
        ({"mixer": {"name": "hedge"}}, "mixer.name 'hedge' is no known mixer"),
        ({"mixer": {"speed": 1.0}}, "mixer.speed is no known key"),
        ({"mixer": {"name": "specialists"}, "mixing": {"clip": False}}, "mixer: specialists need"),
        ({"mixing": {"interval": [1.0]}}, r"mixing.interval must be \[low, high\]"),
        ({"mixing": {"prior": {"loww": 1.0}}}, "mixing.prior: no group 'loww'; known: low, u, always_on"),
        ({"shuffles": 3}, "shuffles must be a list of seeds"),
        ({"shuffles": [-1]}, "shuffles must be a list of seeds"),
        ({"comparator": "most"}, "comparator must be 'all' or 'all_but_last'"),
        ({"extra": 1}, "extra is no known key"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_study(groupwise_from_dict(small(tmp_path, **changes)))


@pytest.mark.parametrize(("text", "message"), [("g\n1\n", "1 rows of memberships for 80"), ("g\n" + "2\n" * 80, "lie in")])
def test_bad_memberships_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        build_stream(groupwise_from_dict(small(tmp_path, data={"membership": str(tmp_path / "m.csv")})))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("groupwise_*.toml")), ids=lambda path: path.stem)
def test_the_recipes_of_the_repository_load(path: Path) -> None:
    recipe, _ = load_groupwise(path, [])
    assert isinstance(recipe, GroupwiseRecipe)
    make_algorithm(recipe, 3, len(recipe.groups) + 1)


def test_verdicts() -> None:
    single_S = np.array([10.0, 11, 12])
    assert verdict(single_S - 1, single_S) == "better"
    assert verdict(single_S + np.array([1, 1.1, 0.9]), single_S) == "worse"
    assert verdict(single_S + np.array([1, -1.2, 0.3]), single_S) == "no clear difference"
    assert verdict(single_S, single_S) == "no clear difference"


def test_broken_ranges_are_reported(tmp_path: Path) -> None:
    """Labels a hundred times too large for the declared range."""
    table = small(tmp_path, label={"scale": "none"}, mixing={"clip": False}, mixer={"loss_range": 1e-4})
    groups, study = run_study(groupwise_from_dict(table))
    alarms = summarise("t", groups, study, charge="played")["alarms"]
    assert any("invariant is broken" in alarm for alarm in alarms)


def test_min_and_max_take_the_labels_of_the_two_groups_apart() -> None:
    mean, least, most = (synthetic_columns(500, rule).values["label"] for rule in ("mean", "min", "max"))
    assert (least <= most).all()
    assert np.allclose((least + most) / 2.0, mean)
    assert (least < most).any()
