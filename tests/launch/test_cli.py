"""The command line: what it writes, what it refuses, and that refusing costs one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.launch import cli, running
from saddlebag.launch.commands import doctor
from saddlebag.launch.drivers import simulated
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.proto.token import rank_token
from saddlebag.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for path in (ROOT / "launch" / "recipes").glob("*.toml") if not path.name.startswith("groupwise_"))
RECIPE = """
title = "Small game"
workers = 3
driver = "simulate"
[problem]
name = "bilinear"
n = 5
regularisation = 0.5
[method]
name = "masha1"
step_size = "0.3/L"
probability = 0.3
up = {name = "rand_k", k = 4}
down = {name = "natural"}
[[baseline]]
name = "extragradient"
step_size = "1/L"
[stop]
merit = 1e-4
every = 3
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def saddlebag(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run a command line; returns the exit status and what it wrote."""
    monkeypatch.delenv("SADDLEBAG_TRACEBACK", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            cli.main([str(argument) for argument in arguments])
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, *capsys.readouterr()

    return run


# -- run -----------------------------------------------------------------------------------------------------------------


def test_run_writes_everything(saddlebag: Any, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, printed, _ = saddlebag("run", recipe, "--out", out)
    assert status == 0
    lines = printed.splitlines()
    at = next(number for number, line in enumerate(lines) if "against" in line)
    head, row = lines[at], lines[at + 2]
    assert head.split()[:4] == ["masha1", "against", "to", "relative_error"]
    assert row.split()[:2] == ["extragradient", "1.0e-04"]
    assert (out / "plot.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    summary = json.loads((out / "result.json").read_text())
    assert [job["label"] for job in summary["jobs"]] == ["masha1", "extragradient"]
    (saving,) = summary["savings"]
    assert saving["baseline"] == "extragradient"
    main, baseline = (job["at_target"] for job in summary["jobs"])
    assert saving["up"] == baseline["up_bytes"] / main["up_bytes"]
    for label in ("masha1", "extragradient"):
        lines = [json.loads(line) for line in (out / label / "metrics.jsonl").read_text().splitlines()]
        assert list(lines[0]) == ["round", "iteration", "merits", "up_bytes", "down_bytes", "elapsed_s"]
        result = json.loads((out / label / "result.json").read_text())
        assert (result["reason"], result["target"], result["merit"]) == ("merit", 1e-4, "relative_error")
        assert (result["up_bytes"], result["merits"]) == (lines[-1]["up_bytes"], lines[-1]["merits"])
        assert result["each_worker"] == {key: result[key] / 3 for key in ("up_bytes", "down_bytes")}
        assert lines[-1]["merits"]["relative_error"] <= 1e-4
    saved = load_recipe(out / "recipe.toml")
    assert saved.canonical() == load_recipe(recipe).canonical()
    assert "# masha1: step_size = 0." in (out / "recipe.toml").read_text()


@pytest.mark.parametrize(
    ("flags", "modes"), [([], (0o600, 0o700)), (["--umask", "022"], (0o644, 0o755))], ids=["own", "shared"]
)
def test_results_are_for_their_owner_unless_asked(
    saddlebag: Any, recipe: Path, tmp_path: Path, flags: list[str], modes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SADDLEBAG_UMASK", raising=False)
    before = os.umask(0o022)
    try:
        assert saddlebag(*flags, "run", recipe, "--out", tmp_path / "out", "-q")[0] == 0
        assert os.umask(0o022) == 0o022, "a library's process keeps its own"
    finally:
        os.umask(before)
    written = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in written if path.is_file()} == {modes[0]}
    assert {path.stat().st_mode & 0o777 for path in written if path.is_dir()} == {modes[1]}


def test_the_token_of_a_worker_needs_the_secret(saddlebag: Any, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SADDLEBAG_TOKEN", "secret")
    status, printed, _ = saddlebag("token", recipe, "--rank", 2)
    assert (status, printed.strip()) == (0, rank_token("secret", load_recipe(recipe).canonical(), 2))
    status, _, told = saddlebag("token", recipe, "--rank", 3)
    assert (status, "--rank must lie in [0, 3)" in told) == (2, True)
    monkeypatch.delenv("SADDLEBAG_TOKEN")
    status, _, told = saddlebag("token", recipe, "--rank", 2)
    assert (status, "the run's secret is missing" in told) == (2, True)


def test_schedules_and_budgets_run_from_a_recipe(saddlebag: Any, recipe: Path, tmp_path: Path) -> None:
    up = "method.up={name='decay', of='rand_k', parameter='k', first=8, ratio=0.5, every=40, last=4}"
    down = "method.down={name='budget', of='dithering', budget_bytes=60}"
    status, _, error = saddlebag("run", recipe, "--out", tmp_path / "out", "-q", "--set", up, "--set", down)
    assert (status, error) == (0, "")
    text = (tmp_path / "out" / "recipe.toml").read_text()
    assert "down = dithering {'levels':" in text
    assert "budget_bytes = 60" in text, "the recipe itself says what was asked for"
    result = json.loads((tmp_path / "out" / "masha1" / "result.json").read_text())
    assert result["method"]["down"]["name"] == "dithering"
    assert result["merits"]["relative_error"] <= 1e-4
    assert load_recipe(tmp_path / "out" / "recipe.toml").canonical() == load_recipe(recipe, [up, down]).canonical()
    pieces = "method.up={name='schedule', pieces=[{round=0, name='rand_k', k=8}, {round=9, name='natural'}]}"
    assert saddlebag("run", recipe, "--out", tmp_path / "more", "-q", "--set", pieces)[0] == 0
    assert load_recipe(tmp_path / "more" / "recipe.toml").canonical() == load_recipe(recipe, [pieces]).canonical()


def test_json_is_the_summary_and_nothing_else(saddlebag: Any, recipe: Path, tmp_path: Path) -> None:
    status, printed, errors = saddlebag("run", recipe, "--out", tmp_path / "out", "--json", "--set", "seed=3")
    assert (status, errors) == (0, "")
    assert json.loads(printed) == json.loads((tmp_path / "out" / "result.json").read_text())
    assert json.loads(printed)["seed"] == 3


def test_a_run_is_not_overwritten_by_accident(saddlebag: Any, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert saddlebag("run", recipe, "--out", out, "-q")[0] == 0
    before = (out / "masha1" / "metrics.jsonl").read_bytes()
    status, _, error = saddlebag("run", recipe, "--out", out)
    assert (status, error) == (
        2,
        f"error: {out} holds a run; --resume continues it, --force replaces it, --out takes another folder\n",
    )
    status, _, error = saddlebag("run", recipe, "--out", out, "--resume", "--set", "problem.n=6")
    assert (status, error.count("\n")) == (2, 1)
    assert "problem.n is 5 there and 6 here" in error
    assert (out / "masha1" / "metrics.jsonl").read_bytes() == before
    assert saddlebag("run", recipe, "--out", out, "--force", "--set", "problem.n=6", "-q")[0] == 0
    assert (out / "masha1" / "metrics.jsonl").read_bytes() != before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    assert saddlebag("run", recipe, "--out", tmp_path / "full", "--force")[0] == 2
    assert (tmp_path / "full" / "thesis.tex").exists()


def test_ctrl_c_says_how_to_resume_and_resuming_finishes(
    saddlebag: Any, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out with space"
    simulate = simulated.simulate

    def interrupted(problem: Any, method: Any, **rest: Any) -> Any:
        if type(method).__name__ == "Extragradient":
            raise KeyboardInterrupt
        return simulate(problem, method, **rest)

    monkeypatch.setattr(simulated, "simulate", interrupted)
    status, _, error = saddlebag("run", recipe, "--out", out)
    assert status == 130
    assert f"to continue: saddlebag run '{out}/recipe.toml' --out '{out}' --resume" in error
    first = (out / "masha1" / "metrics.jsonl").read_bytes()
    monkeypatch.undo()
    assert saddlebag("run", out / "recipe.toml", "--out", out, "--resume", "-q")[0] == 0
    assert (out / "masha1" / "metrics.jsonl").read_bytes() == first, "a finished method is not run again"
    assert [job["reason"] for job in json.loads((out / "result.json").read_text())["jobs"]] == ["merit", "merit"]


def test_a_method_that_diverges_is_reported(saddlebag: Any, recipe: Path, tmp_path: Path) -> None:
    status, printed, _ = saddlebag("run", recipe, "--out", tmp_path / "out", "--set", "method.step_size=100")
    assert status == 0
    assert "diverged" in printed
    assert "no relative_error that both reach" in printed


# -- refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["methd.name=x"], "methd is no known key; did you mean 'method'?"),
        (["workers=5000", "driver=grpc"], "workers = 5,000 would be as many processes on this machine, at most 1,024"),
        (["workers=5000", "driver=collective"], "workers = 5,000 would be as many processes on this machine"),
        (["stop.every=often"], "stop.every must be a whole number, got 'often'"),
        (["method.up={name='top_k', k=1}"], 'method: masha1 needs an unbiased compressor up, got {name = "top_k", k = 1}'),
        (["method.name=masha2"], 'method: masha2 needs a contractive compressor up, got {name = "rand_k", k = 4}'),
        (["method.up.k=11"], "method.up: "),
        (
            ["data.source=gone.txt", "problem={name='robust_logistic'}"],
            "data.source 'gone.txt' is neither 'breast_cancer' nor 'diabetes' nor 'digits' nor a file",
        ),
        (["data.source=bad.txt", "problem={name='robust_logistic'}"], "bad.txt, line 3: indices count from 1, got 0"),
        (["workers=9", "data.source=good.txt", "problem={name='robust_logistic'}"], "workers must lie in 1..2"),
    ],
)
def test_bad_input_costs_one_line_and_leaves_nothing(
    saddlebag: Any, recipe: Path, tmp_path: Path, sets: list[str], message: str
) -> None:
    recipe.with_name("good.txt").write_text("+1 1:1\n-1 1:2\n")
    recipe.with_name("bad.txt").write_text("+1 1:1\n-1 1:2\n+1 0:3\n")
    arguments = [argument for assignment in sets for argument in ("--set", assignment)]
    status, printed, error = saddlebag("run", recipe, "--out", tmp_path / "out", *arguments)
    *notes, error = error.splitlines()  # what the reader says of data that it could read comes before
    assert (status, printed) == (2, "")
    assert error.startswith("error: ")
    assert not any(note.startswith("error: ") for note in notes)
    assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument 'RECIPE'"),
        (["run", "gone.toml"], "cannot read the recipe gone.toml: No such file"),
        (["run", "{recipe}", "--resume", "--force"], "--resume and --force exclude each other"),
        (["runn"], "No such command 'runn'"),
        (["plot", "gone"], "gone is neither the folder of a run nor its result.json"),
        (["server", "{recipe}", "--token-file", "gone"], "cannot read the token file gone: No such file"),
        (["worker", "{recipe}", "--rank", "x", "--server", "localhost:1"], "'x' is not a valid integer"),
        (["worker", "{recipe}", "--rank", "3", "--server", "localhost:1"], "rank must lie in [0, 3), got 3"),
        (["list", "socks"], "'socks' is not one of"),
    ],
)
def test_wrong_command_lines_cost_one_line(
    saddlebag: Any, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, printed, error = saddlebag(*(argument.format(recipe=recipe) for argument in arguments))
    assert (status, printed, error.count("\n")) == (2, "", 1)
    assert message in error


def test_a_defect_is_one_line_unless_asked_for(
    saddlebag: Any, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **rest: Any) -> Any:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr(running, "run", broken)
    status, _, error = saddlebag("run", recipe, "--out", tmp_path / "out")
    assert (status, error.count("\n")) == (2, 1)
    assert "unexpected ZeroDivisionError: a b" in error
    monkeypatch.setenv("SADDLEBAG_TRACEBACK", "1")
    status, _, error = saddlebag("run", recipe, "--out", tmp_path / "out")
    assert status == 2  # else the supervisor would start the process again
    assert 'raise ZeroDivisionError("a\\nb")' in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("full", ["stdout", "stderr"])
def test_output_that_cannot_be_written_is_an_error(full: str, tmp_path: Path) -> None:
    """Not once more when Python flushes at its exit, with a status of its own; what cannot be told is left to the status."""
    arguments = ["list"] if full == "stdout" else ["run", str(tmp_path / "missing.toml")]
    with Path("/dev/full").open("wb") as device:
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, full: device}
        ended = subprocess.run([sys.executable, "-m", "saddlebag", *arguments], **streams, timeout=60, check=False)
    assert ended.returncode == 2
    if full == "stdout":
        assert ended.stderr == b"error: No space left on device\n"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_folder_that_cannot_be_made_is_no_defect(saddlebag: Any, recipe: Path) -> None:
    status, _, error = saddlebag("run", recipe, "--out", "/proc/x")
    assert (status, error.count("\n")) == (2, 1)
    assert "/proc/x" in error
    assert "defect" not in error


# -- the other commands --------------------------------------------------------------------------------------------------


def test_plot_takes_runs_methods_and_result_files(saddlebag: Any, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert saddlebag("run", recipe, "--out", out, "-q")[0] == 0
    results = [out, out / "masha1", out / "extragradient" / "result.json"]
    for name, begin in (("all.png", b"\x89PNG"), ("all.svg", b"<?xml")):
        status, printed, _ = saddlebag("plot", *results, "-o", tmp_path / name)
        assert (status, printed) == (0, f"{tmp_path / name}\n")
        assert (tmp_path / name).read_bytes().startswith(begin)
    (out / "masha1" / "metrics.jsonl").unlink()
    status, _, error = saddlebag("plot", out, "-o", tmp_path / "all.png")
    assert (status, error.count("\n")) == (2, 1)
    status, _, error = saddlebag("plot", out / "extragradient", "-o", tmp_path / "all.doc")
    assert (status, error.count("\n")) == (2, 1)


def test_list_shows_names_kinds_and_origins(saddlebag: Any) -> None:
    status, printed, _ = saddlebag("list")
    assert status == 0
    for name in ("masha1", "rand_k", "robust_logistic"):
        assert name in printed
    status, printed, _ = saddlebag("list", "methods", "--json")
    rows = {row["name"]: row for row in json.loads(printed)["methods"]}
    assert rows["masha1"]["kind"] == "takes unbiased"
    assert rows["masha2"]["kind"] == "takes contractive"
    assert rows["extragradient"]["kind"] == "uncompressed"
    assert rows["masha1"]["origin"] == f"saddlebag {__version__}"
    assert all(row["description"] for row in rows.values())


def test_list_compressors_shows_constants_bits_and_sources(saddlebag: Any) -> None:
    rows = {row["name"]: row for row in json.loads(saddlebag("list", "compressors", "--json")[1])["compressors"]}
    assert (rows["top_k"]["kind"], rows["top_k"]["alpha"], rows["top_k"]["omega"]) == ("contractive", 0.01, None)
    assert rows["rand_k"]["omega"] == pytest.approx(99)
    assert rows["identity"]["kind"] == "unbiased and contractive"
    assert rows["natural"]["bits_per_coordinate"] == 9
    assert rows["low_rank"]["reference"] == "Vogels et al. 2019"
    for name, row in rows.items():
        assert row["example"] is not None, f"{name} has no example in launch/examples.py"
    status, printed, _ = saddlebag("list", "compressors")
    assert status == 0
    (line,) = (words for words in map(str.split, printed.splitlines()) if words[:1] == ["rand_k"])
    assert line[:7] == ["rand_k", "unbiased", "fraction=0.01", "omega", "=", "99", "0.32"]
    assert f"all from saddlebag {__version__}" in printed


def test_doctor_is_well_here_and_says_what_is_broken(saddlebag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(doctor.CHECKS, "blas", lambda: "not asked: this process has imported numpy long ago")
    status, printed, _ = saddlebag("doctor", "--json")
    rows = json.loads(printed)
    assert status == 0, rows
    assert {"protobuf", "grpc", "output", "simulate"} <= {row["name"] for row in rows}

    def broken() -> str:
        raise OSError("no")

    monkeypatch.setitem(doctor.CHECKS, "output", broken)
    status, printed, _ = saddlebag("doctor")
    assert status == 1
    assert "FAIL  output     OSError: no" in printed


def test_version(saddlebag: Any) -> None:
    status, printed, _ = saddlebag("--version")
    assert status == 0
    assert printed.splitlines()[0] == f"saddlebag, version {__version__}"
    assert {"Python", "numpy", "torch", "grpcio", "protobuf"} <= {
        each.split()[0] for each in printed.splitlines()[1].split(", ")
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_repository_load(path: Path) -> None:
    needs_data = path.stem in (
        "a9a",
        "albert_pretrained_sst2",
        "albert_sst2",
        "albert_wikitext2",
        "compare_a9a",
        "group_robust_adult",
        "mnist_cnn",
    )
    sets = ["data={source='breast_cancer'}"] if needs_data else []
    assert load_recipe(path, sets).title


def test_help_and_version_import_nothing_that_takes_time() -> None:
    """The modules, not the seconds: those are the machine's."""
    heavy = {"google", "grpc", "matplotlib", "numpy", "rich", "sklearn", "torch"}
    for option in ("--help", "--version", "run --help"):
        code = f"""
import sys
from saddlebag.launch.cli import main
try:
    main({option.split()!r})
except SystemExit:
    print("heavy:", *sorted({heavy!r} & {{*sys.modules}}))
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "heavy:"
