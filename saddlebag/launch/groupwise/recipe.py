"""Recipes of groupwise studies: everything that determines one, in a TOML file."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from saddlebag.algorithms.groupwise import LOSSES, FeatureBounds, Groupwise
from saddlebag.algorithms.groupwise.losses import Interval, interval_width
from saddlebag.algorithms.groupwise.mixers.specialists import Specialists
from saddlebag.errors import ConfigError
from saddlebag.launch.groupwise.tables.alarm_table import AlarmTable
from saddlebag.launch.groupwise.tables.calibration_table import CalibrationTable
from saddlebag.launch.groupwise.tables.conjunction_table import ConjunctionTable
from saddlebag.launch.groupwise.tables.interval_table import IntervalTable
from saddlebag.launch.recipe.fields import at, fit, read_table
from saddlebag.launch.recipe.plugins import find
from saddlebag.launch.recipe.shipped import open_recipe
from saddlebag.launch.recipe.table_options import TableOptions
from saddlebag.parameters import parameters_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.groupwise import AnyLearner, AnyMixer, Loss
    from saddlebag.algorithms.groupwise.base import Array

ALWAYS_ON = "always_on"
"""The name of the group of all rounds; its learner is the single model that groups are compared with."""
SYNTHETIC = "synthetic"
_RESERVED = (ALWAYS_ON,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataTable(TableOptions):
    """Where rounds come from: the synthetic stream, or a table (text or Parquet), which the inherited options read.

    Attributes:
        source: "synthetic", or the path of a file.
        rounds, rule: of the synthetic stream.
        membership: path of a file with a column for each group, values in [0, 1], beside or instead of expressions.
    """

    source: str
    rounds: int = 100_000
    rule: str = "mean"
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
        missing: what a row without a value is: "refuse" it, or take the "mean" of the column over the whole file (of a
            category: its share), or make the missing ones a "category". Empty text of a table is a category in any case.
        unknown: a row of the service whose text the table does not have: "refuse" it, take the "mean", or a "category" for all
            such texts, which learns from them.
        bound: the largest size of a feature, scaled; 0 to learn one for each feature from the table (see `FeatureBounds`).
        outside: "refuse" a row beyond the bound, or "clip" it.
    """

    numeric: list[str] = dataclasses.field(default_factory=list)
    one_hot: list[str] = dataclasses.field(default_factory=list)
    groups: list[str] = dataclasses.field(default_factory=list)
    intercept: bool = False
    scale: Literal["min_max", "none"] = "min_max"
    missing: Literal["refuse", "mean", "category"] = "refuse"
    unknown: Literal["refuse", "mean", "category"] = "refuse"
    bound: float = 0.0
    outside: Literal["clip", "refuse"] = "refuse"

    def __post_init__(self) -> None:
        if self.bound:
            FeatureBounds(limit=(self.bound,), outside=self.outside)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelTable:
    """What is predicted.

    Attributes:
        column: its name.
        positive: for text: the value that counts as 1, all others as 0.
        scale: "min_max" over the whole file, or "none".
        interval: [low, high] where labels lie, scaled; others are refused. "any" for any number, which needs a mixer whose
            range is given or not needed.
    """

    column: str
    positive: str = ""
    scale: Literal["min_max", "none"] = "min_max"
    interval: list[float] | Literal["any"] = dataclasses.field(default_factory=lambda: [0.0, 1.0])

    def __post_init__(self) -> None:
        if self.interval != "any":
            _interval(self.interval, "label.interval", 'or "any"')


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixingTable:
    """How predictions are mixed and charged.

    Attributes:
        loss: "squared", or "log" for probabilities of labels in [0, 1]; its best model in hindsight is the logistic one.
        charge: experts are compared with the loss of what was "played" (the mixture), or the "expected" loss of sampling.
        clip: clip predictions to the interval of labels, to another one [low, high], or not at all.
        interval: the old name of `label.interval` and `mixing.clip` in one (with the log loss: of the latter); goes in 0.3.
        shadows: add the always-on learner as an expert on every group; by default for the log loss, whose groups have little to
            gain on small tables.
        prior: mass of each group, by name; 1 for those without, and for the log loss as much as all others for always_on.
    """

    loss: Literal["log", "squared"] = "squared"
    charge: Literal["played", "expected"] = "played"
    clip: bool | list[float] = True
    interval: list[float] = dataclasses.field(default_factory=list)
    shadows: bool | None = None
    prior: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.clip, bool):
            _interval(self.clip, "mixing.clip", "true or false")
        if self.interval:
            _interval(self.interval, "mixing.interval")
        for name, mass in self.prior.items():
            if mass < 0:
                raise ConfigError(f"mixing.prior.{name} must be 0 or more, got {mass}")


