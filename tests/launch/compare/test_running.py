"""Comparisons: what the grid chooses, what resumes, what is counted, and what is shown of methods that do not arrive."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

from saddlebag.algorithms import Stop, extragradient, masha1, simulate
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.algorithms.problems.games.finite_bilinear import FiniteBilinearGame
from saddlebag.compression import Natural
from saddlebag.errors import ConfigError
from saddlebag.launch.cli import cli
from saddlebag.launch.compare import running as comparing
from saddlebag.launch.compare.cell import STALLED, counted, read_cell, run_cell
from saddlebag.launch.compare.plot import plot_comparison
from saddlebag.launch.compare.spec import load_comparison
from saddlebag.launch.compare.table import markdown
from saddlebag.proto.codec import LoopbackWire

RECIPE = """
title = "small"
workers = 3
[problem]
name = "bilinear"
n = 4
regularisation = 0.2
[compare]
seeds = 2
steps = [4.0, 0.5, 0.25]
probabilities = [1.0, 0.5]
[method]
name = "ogda"
[[baseline]]
name = "masha1"
up = { name = "natural" }
down = { name = "natural" }
[[baseline]]
name = "compressed_extragradient"
label = "naive"
up = { name = "rand_k", fraction = 0.25 }
step_size = "2/L"
[stop]
merit = 1e-3
max_iterations = 3000
"""


def recipe(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "small.toml"
    path.write_text(text)
    return path


def run(path: Path, out: Path, jobs: int = 1, sets: tuple[str, ...] = ()) -> tuple[dict[str, Any], list[str]]:
    told: list[str] = []
    loaded, section = load_comparison(path, sets)
    values = comparing.compare(
        loaded, section, out, jobs=jobs, progress=lambda done, total, text: told.append(f"{done}/{total}")
    )
    return values, told


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    folder = tmp_path_factory.mktemp("compare")
    values, told = run(recipe(folder), folder / "out")
    return folder, values, told


def test_the_grid_chooses_the_fewest_bytes(finished: tuple[Path, dict[str, Any], list[str]]) -> None:
    _, values, told = finished
    entries = {entry["label"]: entry for entry in values["entries"]}
    ogda = entries["ogda"]
    tried = {row["step"]: row for row in ogda["grid"]}
    assert tried[4.0]["reason"] == "diverged"
    assert tried[4.0]["score"] is None
    assert ogda["step"] == min((row["score"], row["step"]) for row in ogda["grid"] if row["score"])[1] == 0.5
    assert ogda["reached"] == 2
    masha = entries["masha1"]
    assert len(masha["grid"]) == 6
    assert masha["share"] in (1.0, 0.5)
    scores = [row["score"] for row in masha["grid"] if row["score"]]
    assert masha["curves"][0]["total"][-1] == pytest.approx(min(scores), rel=1e-5)
    assert told[-1] == f"{3 + 6 + 1 + 3}/{3 + 6 + 1 + 3}"  # the grids on one seed, the best ones on the other


def test_automatic_steps_in_place_of_the_grid(tmp_path: Path) -> None:
    """Open steps become "auto", probabilities keep their grid; the figures are those of a recipe that says "auto" itself."""
    values, told = run(recipe(tmp_path), tmp_path / "auto", sets=("compare.tune=auto",))
    entries = {entry["label"]: entry for entry in values["entries"]}
    assert {label: entry["method"]["step_size"] for label, entry in entries.items()} == {
        "ogda": "auto",
        "masha1": "auto",
        "naive": "2/L",
    }
    assert entries["ogda"]["reached"] == entries["masha1"]["reached"] == 2
    assert entries["masha1"]["share"] in (1.0, 0.5)
    assert told[-1] == f"{1 + 2 + 1 + 3}/{1 + 2 + 1 + 3}"
    written, _ = run(recipe(tmp_path), tmp_path / "none", sets=("compare.tune=none", "method.step_size=auto"))
    assert entries["ogda"]["curves"] == next(entry for entry in written["entries"] if entry["label"] == "ogda")["curves"]


def test_figures_are_those_of_the_run(finished: tuple[Path, dict[str, Any], list[str]]) -> None:
    """The chosen setting, run by itself, needs exactly what the comparison says."""
    _, values, _ = finished
    entry = next(entry for entry in values["entries"] if entry["label"] == "masha1")
    game = BilinearGame(n=4, num_workers=3, regularisation=0.2)
    method = masha1(game, up=Natural(), down=Natural(), **entry["resolved"])
    stop = Stop(merit=1e-3, max_iterations=3000)
    runs = [simulate(game, method, seed=seed, stop=stop, wire=LoopbackWire()) for seed in (0, 1)]
    totals = [(run.up_bytes + run.down_bytes) / 3 for run in runs]
    assert [curve["total"][-1] for curve in entry["curves"]] == pytest.approx(totals, rel=1e-5)
    assert entry["median"]["total"] == pytest.approx(np.median(totals))
    assert entry["median"]["rounds"] == np.median([run.rounds for run in runs])
    modelled = 2 * 0.02 * runs[0].rounds + 8 * totals[0] / 100e6
    assert entry["curves"][0]["time"][-1] == pytest.approx(modelled, rel=1e-5)


def test_what_diverges_is_shown_as_such(
    finished: tuple[Path, dict[str, Any], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, values, _ = finished
    naive = next(entry for entry in values["entries"] if entry["label"] == "naive")
    assert naive["median"] is None
    assert naive["reasons"] == ["diverged", "diverged"]
    table = markdown(values)
    assert next(line for line in table.splitlines() if line.startswith("| naive")).count("diverged") == 1
    assert values["reference"] == "ogda"
    assert "ratio of the total to ogda's" in table
    plot_comparison(values, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    many = {**values, "entries": [{**naive, "label": f"naive {number}"} for number in range(9)]}
    monkeypatch.setattr(Figure, "savefig", lambda figure, *rest, **ways: drawn.append(figure))
    drawn: list[Any] = []
    plot_comparison(many, tmp_path / "many.png")
    curves = [sum(line.get_gid() == "main" for line in ax.get_lines()) for ax in drawn[0].axes]
    assert curves == [7] * 6 + [2] * 6, "at most seven in a panel"


def test_it_resumes_and_runs_only_what_is_missing(
    finished: tuple[Path, dict[str, Any], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, values, _ = finished
    cells = sorted((folder / "out" / "cells").iterdir())
    removed = cells[0].read_bytes()
    cells[0].unlink()
    torn = cells[1].read_bytes()
    cells[1].write_bytes(torn[: len(torn) // 2])
    ran: list[str] = []
    real = comparing.run_cell

    def watch(text: str, path: str, budget: float | None, tuning: bool) -> dict[str, Any]:
        ran.append(Path(path).name)
        return real(text, path, budget, tuning)

    monkeypatch.setattr(comparing, "run_cell", watch)
    again, _ = run(folder / "small.toml", folder / "out")
    assert set(ran) <= {cells[0].name, cells[1].name}
    assert ran
    assert again == values
    assert json.loads(removed)["label"] == json.loads(cells[0].read_bytes())["label"]


@pytest.mark.slow
def test_processes_give_the_same_comparison(finished: tuple[Path, dict[str, Any], list[str]], tmp_path: Path) -> None:
    folder, values, _ = finished
    again, _ = run(folder / "small.toml", tmp_path / "out", jobs=2)
    for one, other in zip(values["entries"], again["entries"], strict=True):
        assert one["curves"] == other["curves"]
        assert one["step"] == other["step"]


@pytest.mark.e2e
@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_comparison_leaves_no_process_and_continues(tmp_path: Path, how: signal.Signals, status: int) -> None:
    path = recipe(
        tmp_path, RECIPE.replace("merit = 1e-3", "merit = 1e-9").replace("steps = [4.0, 0.5, 0.25]", "steps = [0.02]")
    )
    command = [
        sys.executable,
        "-m",
        "saddlebag",
        "compare",
        str(path),
        "--jobs",
        "2",
        "--out",
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    told = {"env": environment, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # whatever pytest was started with
    with subprocess.Popen(command, preexec_fn=heard, **told) as process:  # type: ignore[call-overload]
        assert process.stderr is not None
        assert process.stderr.readline().startswith("[1/")
        pool = [int(child.name) for child in Path("/proc").glob("[0-9]*") if _parent(child) == process.pid]
        process.send_signal(how)
        assert process.wait(timeout=30) == status
    deadline = time.monotonic() + 30
    while any(_parent(Path("/proc") / str(pid)) is not None for pid in pool):
        assert time.monotonic() < deadline, "processes of the pool are left"
        time.sleep(0.05)
    finished = len(list((tmp_path / "out" / "cells").iterdir()))
    assert finished >= 1
    again = subprocess.run(
        [*command[:-4], "--out", str(tmp_path / "out"), "-q", "--json"], env=environment, capture_output=True
    )
    assert again.returncode == 0


def _parent(folder: Path) -> int | None:
    """The parent of a process that runs; None when it has ended."""
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[1])


def test_a_run_that_cannot_win_is_cut(finished: tuple[Path, dict[str, Any], list[str]]) -> None:
    """OGDA's third step needs twice the bytes of the second; it is cut, and the winner is not."""
    _folder, values, _ = finished
    ogda = next(entry for entry in values["entries"] if entry["label"] == "ogda")
    assert [row["reason"] for row in ogda["grid"]] == ["diverged", "merit", "cut"]
    assert [row["reason"] for row in next(e for e in values["entries"] if e["label"] == "masha1")["grid"]].count("merit") >= 1


