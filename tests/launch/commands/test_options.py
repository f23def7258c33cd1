"""Options that commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.cli import cli, main
from saddlebag.launch.commands.groupwise import groupwise
from saddlebag.launch.commands.options import overrides, read_token


def test_a_path_starts_at_the_working_directory_and_a_bundled_sets_name_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert overrides(("seed=1",), None) == ["seed=1"]
    assert overrides((), "people.csv") == [f"data.source={tmp_path / 'people.csv'}"]
    assert overrides(("seed=1",), "digits") == ["seed=1", "data.source=digits"]


def test_the_token_comes_from_the_file_or_else_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SADDLEBAG_TOKEN", "env ")
    (tmp_path / "token").write_text("file\n")
    assert read_token(tmp_path / "token") == "file"
    assert read_token(None) == "env"
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        read_token(tmp_path / "token")


def test_every_command_with_a_recipe_reads_data_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of the working directory, also where one of that name lies beside the recipe."""
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []

    def refuse(table: object, assignment: str) -> None:
        seen.append(assignment)
        raise ConfigError("seen")

    monkeypatch.setattr("saddlebag.launch.recipe.toml.override", refuse)
    (tmp_path / "there").mkdir()
    for name in ("there/job.toml", "there/rows.csv", "rows.csv"):
        (tmp_path / name).touch()
    commands = {
        **cli.commands,
        **{f"groupwise {name}": command for name, command in groupwise.commands.items()},
    }
    asked = 0
    for name, command in commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        if {"recipe", "--data"} <= options:
            needed = ["--server", "localhost:1"] if "--server" in options else []
            needed += ["--rank", "0"] if "--rank" in options else []
            needed += ["--address", "127.0.0.1:0"] if "--address" in options else []
            with pytest.raises(SystemExit):
                main([*name.split(), "there/job.toml", "--data", "rows.csv", *needed])
            asked += 1
    assert seen == [f"data.source={tmp_path / 'rows.csv'}"] * asked
    assert asked >= 7


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device that never ends")
def test_a_token_is_not_read_for_ever() -> None:
    with pytest.raises(ConfigError, match="holds more than a token"):
        read_token(Path("/dev/zero"))