def _interval(value: object, where: str, instead: str = "") -> Interval:
    """A list as an interval.

    Raises:
        ConfigError: it is none; with `where`, and what could stand there instead.
    """
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) != 2 or not all(isinstance(each, int | float) and not isinstance(each, bool) for each in numbers):
        raise ConfigError(f"{where} must be [low, high]{', ' + instead if instead else ''}, got {value}")
    interval = (float(numbers[0]), float(numbers[1]))
    with at(where):
        interval_width(interval)
    return interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartTable:
    """A learner or mixer by name, with its parameters; one without a name is chosen by the loss."""

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
        conjunctions, intervals, calibration, alarms: the tables of the same names; None for none of it.
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
    conjunctions: ConjunctionTable | None = None
    intervals: IntervalTable | None = None
    calibration: CalibrationTable | None = None
    alarms: AlarmTable | None = None
    directory: str = ""

    def __post_init__(self) -> None:
        for name in self.groups:
            if name in _RESERVED:
                raise ConfigError(f"groups.{name}: the group of all rounds is always there; choose another name")
        if self.comparator not in ("all", "all_but_last"):
            raise ConfigError(f"comparator must be 'all' or 'all_but_last', got {self.comparator!r}")
        if not self.groups and not self.data.membership and self.conjunctions is None:
            raise ConfigError("groups: declare at least one, or give data.membership or [conjunctions]")
        if not all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in self.shuffles):
            raise ConfigError(f"shuffles must be a list of seeds in [0, 2^32), got {list(self.shuffles)}")


TABLES: dict[str, type[Any]] = {
    "data": DataTable,
    "features": FeatureTable,
    "label": LabelTable,
    "mixing": MixingTable,
    "conjunctions": ConjunctionTable,
    "intervals": IntervalTable,
    "calibration": CalibrationTable,
    "alarms": AlarmTable,
}
"""The tables of a recipe by name, without the learner, the mixer and the groups."""
_OPTIONAL = ("conjunctions", "intervals", "calibration", "alarms")
_PLAIN = ("title", "shuffles", "comparator", "directory")
_PARTS = ("learner", "mixer")


def load_groupwise(path: Path, sets: list[str]) -> tuple[GroupwiseRecipe, dict[str, Any]]:
    """Read a recipe with overrides; returns it, and the resolved table for the results' folder.

    Raises:
        ConfigError: with the full path of the key.
    """
    path, table = open_recipe(path, sets, "groupwise")
    for key in ("source", "membership"):
        below = table.get("data", {})
        if isinstance(below, dict) and below.get(key) and below[key] != SYNTHETIC:
            below[key] = _located(Path(str(below[key])).expanduser(), path.parent)
    return groupwise_from_dict(table), table


def _located(source: Path, folder: Path) -> str:
    """A path of a recipe, which starts at the recipe's folder, or else at the working directory."""
    beside, here = (folder / source).resolve(), source.resolve()
    return str(here if here.exists() and not beside.exists() else beside)


