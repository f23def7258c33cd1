"""Running a recipe: the study, its files, its picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from saddlebag.launch import toml
from saddlebag.launch.groupwise.plot import plot_regret
from saddlebag.launch.groupwise.recipe import load_groupwise
from saddlebag.launch.groupwise.report import summarise, write_result
from saddlebag.launch.groupwise.study import Study, run_study
from saddlebag.proto.checkpoint import write_atomically

__all__ = ["PLOT", "RECIPE", "run_recipe", "write_all"]

PLOT, RECIPE = "plot.png", "recipe.toml"


def run_recipe(
    path: Path, sets: list[str], *, out: Path | None = None, processes: int | None = None
) -> tuple[Path, dict[str, Any]]:
    """Run the study of a recipe; returns the folder of the results, and what `report` shows.

    Raises:
        ConfigError: the recipe is wrong, or does not fit the data.
        DataError: a file cannot be read or written.
    """
    recipe, table = load_groupwise(path, sets)
    folder = out or Path(recipe.directory or Path("runs") / path.stem)
    groups, study = run_study(recipe, processes=processes or len(os.sched_getaffinity(0)))
    values = summarise(recipe.title or path.stem, groups, study, charge=recipe.mixing.charge)
    write_all(folder, values, groups, study)
    write_atomically(folder / RECIPE, toml.dump(table).encode())
    return folder, values


def write_all(folder: Path, values: dict[str, Any], groups: tuple[str, ...], study: Study) -> None:
    """Write result.json, groups.csv, curves.csv and plot.png."""
    write_result(folder, values, groups, study)
    plot_regret(folder, folder / PLOT)
