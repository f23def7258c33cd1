"""Recipes that come with an installation."""

from __future__ import annotations

from pathlib import Path

import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.cli import main
from saddlebag.launch.compare.spec import load_comparison
from saddlebag.launch.groupwise.recipe import load_groupwise
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.launch.recipe.shipped import FOLDER, located, shipped

ROOT = Path(__file__).parents[3]
NAMES = [each.name for each in shipped()]


def test_the_repositorys_recipes_are_those_of_the_package() -> None:
    assert (ROOT / "launch" / "recipes").resolve() == FOLDER == ROOT / "saddlebag" / "recipes"
    assert {"robust_logistic", "groupwise_synthetic", "compare_bilinear"} <= set(NAMES)


@pytest.mark.parametrize("each", shipped(), ids=lambda each: each.name)
def test_every_recipe_says_what_it_is(each: object) -> None:
    values = vars(each)
    assert values["title"]
    assert values["needs"]
    assert values["takes"]


def test_a_name_is_a_recipe_for_every_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_recipe("robust_logistic").output.directory == "runs/robust_logistic"
    assert load_comparison(Path("compare_bilinear"))[1].reference == "ogda"
    assert load_groupwise(Path("groupwise_synthetic"), [])[0].title == "Groupwise regret, synthetic"


def test_a_file_goes_before_a_name_and_a_folder_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bilinear").mkdir()
    assert located("bilinear") == FOLDER / "bilinear.toml"
    (tmp_path / "bilinear").rmdir()
    (tmp_path / "bilinear").touch()
    assert located("bilinear") == Path("bilinear")


def test_a_name_that_is_none_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'robust_logistik' is neither a file nor .* did you mean 'robust_logistic'\?"):
        load_recipe("robust_logistik")


@pytest.mark.parametrize(
    ("command", "recipe", "message"),
    [
        (["run"], "groupwise_synthetic", "run it by 'saddlebag groupwise run groupwise_synthetic'"),
        (["compare"], "groupwise_adult", "run it by 'saddlebag groupwise run groupwise_adult'"),
        (["groupwise", "run"], "robust_logistic", "run it by 'saddlebag run robust_logistic'"),
        (["groupwise", "serve"], "compare_bilinear", "run it by 'saddlebag compare compare_bilinear'"),
        (["worker", "--rank", "0", "--server", "localhost:1"], "groupwise_medical", "is a groupwise recipe"),
    ],
)
def test_a_recipe_given_to_the_wrong_command_says_which_is_its(
    command: list[str], recipe: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*command, recipe])
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_new_copies_a_recipe_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "my.toml"
    with pytest.raises(SystemExit, match="0"):
        main(["new", "--from", "bilinear", str(mine)])
    assert mine.read_text() == (FOLDER / "bilinear.toml").read_text()
    mine.write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        main(["new", "--from", "bilinear", str(mine)])
    assert "exists; choose another name" in capsys.readouterr().err
    assert mine.read_text() == "mine"


def test_list_recipes_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["list", "recipes"])
    printed = capsys.readouterr().out
    assert all(f" {name}\n" in printed for name in NAMES)
    assert "kB up and" in printed  # the first recipe's figures


def test_data_of_a_groupwise_recipe_lie_beside_it_or_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "insurance.csv").touch()
    assert load_groupwise(Path("groupwise_medical"), [])[0].data.source == str(tmp_path / "insurance.csv")
