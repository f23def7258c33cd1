"""The reference of recipes: complete, current, and what readers of recipes accept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.cli import main
from saddlebag.launch.recipe import toml
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.launch.recipe.shipped import FOLDER
from saddlebag.launch.reference.keys import MISSING, explained, keys
from saddlebag.launch.reference.page import reference_page
from saddlebag.launch.reference.schema import recipe_schema

PAGE = Path(__file__).parents[3] / "docs" / "recipes.md"
RECIPES = sorted(FOLDER.glob("*.toml"))


@pytest.mark.parametrize("kind", ["run", "groupwise"])
def test_every_key_has_a_meaning_and_a_type(kind: Any) -> None:
    for key in keys(kind, own=True):
        assert key.meaning, (key.path, key.of)
        assert key.noun != "a value", (key.path, key.of)


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference_page(), "run 'make recipes'"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_key_of_the_recipes_is_in_the_reference(path: Path) -> None:
    """What the strict readers accept, the reference knows."""
    known = {key.path for kind in ("run", "groupwise") for key in keys(kind)}  # type: ignore[arg-type]
    for table, value in toml.read(path).items():
        for below in value if isinstance(value, list) and isinstance(value[0], dict) else [value]:
            if table == "groups" or not isinstance(below, dict):
                assert table == "groups" or table in known
                continue
            for name in below:
                assert f"{table.replace('baseline', 'method')}.{name}" in known


@pytest.mark.parametrize(
    ("asked", "path", "of"),
    [
        ("method.up.step", "method.up.step", "grid"),
        ("method.down.step", "method.up.step", "grid"),
        ("baseline.1.up.step", "method.up.step", "grid"),
        ("baseline.0.probability", "method.probability", ""),
        ("method.up.values.levels", "method.up.levels", "dithering"),
        ("workers", "workers", ""),
        ("mixing.clip", "mixing.clip", ""),
        ("label", "label.column", ""),
        ("local_sgda", "method.local_steps", "local_sgda"),
    ],
)
def test_a_key_is_found_however_it_is_named(asked: str, path: str, of: str) -> None:
    assert (path, of) in {(key.path, key.of) for key in explained(asked)}


def test_a_key_that_is_none_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'stop\.merrit' is no key of a recipe; did you mean 'stop\.merit'"):
        explained("stop.merrit")


def test_defaults_are_those_of_the_reader() -> None:
    recipe = load_recipe(FOLDER / "bilinear.toml")
    for key in keys("run"):
        if key.table in ("checkpoint", "server"):
            assert key.default == vars(vars(recipe)[key.table])[key.name]
        assert (key.default is MISSING) == (key.usual == "must be given")


def test_explain_prints_type_default_meaning_and_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["explain", "checkpoint.every"])
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "checkpoint.every"
    assert "Rounds between checkpoints of all processes" in printed
    assert "a whole number; default: 200" in printed


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_schema_takes_every_recipe(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    kind: Any = "groupwise" if path.stem.startswith("groupwise") else "run"
    jsonschema.Draft202012Validator(recipe_schema(kind)).validate(toml.read(path))


@pytest.mark.parametrize(
    "assignment",
    [
        "methd=1",
        "workers=many",
        "method.up.name=randk",
        "method.up.fracton=0.1",
        "stop.every=often",
        "problem.sed=1",
        "server.on_lost=cry",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(assignment: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    table = toml.read(FOLDER / "bilinear.toml")
    toml.override(table, assignment)
    with pytest.raises(ConfigError):
        load_recipe(FOLDER / "bilinear.toml", [assignment])
    assert not jsonschema.Draft202012Validator(recipe_schema("run")).is_valid(table)


def test_schema_is_printed_for_both_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("run", "groupwise"):
        with pytest.raises(SystemExit, match="0"):
            main(["schema", kind])
        assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(recipe_schema(kind)))  # type: ignore[arg-type]
