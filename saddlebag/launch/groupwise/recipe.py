"""Recipes of groupwise studies: everything that determines one, in a TOML file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from saddlebag.algorithms.groupwise import LOSSES, Groupwise
from saddlebag.algorithms.groupwise.losses import interval_width
from saddlebag.algorithms.groupwise.specialists import Specialists
from saddlebag.errors import ConfigError
from saddlebag.launch.recipe import toml
from saddlebag.launch.recipe.fields import at, fit, parameters_of, read_table
from saddlebag.launch.recipe.plugins import find

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.groupwise import AnyLearner, AnyMixer, Loss

__all__ = ["ALWAYS_ON", "GroupwiseRecipe", "load_groupwise", "make_algorithm"]

ALWAYS_ON = "always_on"
"""The name of the group of all rounds; its learner is the single model that groups are compared with."""
SYNTHETIC = "synthetic"
_RESERVED = (ALWAYS_ON,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataTable:
    """Where rounds come from: the synthetic stream, or a delimited text file.

    Attributes:
        source: "synthetic", or the path of a file.
        rounds, rule: of the synthetic stream.
        columns: names, for a file without a header.
        delimiter, comment: of the file.
        membership: path of a file with a column for each group, values in [0, 1], beside or instead of expressions.
    """

    source: str
    rounds: int = 100_000
    rule: str = "mean"
    columns: list[str] = dataclasses.field(default_factory=list)
    delimiter: str = ","
    comment: str = "|"
    membership: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """What a model sees of a round.

    Attributes:
        numeric: columns of numbers, scaled.
        one_hot: columns whose every value becomes a 0/1 feature; no level is dropped, which supplies the intercept.
        groups: groups whose membership is a feature.
        intercept: add a constant feature.
        scale: "min_max" over the whole file (it looks ahead: for studies), or "none".
    """

    numeric: list[str] = dataclasses.field(default_factory=list)
    one_hot: list[str] = dataclasses.field(default_factory=list)
    groups: list[str] = dataclasses.field(default_factory=list)
    intercept: bool = False
    scale: Literal["min_max", "none"] = "min_max"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelTable:
    """What is predicted.

    Attributes:
        column: its name.
        positive: for text: the value that counts as 1, all others as 0.
        scale: "min_max" over the whole file, or "none".
    """

    column: str
    positive: str = ""
    scale: Literal["min_max", "none"] = "min_max"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixingTable:
    """How predictions are mixed and charged.

    Attributes:
        loss: "squared", or "log" for probabilities of labels in [0, 1]; its best model in hindsight is the logistic one.
        charge: experts are compared with the loss of what was "played" (the mixture), or the "expected" loss of sampling.
        clip: clip predictions to the interval of labels.
        interval: of labels; also the range of the loss, if clipped.
        shadows: add the always-on learner as an expert on every group.
        prior: mass of each group, by name; equal for those without.
    """

    loss: Literal["log", "squared"] = "squared"
    charge: Literal["played", "expected"] = "played"
    clip: bool = True
    interval: list[float] = dataclasses.field(default_factory=lambda: [0.0, 1.0])
    shadows: bool = False
    prior: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.interval) != 2:
            raise ConfigError(f"mixing.interval must be [low, high], got {self.interval}")
        interval_width((self.interval[0], self.interval[1]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartTable:
    """A learner or mixer by name, with its parameters."""

    name: str
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupwiseRecipe:
    """A study.

    Attributes:
        title: for people.
        shuffles: seeds of `numpy.random.RandomState(seed).choice` orders of the rows; empty for the order of the file.
        comparator: rounds of a group on which the best model in hindsight is fitted and scored: "all", or "all_but_last"
            as in the published tables.
        data, features, label, learner, mixer, mixing: the tables of the same names.
        groups: name -> expression.
        directory: where results go.
    """

    title: str = ""
    shuffles: tuple[int, ...] = ()
    comparator: Literal["all", "all_but_last"] = "all"
    data: DataTable
    features: FeatureTable
    label: LabelTable
    groups: Mapping[str, str]
    learner: PartTable
    mixer: PartTable
    mixing: MixingTable
    directory: str = ""

    def __post_init__(self) -> None:
        for name in self.groups:
            if name in _RESERVED:
                raise ConfigError(f"groups.{name}: the group of all rounds is always there; choose another name")
        if self.comparator not in ("all", "all_but_last"):
            raise ConfigError(f"comparator must be 'all' or 'all_but_last', got {self.comparator!r}")
        if not self.groups and not self.data.membership:
            raise ConfigError("groups: declare at least one, or give data.membership")
        if not all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in self.shuffles):
            raise ConfigError(f"shuffles must be a list of seeds in [0, 2^32), got {list(self.shuffles)}")


_TABLES: dict[str, type[Any]] = {"data": DataTable, "features": FeatureTable, "label": LabelTable, "mixing": MixingTable}
_PLAIN = ("title", "shuffles", "comparator", "directory")
_PARTS = {"learner": "ridge", "mixer": "ada_normal_hedge"}


def load_groupwise(path: Path, sets: list[str]) -> tuple[GroupwiseRecipe, dict[str, Any]]:
    """Read a recipe with overrides; returns it, and the resolved table for the results' folder.

    Raises:
        ConfigError: with the full path of the key.
    """
    table = toml.read(path)
    for assignment in sets:
        toml.override(table, assignment)
    for key in ("source", "membership"):
        below = table.get("data", {})
        if isinstance(below, dict) and below.get(key) and below[key] != SYNTHETIC:
            below[key] = str((path.parent / Path(str(below[key])).expanduser()).resolve())
    return groupwise_from_dict(table), table


def groupwise_from_dict(table: dict[str, Any]) -> GroupwiseRecipe:
    """The recipe in a table."""
    values: dict[str, Any] = {}
    for name, kind in _TABLES.items():
        if name not in table and name != "mixing":
            raise ConfigError(f"[{name}] is missing")
        below = read_table(table.get(name, {}), name)
        with at(name):
            values[name] = kind(**fit(kind, below, name))
    for name, default in _PARTS.items():
        below = dict(read_table(table.get(name, {}), name))
        values[name] = PartTable(name=below.pop("name", default), parameters=below)
    groups = read_table(table.get("groups", {}), "groups")
    for name, text in groups.items():
        if not isinstance(text, str):
            raise ConfigError(f"groups.{name} must be an expression, got {text!r}")
    plain = {key: value for key, value in table.items() if key not in (*_TABLES, *_PARTS, "groups")}
    if "shuffles" in plain:
        if not isinstance(plain["shuffles"], list):
            raise ConfigError(f"shuffles must be a list of seeds, got {plain['shuffles']!r}")
        plain["shuffles"] = tuple(plain["shuffles"])
    given = (*values, "groups")
    return GroupwiseRecipe(**fit(GroupwiseRecipe, plain, "", given=given, also=given), groups=groups, **values)


def make_algorithm(recipe: GroupwiseRecipe, dimension: int, num_groups: int) -> Groupwise:
    """The algorithm of a recipe; the always-on group is the last one.

    Raises:
        ConfigError: a name is unknown or a parameter does not fit.
    """
    mixing = recipe.mixing
    interval = (mixing.interval[0], mixing.interval[1])
    loss = LOSSES[mixing.loss]()
    return Groupwise(
        learner=_learner(recipe.learner, dimension),
        mixer=_mixer(recipe.mixer, loss, interval, clip=mixing.clip),
        loss=loss,
        charge=mixing.charge,
        interval=interval if mixing.clip else None,
        default=sum(interval) / 2.0,
        always_on=num_groups - 1,
        shadows=mixing.shadows,
    )


def _learner(part: PartTable, dimension: int) -> AnyLearner:
    factory = find("learners", part.name, "learner.name")
    with at("learner"):
        learner: AnyLearner = factory(
            dimension=dimension, **fit(factory, part.parameters, "learner", given=("dimension",), also=("name",))
        )
    return learner


def _mixer(part: PartTable, loss: Loss, interval: tuple[float, float], *, clip: bool) -> AnyMixer:
    """The mixer; a range or rate that the recipe leaves open comes from the loss on the interval."""
    factory = find("mixers", part.name, "mixer.name")
    parameters = dict(part.parameters)
    known = parameters_of(factory)
    if "loss_range" in known:
        parameters.setdefault("loss_range", loss.range(interval))
    if factory is Specialists and "rate" not in parameters:
        rate = loss.exp_concavity(interval)
        if not rate or not clip:
            raise ConfigError("mixer: specialists need mixer.rate, or an exp-concave loss (squared, log) and mixing.clip")
        parameters["rate"] = rate
    with at("mixer"):
        mixer: AnyMixer = factory(**fit(factory, parameters, "mixer", also=("name",)))
    return mixer