def test_a_step_that_fails_on_another_seed_gives_way_to_a_smaller_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = comparing.run_cell

    def fragile(text: str, path: str, budget: float | None, tuning: bool) -> dict[str, Any]:
        """Runs that diverge at the largest step that arrives on seed 0, on other seeds."""
        result = real(text, path, budget, tuning)
        if "seed = 1" in text and result["label"] == "ogda" and abs(result["resolved"]["step_size"] - big) < 1e-9:
            result["reason"] = "diverged"
        return result

    path = recipe(tmp_path)
    loaded, section = load_comparison(path)
    constants = BilinearGame(n=4, num_workers=3, regularisation=0.2).constants
    big = 0.5 / constants.lipschitz
    monkeypatch.setattr(comparing, "run_cell", fragile)
    values = comparing.compare(loaded, section, tmp_path / "out")
    entry = next(entry for entry in values["entries"] if entry["label"] == "ogda")
    assert entry["step"] == 0.25
    assert entry["reached"] == 2


def test_a_run_that_does_not_get_under_way_ends_early_while_tuning_only(tmp_path: Path) -> None:
    """OGDA at 1/L diverges, but not within 12 iterations by the factor that ends any run."""
    text = RECIPE.replace("max_iterations = 3000", "max_iterations = 12")
    loaded, _ = load_comparison(recipe(tmp_path, text), ["method.step_size=1/L"])
    job = loaded.jobs()[0]
    tried = run_cell(job.to_toml(), str(tmp_path / "cell.json"), None, True)
    assert tried["reason"] == STALLED
    assert tried["curve"][-1][0] < 12
    assert read_cell(tmp_path / "cell.json", None, tuning=True) == tried
    assert read_cell(tmp_path / "cell.json", None, tuning=False) is None
    assert run_cell(job.to_toml(), str(tmp_path / "cell.json"))["reason"] == "max_iterations"


