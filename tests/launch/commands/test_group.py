"""Manners of the command line."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click
import pytest

from saddlebag.errors import ConfigError
from saddlebag.launch.cli import cli, main
from saddlebag.launch.commands.group import COUNT
from saddlebag.launch.commands.groupwise import groupwise
from saddlebag.launch.recipe import plugins
from saddlebag.launch.recipe.plugins import Plugins, find

if TYPE_CHECKING:
    from pathlib import Path


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert isinstance(end.value.code, int)
    return end.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn"], "No such command 'runn'; did you mean 'run'?"),
        (["groupwise", "reprot"], "No such command 'reprot'; did you mean 'report'?"),
        (["inspect", "compresor"], "No such command 'compresor'; did you mean 'compressor'?"),
        (["frobnicate"], "No such command 'frobnicate'; known: advise, clean, "),
        (["list", "compressor"], "did you mean 'compressors'?"),
        (["run", "robust_logistic", "--driver", "gprc"], "did you mean 'grpc'?"),
        (["advise", "--dtype", "flot32"], "did you mean 'float32'?"),
        (["schema", "grupwise"], "did you mean 'groupwise'?"),
        (["run"], "Missing argument 'RECIPE'; Usage: saddlebag run [OPTIONS] RECIPE"),
        (
            ["inspect", "compressor", "top_k", "--d", "1.5"],
            "'1.5' must be a whole number of at least 1, such as 1000000, 1e6 or 10M",
        ),
        (["explain", "method.up.stepp"], "did you mean 'method.up.step'?"),
    ],
)
def test_an_error_suggests_what_was_meant(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, error = said(capsys, *arguments)
    assert (status, printed, error.count("\n")) == (2, "", 1)
    assert message in error


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), ("1e6", 10**6), ("10M", 10**7), ("1_000", 1000), ("1.5k", 1500), ("2G", 2 * 10**9)]
)
def test_counts_are_read_as_people_write_them(text: str, number: int) -> None:
    assert COUNT.convert(text, None, None) == number


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "1e30", "", "1e-3"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        COUNT.convert(text, None, None)


@pytest.mark.parametrize("command", [[], ["groupwise"]])
def test_no_summary_is_cut(command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    printed = said(capsys, *command, "--help")[1]
    shown = " ".join(printed.split())
    group = groupwise if command else cli
    for each in group.commands.values():
        summary = each.short_help or (each.callback.__doc__ or "").strip().partition("\n")[0] if each.callback else ""
        assert each.hidden or summary.rstrip(".") in shown
    assert "nursery" not in printed


def test_colours_can_be_left_out(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(cli, "main", lambda **given: seen.append(given["color"]))
    monkeypatch.delenv("NO_COLOR", raising=False)
    said(capsys, "list")
    monkeypatch.setenv("NO_COLOR", "1")
    said(capsys, "list")
    assert seen == [None, False]


def test_a_broken_plug_in_says_why_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    warning = "plug-in 'mine' (saddlebag.methods, from mine 1.0) is broken: ImportError: no torch"
    monkeypatch.setattr(plugins, "load_plugins", lambda: Plugins({}, (warning,)))
    with pytest.raises(ConfigError, match=r"method\.name: plug-in 'mine' .* is broken: ImportError: no torch"):
        find("methods", "mine", "method.name")
    with pytest.raises(ConfigError, match="is no known compressor"):
        find("compressors", "mine", "method.up.name")


def test_a_part_of_a_name_is_enough_for_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean 'compressed_adamw'"):
        find("methods", "adamw", "method.name")


def test_resuming_where_no_run_is_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "run",
        "bilinear",
        "--driver",
        "simulate",
        "--set",
        "stop={max_rounds=3}",
        "--set",
        "baseline=[]",
        "--out",
        tmp_path / "o",
    )
    assert "holds no run to continue: a new one begins" in " ".join(said(capsys, *arguments, "--resume")[2].split())
    assert "holds no run" not in said(capsys, *arguments, "--resume")[2]


def test_clean_removes_old_runs_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    month_ago = time.time() - 31 * 86_400
    for name, files in (
        ("old", ["recipe.toml", "result.json"]),
        ("young", ["recipe.toml", "result.json"]),
        ("thesis", ["result.json"]),
    ):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{}")
            if name != "young":
                os.utime(tmp_path / name / file, (month_ago, month_ago))
        if name != "young":
            os.utime(tmp_path / name, (month_ago, month_ago))
    status, printed, _ = said(capsys, "clean", tmp_path)
    assert status == 0
    assert printed.splitlines() == [f"old  {tmp_path / 'old'}  4 B, 31 days", "--yes removes them"]
    assert (tmp_path / "old").exists()
    said(capsys, "clean", tmp_path, "--yes")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis", "young"]
    said(capsys, "clean", tmp_path, "--yes", "--days", "0")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_the_report_of_a_services_folder_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "journal-0").touch()
    assert "holds the state of 'saddlebag groupwise serve', not a study" in said(capsys, "groupwise", "report", tmp_path)[2]
