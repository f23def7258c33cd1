"""The folder of a run: whose it is, what it holds, and the recipe that it began with."""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError, SaddlebagError
from saddlebag.launch.ownership import contents, owned
from saddlebag.launch.recipe.recipe import Recipe, load_recipe
from saddlebag.launch.results.results import RESULT, read_json
from saddlebag.proto.checkpoint import write_atomically
from saddlebag.proto.handshake import recipe_difference

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PLOT", "RECIPE", "finished", "prepare", "write_recipe"]

RECIPE, PLOT = "recipe.toml", "plot.png"


def write_recipe(resolved: Recipe, recipe: Recipe, path: Path) -> None:
    """Save a recipe as written, overrides and defaults included, with the resolved numbers as comments."""
    notes = ["# Resolved by saddlebag from the recipe, its overrides and the defaults; `saddlebag run` reads it back."]
    for method, written in zip(resolved.methods, recipe.methods, strict=True):
        numbers = {key: getattr(method, key) for key in ("step_size", "probability")}
        found = [f"{key} = {value}" for key, value in numbers.items() if isinstance(value, float)]
        for side in ("up", "down"):  # what an adaptive compressor chose
            chosen = getattr(method, side)
            if chosen != getattr(written, side):
                found.append(f"{side} = {chosen.name} {dict(chosen.parameters)}")
        notes.append(f"# {method.label}: " + ", ".join(found))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, ("\n".join(notes) + "\n\n" + recipe.to_toml()).encode())


def prepare(recipe: Recipe, out: Path, *, resume: bool, force: bool) -> bool:
    """Make the folder of a run; returns whether an earlier run is continued there.

    Raises:
        ConfigError: the folder holds a run and neither `resume` nor `force` is given, or another recipe's run is to be
            resumed, or it is no folder of a run.
    """
    if not contents(out):
        return False
    if not (out / RECIPE).is_file():
        raise ConfigError(f"{out} exists and holds no run; give another folder with --out")
    if resume:
        _require_same(load_recipe(out / RECIPE), recipe, out)
        return True
    if not force:
        raise ConfigError(f"{out} holds a run; --resume continues it, --force replaces it, --out takes another folder")
    labels = {job.label for job in recipe.jobs()}
    with contextlib.suppress(SaddlebagError):  # a recipe of an older release, or an edited one
        labels |= {job.label for job in load_recipe(out / RECIPE).jobs()}
    for label in labels:
        if (out / label).is_dir():
            with owned(out / label, "saddlebag run"):  # a server may be at work there
                for path in contents(out / label):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in (RESULT, PLOT):
        (out / name).unlink(missing_ok=True)
    return False


def _require_same(saved: Recipe, recipe: Recipe, out: Path) -> None:
    theirs, ours = ({job.label: json.loads(job.canonical()) for job in each.jobs()} for each in (saved, recipe))
    found = recipe_difference(theirs, ours)
    if found is not None:
        raise ConfigError(f"{out} holds another run: {found}; `--out` takes another folder, `--force` replaces it")


def finished(folder: Path, recipe_digest: str) -> dict[str, Any] | None:
    """The result of a job that an earlier run has finished."""
    if not (folder / RESULT).is_file():
        return None
    result = read_json(folder / RESULT)
    return result if result.get("recipe_digest") == recipe_digest else None
