"""What anybody could have done: a constant and the best fixed model, and what the study says in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.groupwise.recipe import groupwise_from_dict, make_algorithm
from saddlebag.launch.groupwise.reports.report import summarise_recipe
from saddlebag.launch.groupwise.reports.rivals import plain_words
from saddlebag.launch.groupwise.study import stream_study

if TYPE_CHECKING:
    from pathlib import Path

    from saddlebag.launch.groupwise.recipe import GroupwiseRecipe

RIVALS = {"loss": 2.0, "single_loss": 4.0, "constant_loss": 5.0, "fixed_loss": 4.0}


def recipe_of(tmp_path: Path, *, signal: float = 1.0, **tables: Any) -> GroupwiseRecipe:
    """A recipe for 300 rows; without a signal nothing can be learned but the mean."""
    rng = np.random.default_rng(0)
    x_N, side_N = rng.random(300), rng.random(300) < 0.5
    y_N = (rng.random(300) < 0.5 + signal * 0.45 * np.where(side_N, 1, -1) * (2 * x_N - 1)).astype(int)
    path = tmp_path / "rows.csv"
    path.write_text(
        "\n".join(["x,side,y", *(f"{x:.4f},{'a' if s else 'b'},{y}" for x, s, y in zip(x_N, side_N, y_N, strict=True))])
    )
    table: dict[str, Any] = {
        "data": {"source": str(path)},
        "features": {"numeric": ["x"], "intercept": True},
        "label": {"column": "y"},
        "groups": {"a": 'side == "a"', "b": 'side == "b"'},
        "shuffles": [1, 2, 3],
    }
    return groupwise_from_dict({**table, **tables})


def values_of(recipe: GroupwiseRecipe) -> dict[str, Any]:
    stream, study = stream_study(recipe)
    return summarise_recipe(recipe, "t", stream, study)


def test_the_constant_is_the_mean_and_the_fixed_model_the_least_squares(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    stream, _ = stream_study(recipe)
    rows = values_of(recipe)["groups"]
    member_N = stream.awake_NG[:, 0] > 0
    assert rows[0]["constant_loss"]["mean"] == pytest.approx(((stream.y_N - stream.y_N.mean()) ** 2)[member_N].sum())
    theta_D = np.linalg.lstsq(stream.x_ND, stream.y_N)[0]
    assert rows[0]["fixed_loss"]["mean"] == pytest.approx(((stream.y_N - stream.x_ND @ theta_D) ** 2)[member_N].sum())
    assert rows[-1]["fixed_loss"]["mean"] <= rows[-1]["constant_loss"]["mean"]


def test_shares_are_of_the_second_that_is_named() -> None:
    row = {"group": "all", "verdict": "better", "rounds": 10.0}
    row |= {key: {"mean": loss, "sd": 0.0} for key, loss in RIVALS.items()}
    said = plain_words({"groups": [{**row, "group": "a"}, row]})
    assert said[0] == (
        "Over all rounds ours loses 50.0% less than the single model, and 60.0% less than guessing the average every time."
    )
    assert said[-1].endswith("would have lost 100.0% more than ours.")


@pytest.mark.parametrize("loss", ["squared", "log"])
def test_groups_with_models_of_their_own_are_told_to_be_better_off(tmp_path: Path, loss: str) -> None:
    learner = {"name": "logistic" if loss == "log" else "ridge"}
    values = values_of(recipe_of(tmp_path, mixing={"loss": loss}, learner=learner))
    assert "Of 2 groups 2 are better off than under the single model, 0 worse (none)" in values["plain_words"][1]
    assert "less than guessing the average" in values["plain_words"][0]
    assert not any("Do not use" in sentence for sentence in values["plain_words"])


def test_predictions_that_lose_to_the_average_are_named(tmp_path: Path) -> None:
    values = values_of(recipe_of(tmp_path, signal=0.0, features={"numeric": ["x"], "intercept": True}))
    said = " ".join(values["plain_words"])
    beaten = [row["group"] for row in values["groups"] if row["loss"]["mean"] > row["constant_loss"]["mean"] * 1.001]
    assert beaten
    assert f"better in: {', '.join(beaten)}. Do not use these predictions there." in said


@pytest.mark.parametrize(
    ("tables", "divided", "name"),
    [
        ({}, False, "Specialists"),
        ({"mixing": {"loss": "log"}}, False, "Specialists"),
        ({}, True, "AdaNormalHedge"),
        ({"mixing": {"charge": "expected"}}, False, "AdaNormalHedge"),
        ({"mixing": {"clip": False}}, False, "AdaNormalHedge"),
        ({"mixer": {"loss_range": 2.0}}, False, "AdaNormalHedge"),
        ({"mixer": {"rate": 0.1}}, False, "Specialists"),
        ({"mixer": {"name": "solo"}}, False, "Solo"),
    ],
)
def test_a_mixer_that_is_left_open_is_chosen_by_the_loss(tmp_path: Path, tables: Any, divided: bool, name: str) -> None:
    algorithm = make_algorithm(recipe_of(tmp_path, **tables), 2, 3, divided=divided)
    assert type(algorithm.mixer).__name__ == name


def test_calibrated_probabilities_are_told_beside_the_others(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, calibration={"bins": 5, "step": 0.02})
    stream, study = stream_study(recipe, processes=2)
    values = summarise_recipe(recipe, "t", stream, study)["calibration"]
    row = values["groups"][0]
    assert values["bins"] == 5
    assert [row["group"] for row in values["groups"]] == list(stream.groups)
    levels = row["calibrated_levels"]
    assert sum(levels["rounds"]) == pytest.approx(stream.awake_NG[:, 0].sum())
    gap = sum(n * abs(o - p) for n, p, o in zip(levels["rounds"], levels["predicted"], levels["observed"], strict=True))
    assert gap / sum(levels["rounds"]) <= row["calibrated_error"]["mean"] + 1e-9  # levels are joined over the orders
    with pytest.raises(ConfigError, match="calibration: labels must be probabilities"):
        make_algorithm(recipe_of(tmp_path, calibration={}, label={"column": "y", "interval": [0.0, 2.0]}), 2, 3)
