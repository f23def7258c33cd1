"""The README is true: its Python examples run, its recipes and links exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [0, 1])
def test_python_examples_run(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    example = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[number]
    exec(compile(example, f"README example {number}", "exec"), {})
    assert capsys.readouterr().out


def test_the_figures_of_the_main_job_are_those_of_its_recipe() -> None:
    """The printed table is what the recipe gives in process, which equals gRPC bit for bit."""
    from saddlebag.launch.api import simulate
    from saddlebag.launch.build import build_method, build_problem
    from saddlebag.launch.recipe.recipe import load_recipe

    recipe = load_recipe(README.parent / "launch" / "recipes" / "robust_logistic.toml")
    problem = build_problem(recipe)
    for job in recipe.jobs():
        run = simulate(problem, build_method(job, problem), seed=job.seed, stop=job.stop)
        row = re.search(rf"^ {job.label} .*$", TEXT, re.MULTILINE)
        assert row is not None
        assert f" {run.replica.iteration} " in row[0]
        assert f" {run.rounds} " in row[0]
        for size, unit in re.findall(r"([\d.]+) (kB|MB)", row[0]):
            exact = (run.up_bytes / job.workers, run.down_bytes / job.workers)
            printed = float(size) * {"kB": 1e3, "MB": 1e6}[unit]
            assert min(abs(printed - value) / value for value in exact) < 0.01


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (README.parent / target).exists(), target