def groupwise_from_dict(table: dict[str, Any]) -> GroupwiseRecipe:
    """The recipe in a table."""
    values: dict[str, Any] = {}
    for name, kind in TABLES.items():
        if name not in table and name in _OPTIONAL:
            values[name] = None
            continue
        if name not in table and name != "mixing":
            raise ConfigError(f"[{name}] is missing")
        below = read_table(table.get(name, {}), name)
        with at(name):
            values[name] = kind(**fit(kind, below, name))
    for name in _PARTS:
        below = dict(read_table(table.get(name, {}), name))
        part = below.pop("name", "")
        if not isinstance(part, str):
            raise ConfigError(f"{name}.name must be text, got {part!r}")
        values[name] = PartTable(name=part, parameters=below)
    groups = read_table(table.get("groups", {}), "groups")
    for name, text in groups.items():
        if not isinstance(text, str):
            raise ConfigError(f"groups.{name} must be an expression, got {text!r}")
    plain = {key: value for key, value in table.items() if key not in (*TABLES, *_PARTS, "groups")}
    if "shuffles" in plain:
        if not isinstance(plain["shuffles"], list):
            raise ConfigError(f"shuffles must be a list of seeds, got {plain['shuffles']!r}")
        plain["shuffles"] = tuple(plain["shuffles"])
    values["label"], values["mixing"] = _two_intervals(values["label"], values["mixing"], "interval" in table.get("label", {}))
    given = (*values, "groups")
    return GroupwiseRecipe(**fit(GroupwiseRecipe, plain, "", given=given, also=given), groups=groups, **values)


def _two_intervals(label: LabelTable, mixing: MixingTable, given: bool) -> tuple[LabelTable, MixingTable]:
    """The old `mixing.interval` as the two keys that took its place."""
    if not mixing.interval:
        return label, mixing
    if given:
        raise ConfigError("mixing.interval is the old name of label.interval, which is given, too; leave it out")
    if mixing.loss == "log":  # labels are 0 and 1, whatever probabilities are clipped to
        new, label_interval = f"mixing.clip = {mixing.interval}", [0.0, 1.0]
        mixing = dataclasses.replace(mixing, clip=mixing.interval if mixing.clip is True else mixing.clip)
    else:
        new, label_interval = f"label.interval = {mixing.interval}", mixing.interval
    warnings.warn(f"mixing.interval is deprecated: write {new}", FutureWarning, stacklevel=2)
    return dataclasses.replace(label, interval=label_interval), mixing


def label_interval(recipe: GroupwiseRecipe) -> Interval | None:
    """Where labels lie; None for anywhere."""
    return None if recipe.label.interval == "any" else _interval(recipe.label.interval, "label.interval")


def make_algorithm(recipe: GroupwiseRecipe, dimension: int, num_groups: int, *, divided: bool = False) -> Groupwise:
    """The algorithm of a recipe; the always-on group is the last one.

    A learner that the recipe leaves open is `aggregated`, of ridge regressions for the squared loss and of logistic ones for
    the log loss, where labels have an interval and no parameter of another learner is given; else `ridge`. A mixer that the
    recipe leaves open is chosen by the loss: specialists for exp-concave losses (squared, log), as long as predictions are
    clipped and charged as played; else AdaNormalHedge, also where `divided` groups or rows lie on several machines, whose sums
    specialists' weights cannot be formed from.

    Raises:
        ConfigError: a name is unknown or a parameter does not fit.
    """
    mixing, labels = recipe.mixing, label_interval(recipe)
    if isinstance(mixing.clip, bool):
        if mixing.clip and labels is None:
            raise ConfigError('mixing.clip must be false or [low, high] where label.interval is "any"')
        clip = labels if mixing.clip else None
    else:
        clip = _interval(mixing.clip, "mixing.clip")
    if mixing.loss == "log" and (labels is None or labels[0] < 0.0 or labels[1] > 1.0):
        raise ConfigError(f"label.interval must lie in [0, 1] for the log loss, got {recipe.label.interval}")
    if recipe.calibration is not None and (labels is None or labels[0] < 0.0 or labels[1] > 1.0):
        raise ConfigError(f"calibration: labels must be probabilities: label.interval in [0, 1], got {recipe.label.interval}")
    loss, middle = LOSSES[mixing.loss](), labels or clip or (0.0, 0.0)
    return Groupwise(
        learner=_learner(_chosen_learner(recipe), dimension, labels),
        mixer=_mixer(_chosen(recipe, divided=divided), loss, _span(labels, clip), clip=clip is not None),
        loss=loss,
        charge=mixing.charge,
        interval=clip,
        labels=labels,
        default=sum(middle) / 2.0,
        always_on=num_groups - 1,
        shadows=mixing.loss == "log" and not divided if mixing.shadows is None else mixing.shadows,
    )


