"""Running a recipe: the study, its files, its picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError
from saddlebag.launch.cores import available_cores
from saddlebag.launch.groupwise.recipe import load_groupwise
from saddlebag.launch.groupwise.reports.plot import plot_regret
from saddlebag.launch.groupwise.reports.report import RESULT, summarise_recipe, write_result
from saddlebag.launch.groupwise.study import Study, stream_study
from saddlebag.launch.ownership import contents, owned, require_no_service
from saddlebag.launch.recipe import toml
from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PLOT", "RECIPE"]

PLOT, RECIPE = "plot.png", "recipe.toml"


def run_recipe(
    path: Path,
    sets: list[str],
    *,
    out: Path | None = None,
    processes: int | None = None,
    force: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[Path, dict[str, Any]]:
    """Run the study of a recipe; returns the folder of the results, and what `report` shows; `tell` is that of `run_study`.

    Raises:
        ConfigError: the recipe is wrong, or does not fit the data; the folder holds a study and `force` is not given, or
            something else.
        DataError: a file cannot be read or written.
    """
    recipe, table = load_groupwise(path, sets)
    folder = out or Path(recipe.directory or Path("runs") / path.stem)
    with owned(folder, "saddlebag groupwise run"):
        _require_free(folder, force=force)
        stream, study = stream_study(recipe, processes=processes or available_cores(), tell=tell)
        values = summarise_recipe(recipe, recipe.title or path.stem, stream, study)
        write_result(folder, values, stream.groups, study)
        plot_regret(folder, folder / PLOT)
        write_atomically(folder / RECIPE, toml.dump(table).encode())
    return folder, values


def _require_free(folder: Path, *, force: bool) -> None:
    """Refuse a folder whose files would be overwritten, before the study takes its time."""
    found = {path.name for path in contents(folder)}
    if not found:
        return
    require_no_service(folder)
    if not all((folder / name).is_file() for name in (RECIPE, RESULT)):
        raise ConfigError(f"{folder} exists and holds no study; give another folder with --out")
    if not force:
        raise ConfigError(f"{folder} holds a study; --force replaces it, --out takes another folder")


def write_all(folder: Path, values: dict[str, Any], groups: tuple[str, ...], study: Study) -> None:
    """Write result.json, groups.csv, curves.csv and plot.png.

    Raises:
        ConfigError: another process owns the folder, or a service keeps its state there.
    """
    with owned(folder, "saddlebag groupwise"):
        require_no_service(folder)
        write_result(folder, values, groups, study)
        plot_regret(folder, folder / PLOT)