def test_evaluations_are_counted_and_nothing_else_changes() -> None:
    game = BilinearGame(n=4, num_workers=3, regularisation=0.2)
    problem, counter = counted(game)
    stop, wire = Stop(max_iterations=11), LoopbackWire()
    outcome = simulate(problem, extragradient(problem), seed=0, stop=stop, wire=wire)
    plain = simulate(game, extragradient(game), seed=0, stop=stop, wire=wire)
    assert counter.evaluations == 2 * 11 * 3
    assert np.array_equal(outcome.replica.z_D, plain.replica.z_D)
    assert problem.constants == game.constants


def test_batches_count_in_parts() -> None:
    game = FiniteBilinearGame.build(None, num_workers=2, n=4, num_samples=8)
    problem, counter = counted(game)
    part: Any = problem.operator(0)
    plain: Any = game.operator(0)
    index_B = np.array([1, 1, 5])
    assert np.array_equal(part.batch(problem.start(), index_B), plain.batch(game.start(), index_B))
    assert counter.evaluations == 3 / 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("seeds = 2", "seeds = 0"), r"compare.seeds must lie in 1..1000, got 0"),
        (("steps = [4.0, 0.5, 0.25]", "steps = [0.0]"), "compare.steps must be a list of positive numbers"),
        (("seeds = 2", "seed = 2"), "compare.seed is no known key; did you mean 'seeds'"),
        (("merit = 1e-3", ""), "stop.merit is missing"),
        (("max_iterations = 3000", ""), "stop needs max_rounds or max_iterations"),
        (("seeds = 2", 'reference = "eg"'), "compare.reference 'eg' is no label; known: ogda, masha1, naive"),
        (("seeds = 2", "bandwidth = 0"), "compare.bandwidth must be positive"),
    ],
)
def test_bad_recipes(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_comparison(recipe(tmp_path, RECIPE.replace(*change)))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="exists and holds no comparison"):
        run(recipe(tmp_path), tmp_path / "out")


def test_the_command(finished: tuple[Path, dict[str, Any], list[str]]) -> None:
    folder, values, _ = finished
    answer = CliRunner().invoke(cli, ["compare", str(folder / "small.toml"), "--out", str(folder / "out"), "--json"])
    assert answer.exit_code == 0
    assert json.loads(answer.stdout)["entries"][0]["median"] == values["entries"][0]["median"]
    shown = CliRunner().invoke(
        cli, ["compare", str(folder / "small.toml"), "--out", str(folder / "out"), "-q", "--latency", "1", "--bandwidth", "8"]
    )
    assert "modelled at 8e-06 Mbit/s and 1000 ms" in " ".join(shown.stdout.split())
    assert (folder / "out" / "plot.png").is_file()
    assert (folder / "out" / "table.md").read_text().startswith("| method |")