def prior_of(recipe: GroupwiseRecipe, groups: tuple[str, ...]) -> Array:
    """The prior of a recipe's groups, which sums to 1; the always-on group is the last one.

    Raises:
        ConfigError: `mixing.prior` names a group that there is not, or leaves nothing to any.
    """
    for name in recipe.mixing.prior:
        if name not in groups:
            raise ConfigError(f"mixing.prior: no group {name!r}; known: {', '.join(groups)}")
    mass_G = np.array([float(recipe.mixing.prior.get(name, 1.0)) for name in groups])
    if recipe.mixing.loss == "log" and ALWAYS_ON not in recipe.mixing.prior:
        mass_G[-1] = max(1.0, mass_G[:-1].sum())
    if not mass_G.sum() > 0:
        raise ConfigError("mixing.prior must leave some mass to a group, got 0 for all")
    return np.asarray(mass_G / mass_G.sum())


def _span(labels: Interval | None, clip: Interval | None) -> Interval | None:
    """Where both labels and predictions lie, as far as that is known: what the range of a loss is taken from."""
    if labels is None or clip is None:
        return labels
    return min(labels[0], clip[0]), max(labels[1], clip[1])


def _chosen_learner(recipe: GroupwiseRecipe) -> PartTable:
    """The recipe's learner, or the default for its loss."""
    part = recipe.learner
    if part.name:
        return part
    if recipe.label.interval == "any" or not part.parameters.keys() <= {"of", "penalties", "interval"}:
        return dataclasses.replace(part, name="ridge")
    kind = "logistic" if recipe.mixing.loss == "log" else "ridge"
    return PartTable(name="aggregated", parameters={"of": kind, **part.parameters})


def _learner(part: PartTable, dimension: int, labels: Interval | None) -> AnyLearner:
    """The learner; an interval of labels that the recipe leaves open is that of its labels."""
    factory = find("learners", part.name, "learner.name")
    parameters = dict(part.parameters)
    if labels is not None and "interval" in parameters_of(factory) and "interval" not in parameters:
        parameters["interval"] = list(labels)
    with at("learner"):
        learner: AnyLearner = factory(
            dimension=dimension, **fit(factory, parameters, "learner", given=("dimension",), also=("name",))
        )
    return learner


def _chosen(recipe: GroupwiseRecipe, *, divided: bool) -> PartTable:
    """The recipe's mixer, or the default for its loss."""
    part, mixing, labels = recipe.mixer, recipe.mixing, label_interval(recipe)
    if part.name:
        return part
    concave = labels is not None and LOSSES[mixing.loss]().exp_concavity(labels) > 0.0
    proven = concave and mixing.clip is not False and mixing.charge == "played" and part.parameters.keys() <= {"rate"}
    return dataclasses.replace(part, name="specialists" if proven and not divided else "ada_normal_hedge")


def _mixer(part: PartTable, loss: Loss, interval: Interval | None, *, clip: bool) -> AnyMixer:
    """The mixer; a range or rate that the recipe leaves open comes from the loss on the interval."""
    factory = find("mixers", part.name, "mixer.name")
    parameters = dict(part.parameters)
    known = parameters_of(factory)
    if "loss_range" in known and "loss_range" not in parameters:
        if interval is None:
            raise ConfigError(
                f'mixer {part.name} needs the range of the loss: give label.interval in place of "any", or mixer.loss_range; '
                "or take doubling or solo"
            )
        parameters["loss_range"] = loss.range(interval)
    if factory is Specialists and "rate" not in parameters:
        rate = loss.exp_concavity(interval) if interval is not None else 0.0
        if not rate or not clip:
            raise ConfigError("mixer: specialists need mixer.rate, or an exp-concave loss (squared, log) and mixing.clip")
        parameters["rate"] = rate
    with at("mixer"):
        mixer: AnyMixer = factory(**fit(factory, parameters, "mixer", also=("name",)))
    return mixer
