"""A study: a recorded stream in several orders, the groupwise algorithm beside one model for all.

The single model is the always-on group's learner: it sees every round and no group. Learners are replayed first, each
group on its rounds, and then mixed; the orders go together through the mixer and are divided among processes.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import (
    Groupwise,
    mix_recorded,
    replay_groups,
)
from saddlebag.algorithms.groupwise.ledger import declared_range
from saddlebag.launch.groupwise.alarms import AlarmStudy, study_alarms, watch_of
from saddlebag.launch.groupwise.calibration import CalibrationStudy, study_calibration
from saddlebag.launch.groupwise.data.stream import RoundStream, build_stream
from saddlebag.launch.groupwise.intervals import IntervalStudy, study_intervals
from saddlebag.launch.groupwise.per_group import POINTS, group_values
from saddlebag.launch.groupwise.recipe import GroupwiseRecipe, make_algorithm, prior_of
from saddlebag.launch.groupwise.wide import drawn_groups, is_wide, wide_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from saddlebag.algorithms.groupwise.base import Array

__all__ = ["POINTS"]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PARTS = ("intervals", "calibration", "alarms")


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """What came of a study; S orders, G groups with the always-on group last.

    Attributes:
        rounds_SG: T_g.
        single_SG, ours_SG, own_SG, best_SG: total losses on the group's rounds: of the single model, ours, of the group's
            own learner, and of the best model in hindsight.
        absolute_SG: C_g.
        meta_bound_SG: proven bound on ours - own.
        learner_bound_SG: proven bound on own - best; NaN where the learner has none.
        played_S, expected_S: total losses of the mixture, and of sampling.
        fell_back_S: rounds in which the prior was taken.
        largest: largest |regret| of a round.
        slack: largest logarithm of the mixer's invariant, at most 0.
        declared: the mixer's range; infinite where it needs none.
        learner_excess_SG: own - best over all rounds, less the learner's proven bound: at most 0; NaN where there is none.
        clock_SGP: rounds of the group at the points of its curves; of the groups that have them, as the next two.
        single_curve_SGP, ours_curve_SGP: regret to the best model for the group's rounds so far.
        drawn_G: the groups that have curves; None for all (in studies of very many they have not: `wide.py`).
        intervals, calibration, alarms: what came of them; None where the recipe has none.
    """

    rounds_SG: Array
    single_SG: Array
    ours_SG: Array
    own_SG: Array
    best_SG: Array
    absolute_SG: Array
    meta_bound_SG: Array
    learner_bound_SG: Array
    played_S: Array
    expected_S: Array
    fell_back_S: Array
    largest: Array
    slack: Array
    declared: Array
    learner_excess_SG: Array
    clock_SGP: Array
    single_curve_SGP: Array
    ours_curve_SGP: Array
    drawn_G: npt.NDArray[np.bool_] | None = None
    intervals: IntervalStudy | None = None
    calibration: CalibrationStudy | None = None
    alarms: AlarmStudy | None = None


def run_study(recipe: GroupwiseRecipe, *, processes: int = 1) -> tuple[tuple[str, ...], Study]:
    """Run all orders of a recipe; returns the groups' names and the results. Errors as `stream_study`."""
    stream, study = stream_study(recipe, processes=processes)
    return stream.groups, study


def stream_study(
    recipe: GroupwiseRecipe, *, processes: int = 1, tell: Callable[[str], None] = lambda text: None
) -> tuple[RoundStream, Study]:
    """Run all orders of a recipe; returns the rounds and the results. What the reader has to say goes to `tell`.

    Raises:
        ConfigError: the recipe and the data do not fit.
        DataError: a file cannot be read.
    """
    seeds: list[int | None] = list(recipe.shuffles) or [None]
    stream = build_stream(recipe)
    algorithm = make_algorithm(recipe, stream.x_ND.shape[1], len(stream.groups))
    watch_of(recipe, algorithm, stream)  # complain before processes start
    for note in stream.notes:
        tell(note)
    processes = max(1, min(processes, len(seeds)))
    if processes == 1:
        return stream, study_orders(recipe, stream, seeds)
    parts = [seeds[rank::processes] for rank in range(processes)]
    context = multiprocessing.get_context("spawn")
    with _one_thread_each(), concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
        done = list(pool.map(_study_part, [recipe] * processes, parts))
    order = np.argsort([seeds.index(seed) for part in parts for seed in part], kind="stable")
    covered = [study.intervals for study in done if study.intervals is not None]
    watched = [study.alarms for study in done if study.alarms is not None]
    calibrated = [study.calibration for study in done if study.calibration is not None]
    return stream, Study(
        **_joined(done, order),
        drawn_G=done[0].drawn_G,
        intervals=IntervalStudy(**_joined(covered, order)) if covered else None,
        calibration=CalibrationStudy(**_joined(calibrated, order)) if calibrated else None,
        alarms=AlarmStudy(**_joined(watched, order)) if watched else None,
    )


