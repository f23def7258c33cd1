"""What a comparison consists of: the `[compare]` table of a recipe, and the cells of the grid it spans."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal

from saddlebag.errors import ConfigError
from saddlebag.launch.build import build_method, numbers_of
from saddlebag.launch.recipe.fields import at, fit, read_table
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.launch.recipe.sections import parse_step_size
from saddlebag.launch.recipe.shipped import open_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from saddlebag.algorithms.base import Problem

__all__ = ["Cell", "CompareSection", "grid", "load_comparison"]

Objective = Literal["total", "up", "down", "rounds", "evaluations", "time"]

MAX_SEEDS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareSection:
    """How the methods of a recipe are compared.

    Attributes:
        seeds: how many run seeds; the first is the recipe's, the others follow it. The first one also tunes; a setting that
            then fails on another gives way to the next smaller steps.
        tune: "grid": a method whose step size (or probability) is left at "theory" is tuned over the grid below; a method
            with a number, a multiple of 1/L or another rule of its own is run as it is. "auto": such a method takes the step
            rule "auto" instead, and its probability from the grid. "none": all are run as they are.
        steps: the grid of step sizes, in multiples of 1/L; the same for every method.
        probabilities: the grid of synchronisation probabilities, in multiples of the theory's, for methods that have one.
        objective: what the grid minimises at the target: bytes in both directions, one direction, rounds, operator
            evaluations, or modelled time.
        reference: label of the method against which the others are measured; the best uncompressed one if it is empty.
        bandwidth: of each worker's link, bit/s in each direction, for the modelled time.
        latency: one way, in seconds, for the modelled time.
    """

    seeds: int = 5
    tune: Literal["grid", "auto", "none"] = "grid"
    steps: list[Any] = dataclasses.field(default_factory=lambda: [1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.13, 0.09, 0.06, 0.04])
    probabilities: list[Any] = dataclasses.field(default_factory=lambda: [1.0, 0.5, 0.25])
    objective: Objective = "total"
    reference: str = ""
    bandwidth: float = 100e6
    latency: float = 0.02

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= MAX_SEEDS:
            raise ConfigError(f"compare.seeds must lie in 1..{MAX_SEEDS}, got {self.seeds}")
        for field in ("steps", "probabilities"):
            values = getattr(self, field)
            if not isinstance(values, list) or not values or not all(_is_positive(value) for value in values):
                raise ConfigError(f"compare.{field} must be a list of positive numbers, got {values!r}")
        if not self.bandwidth > 0:
            raise ConfigError(f"compare.bandwidth must be positive bits per second, got {self.bandwidth}")
        if not self.latency >= 0:
            raise ConfigError(f"compare.latency must be at least 0 seconds, got {self.latency}")

    def seconds(self, rounds: float, up: float, down: float) -> float:
        """Modelled time of communication: two latencies a round, and each worker's bytes on its own link; no computation."""
        return 2.0 * self.latency * rounds + 8.0 * (up + down) / self.bandwidth


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Attributes:
        job: the recipe of this method alone, with its step, probability and seed.
        step: multiple of 1/L that the grid gave, if it did.
        share: multiple of the theory's probability that the grid gave, if it did.
    """

    job: Recipe
    step: float | None
    share: float | None

    @property
    def key(self) -> str:
        """Digest of everything that determines the run: name of the file that keeps its result."""
        return hashlib.sha256(json.dumps([1, self.job.canonical()]).encode()).hexdigest()[:24]

    def with_seed(self, seed: int) -> Cell:
        """The same settings on another seed."""
        return dataclasses.replace(self, job=dataclasses.replace(self.job, seed=seed))


def load_comparison(path: Path, sets: Sequence[str] = ()) -> tuple[Recipe, CompareSection]:
    """Read a recipe with a `[compare]` table; see `load_recipe`.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type or is out of range; or there is no target.
        DataError: the data file is missing.
    """
    path, table = open_recipe(path, sets, "compare")
    values = read_table(table.pop("compare", {}), "compare")
    with at("compare"):
        section = CompareSection(**fit(CompareSection, values, "compare"))
    recipe = recipe_from_dict(table, folder=path.parent, stem=path.stem)
    if recipe.stop.merit is None:
        raise ConfigError("stop.merit is missing; a comparison needs the target that all methods should reach")
    if recipe.stop.max_rounds is None and recipe.stop.max_iterations is None:
        raise ConfigError("stop needs max_rounds or max_iterations; a method of a comparison may never reach the target")
    if recipe.stop.max_seconds is not None:
        raise ConfigError("stop.max_seconds cannot be kept by a comparison: which of its runs share the machine is chance")
    labels = [method.label for method in recipe.methods]
    if section.reference and section.reference not in labels:
        raise ConfigError(f"compare.reference {section.reference!r} is no label; known: {', '.join(labels)}")
    return dataclasses.replace(recipe, driver="simulate"), section


def grid(recipe: Recipe, section: CompareSection, problem: Problem) -> dict[str, list[Cell]]:
    """For each method, the cells among which the best is chosen, on the recipe's seed; large steps first.

    Raises:
        ConfigError: a method does not fit its compressors, the problem or its dimension.
    """
    return {job.label: list(_cells(job, section, problem)) for job in recipe.jobs()}


def _cells(job: Recipe, section: CompareSection, problem: Problem) -> Iterator[Cell]:
    method = job.method
    open_step = method.step_size == "theory" and section.tune != "none"
    steps = sorted(section.steps, reverse=True) if open_step and section.tune == "grid" else [None]
    if open_step and section.tune == "auto":
        method = dataclasses.replace(method, step_size="auto")
        parse_step_size("auto", "compare.tune")
    shares: list[float | None] = [None]
    usual = _usual_probability(job, problem)
    if section.tune != "none" and usual is not None and method.probability == "theory":
        shares = sorted(section.probabilities, reverse=True)
    for step in steps:
        for share in shares:
            changed = method if step is None else dataclasses.replace(method, step_size=f"{float(step)!r}/L")
            if share is not None and usual is not None:
                changed = dataclasses.replace(changed, probability=min(1.0, share * usual))
            yield Cell(dataclasses.replace(job, method=changed), step, share)


def _usual_probability(job: Recipe, problem: Problem) -> float | None:
    """The probability of synchronisation that theory gives, for a method that has one; also builds the method, as a check."""
    section = job.method
    if section.step_size == "theory":  # theory may lack constants, and is not needed here
        section = dataclasses.replace(section, step_size=1.0)
    return numbers_of(build_method(dataclasses.replace(job, method=section), problem)).get("probability")
