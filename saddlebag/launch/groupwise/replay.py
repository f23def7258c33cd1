"""Replays of recorded rounds: JSON lines of contexts, memberships and labels, through the algorithm and into a report.

One line for each round, in the order of the predictions:

    {"x": [0.2, 1.0], "groups": ["young", "smoker"], "y": 0.31}

`groups` may also map names to confidences in (0, 1]. The always-on group is added.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import Members, wrong_label
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.decoding import lines
from saddlebag.launch.groupwise.data.stream import RoundStream, bounded
from saddlebag.launch.groupwise.recipe import ALWAYS_ON, groupwise_from_dict, label_interval
from saddlebag.launch.groupwise.reports.report import summarise_recipe
from saddlebag.launch.groupwise.study import study_orders
from saddlebag.launch.recipe import toml
from saddlebag.launch.recipe.shipped import open_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from saddlebag.algorithms.groupwise.losses import Interval
    from saddlebag.launch.groupwise.study import Study

MAX_GROUPS = 100_000
"""Different names of groups in a file; each costs a model."""
_TABLES = ("learner", "mixer", "mixing", "comparator", "label", "features", "intervals", "calibration", "alarms")
_KEYS = {"label": ("interval",), "features": ("bound", "outside"), "intervals": ("targets", "score", "form", "step")}
"""Of tables that a replay uses in part: labels and features are recorded as they were, scaled."""


def read_rounds(path: Path, interval: Interval | None = None) -> RoundStream:
    """The rounds in a file.

    Args:
        path: of the file.
        interval: the one that labels must lie in; None for any.

    Raises:
        DataError: the file cannot be read, or a line is no round; with file, line and reason.
    """
    rows: list[list[float]] = []
    labels: list[float] = []
    memberships: list[dict[str, float]] = []
    names: dict[str, int] = {}
    for number, line in enumerate(lines(path), 1):
        if not line.strip():
            continue
        try:
            x, groups, y = _parse(line, len(rows[0]) if rows else None)
            wrong = wrong_label([y], interval)
            if wrong is not None:
                raise ValueError(f"the label {wrong[1]}; give label.interval")
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        for name in groups:
            names.setdefault(name, len(names))
        if len(names) > MAX_GROUPS:
            raise DataError(f"{path}, line {number}: more than {MAX_GROUPS} groups")
        rows.append(x)
        labels.append(y)
        memberships.append(groups)
    if not rows:
        raise DataError(f"{path}: no rounds")
    in_round = [sorted((names[name], weight) for name, weight in groups.items()) for groups in memberships]
    place_N = np.cumsum([0, *(len(each) + 1 for each in in_round)])
    group_M = np.array([number for each in in_round for number in (*(group for group, _ in each), len(names))])
    weight_M = np.array([weight for each in in_round for weight in (*(weight for _, weight in each), 1.0)])
    members = Members(len(names) + 1, place_N, group_M, weight_M)
    features = tuple(f"x{j}" for j in range(len(rows[0])))
    return RoundStream(features, (*names, ALWAYS_ON), np.array(rows), np.array(labels), members)


def _parse(line: str, width: int | None) -> tuple[list[float], dict[str, float], float]:
    try:
        values = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(values, dict) or not {"x", "groups", "y"} <= values.keys():
        raise ValueError('a round reads {"x": [...], "groups": [...], "y": ...}')
    x, groups = values["x"], values["groups"]
    if not isinstance(x, list) or not x or not all(map(_is_number, x)):
        raise ValueError("x must be a list of finite numbers")
    if width is not None and len(x) != width:
        raise ValueError(f"x has {len(x)} entries, the first round {width}")
    if isinstance(groups, list):
        groups = dict.fromkeys(groups, 1.0) if all(isinstance(name, str) for name in groups) else None
    if not isinstance(groups, dict) or not all(_is_number(value) and 0 < value <= 1 for value in groups.values()):
        raise ValueError("groups must be a list of names, or names with confidences in (0, 1]")
    if ALWAYS_ON in groups:
        raise ValueError(f"the group {ALWAYS_ON} is added to every round; leave it out")
    if not _is_number(values["y"]):
        raise ValueError(f"y must be a finite number, got {values['y']!r}")
    return [float(value) for value in x], {name: float(value) for name, value in groups.items()}, float(values["y"])


def _part(key: str, table: Any) -> Any:
    """What a replay uses of a recipe's table."""
    names = _KEYS.get(key)
    return table if names is None or not isinstance(table, dict) else {k: v for k, v in table.items() if k in names}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def replay_file(path: Path, recipe_path: Path | None, sets: list[str]) -> tuple[dict[str, Any], tuple[str, ...], Study]:
    """Replay the rounds of a file.

    Args:
        path: of the rounds.
        recipe_path: where learner, mixer, mixing, the interval of labels and bounds of features come from; no more is used.
        sets: overrides of these tables.

    Raises:
        ConfigError: the recipe is wrong.
        DataError: the file is malformed.
    """
    table = open_recipe(recipe_path, (), "groupwise")[1] if recipe_path is not None else {}
    kept = {key: _part(key, table[key]) for key in _TABLES if key in table}
    for assignment in sets:
        toml.override(kept, assignment)
    if not kept.keys() <= set(_TABLES):
        raise ConfigError(f"a replay takes {', '.join(_TABLES)} only, got {', '.join(sorted(kept.keys() - set(_TABLES)))}")
    for key, names in _KEYS.items():
        if not kept.get(key, {}).keys() <= set(names):
            raise ConfigError(f"a replay takes of [{key}] {', '.join(names)} only, got {', '.join(kept[key])}")
    given = {"data": {"source": str(path)}, "groups": {"recorded": "all"}}
    below = {"label": {**kept.pop("label", {}), "column": "y"}, "features": kept.pop("features", {})}
    recipe = groupwise_from_dict({**kept, **below, **given})
    stream = read_rounds(path, label_interval(recipe))
    stream = dataclasses.replace(stream, x_ND=bounded(recipe.features, stream.features, stream.x_ND, str(path)))
    study = study_orders(recipe, stream, [None])
    return summarise_recipe(recipe, f"Replay of {path.name}", stream, study), stream.groups, study