def _joined(
    parts: Sequence[Study] | Sequence[IntervalStudy] | Sequence[CalibrationStudy] | Sequence[AlarmStudy],
    order: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """The arrays of several parts as those of all orders."""
    names = [field.name for field in dataclasses.fields(parts[0]) if field.name not in (*_PARTS, "drawn_G")]
    return {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names}


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that start now use one thread for numerical libraries: more would fight for the cores."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _study_part(recipe: GroupwiseRecipe, seeds: Sequence[int | None]) -> Study:
    return study_orders(recipe, build_stream(recipe), seeds)


def order_of(seed: int | None, rounds: int) -> Any:
    """The published shuffles: numpy's legacy generator; None for the order of the file."""
    return np.arange(rounds) if seed is None else np.random.RandomState(seed).choice(rounds, rounds, replace=False)


def study_orders(recipe: GroupwiseRecipe, stream: RoundStream, seeds: Sequence[int | None]) -> Study:
    """The study of some orders, in this process."""
    N, G, S = len(stream.y_N), len(stream.groups), len(seeds)
    algorithm = make_algorithm(recipe, stream.x_ND.shape[1], G)
    if is_wide(recipe, algorithm, stream):
        return _wide(recipe, algorithm, stream, seeds)
    streams = [stream.reordered(order_of(seed, N)) for seed in seeds]
    z_NSG = np.empty((N, S, G))
    for s, each in enumerate(streams):
        z_NSG[:, s] = replay_groups(algorithm.learner, each.x_ND, each.y_N, each.awake_NG)
    if algorithm.interval is not None:
        z_NSG = np.clip(z_NSG, *algorithm.interval)
    y_NS = np.column_stack([each.y_N for each in streams])
    awake_NSG = np.stack([each.awake_NG for each in streams], axis=1)
    z_NSE, awake_NSE = _experts(algorithm, z_NSG, awake_NSG)
    prior_E = algorithm.prior(G, prior_of(recipe, stream.groups))
    mixed = mix_recorded(algorithm.mixer, prior_E, z_NSE, y_NS, awake_NSE, algorithm.loss, charge=algorithm.charge)
    ours_NS = mixed.played_NS if algorithm.charge == "played" else mixed.expected_NS
    own_NSG = awake_NSG * algorithm.loss.value(z_NSG, y_NS[..., None])
    per_order = [
        _per_group(recipe, algorithm, each, ours_NS[:, s], own_NSG[:, s], z_NSG[:, s]) for s, each in enumerate(streams)
    ]
    stacked: dict[str, Any] = {name: np.stack([row[name] for row in per_order]) for name in per_order[0]}
    intervals, alarms = _covered_and_watched(recipe, algorithm, streams, mixed.value_NS, ours_NS - own_NSG[..., -1])
    return Study(
        absolute_SG=mixed.absolute_SE[:, :G],
        meta_bound_SG=algorithm.mixer.bound(mixed.state)[:, :G],
        played_S=mixed.played_NS.sum(axis=0),
        expected_S=mixed.expected_NS.sum(axis=0),
        fell_back_S=mixed.fell_back_S,
        largest=mixed.largest_S,
        slack=algorithm.mixer.slack(mixed.state).max(axis=-1),
        declared=np.full(S, np.inf if (declared := declared_range(algorithm.mixer)) is None else declared),
        intervals=intervals,
        alarms=alarms,
        calibration=None
        if recipe.calibration is None
        else study_calibration(recipe.calibration, streams, z_NSG[..., -1], mixed.value_NS, algorithm.loss),
        **stacked,
    )


def _wide(recipe: GroupwiseRecipe, algorithm: Groupwise, stream: RoundStream, seeds: Sequence[int | None]) -> Study:
    """The same, of very many groups."""
    prior_E = algorithm.prior(len(stream.groups), prior_of(recipe, stream.groups))
    orders = [stream.reordered(order_of(seed, len(stream.y_N))) for seed in seeds]
    found = [wide_order(recipe, algorithm, each, prior_E) for each in orders]
    joined: dict[str, Any] = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    joined["drawn_G"] = drawn_groups(stream.members)
    return Study(**joined)


def _covered_and_watched(
    recipe: GroupwiseRecipe, algorithm: Groupwise, streams: Sequence[RoundStream], value_NS: Array, excess_NS: Array
) -> tuple[IntervalStudy | None, AlarmStudy | None]:
    """What came of intervals and alarms, where the recipe has them."""
    intervals, missed_NSM = None, None
    if recipe.intervals is not None:
        intervals, missed_NSM = study_intervals(recipe.intervals, streams, value_NS, algorithm.label_interval)
    watch = watch_of(recipe, algorithm, streams[0])
    return intervals, None if watch is None else study_alarms(watch, streams, excess_NS, value_NS, missed_NSM)


def _experts(algorithm: Groupwise, z_NSG: Array, awake_NSG: Array) -> tuple[Array, Array]:
    """Groups, and the shadows if there are any."""
    if not algorithm.shadows:
        return z_NSG, awake_NSG
    G = z_NSG.shape[-1]
    shadow_NSG = np.repeat(z_NSG[..., -1:], G - 1, axis=-1)
    return np.concatenate((z_NSG, shadow_NSG), axis=-1), np.concatenate((awake_NSG, awake_NSG[..., :-1]), axis=-1)


def _per_group(
    recipe: GroupwiseRecipe, algorithm: Groupwise, stream: RoundStream, ours_N: Array, own_NG: Array, z_NG: Array
) -> dict[str, Array]:
    """Totals, bounds and curves of one order, group by group."""
    single_N = own_NG[:, -1]
    rows = []
    for g in range(len(stream.groups)):
        awake_N = stream.awake_NG[:, g]
        member_N = awake_N > 0
        rounds = (stream.x_ND[member_N], stream.y_N[member_N], awake_N[member_N])
        losses = (single_N[member_N], ours_N[member_N], float(own_NG[:, g].sum()))
        rows.append(group_values(recipe, algorithm, rounds, z_NG[member_N, g], losses))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}
