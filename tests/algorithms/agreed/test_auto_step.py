"""The automatic step: its rule, its laws as a method, and its results beside the best constant step."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import Masha1, Stop, check_method, digest, make_method, restarted, simulate
from saddlebag.algorithms.agreed.auto_step import AutoStep, Pace, Paced, SelectiveAutoStep, Strain
from saddlebag.algorithms.base import square
from saddlebag.algorithms.participation import Selective, catch_up, caught_up
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws, Grid, Identity, Natural, RandK, TopK
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from saddlebag.algorithms.problems import RobustLogisticRegression

FULL = Identity()
SETTINGS: dict[str, dict[str, Any]] = {
    "extragradient": {},
    "innovations": {"up": Grid(), "down": Grid(step=0.5)},
    "masha1": {"up": Natural(), "down": Natural()},
    "masha2": {"up": TopK(fraction=0.2), "down": TopK(fraction=0.2)},
    "ogda": {},
}
GRID = {  # gamma L, around each method's best
    "extragradient": (0.8, 0.9, 1.0, 1.1),
    "innovations": (0.4, 0.45, 0.5, 0.55),
    "masha1": (0.35, 0.4, 0.45, 0.5, 0.55),
    "masha2": (0.15, 0.2, 0.25, 0.3, 0.35),
    "ogda": (0.45, 0.5, 0.55),
}


def _sound() -> Any:
    """benchmarks/auto_sound.py, whose long form is a benchmark."""
    spec = importlib.util.spec_from_file_location("auto_sound", Path(__file__).parents[3] / "benchmarks" / "auto_sound.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["auto_sound"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sound = _sound()


def make(name: str, problem: Any, step_size: Any, **changes: Any) -> Any:
    return make_method(name, problem, step_size=step_size, **(SETTINGS[name] | changes))


def iterations(problem: Any, method: Any, *, seed: int = 0, limit: int = 4000) -> float:
    stop = Stop(merit=1e-6, max_iterations=limit)
    outcome = simulate(problem, method, seed=seed, stop=stop, wire=LoopbackWire(), keep_history=False)
    return outcome.replica.iteration if outcome.reason == "merit" else math.inf


# --- the rule --------------------------------------------------------------------------------------------------------


def pace(**changes: Any) -> Pace:
    return dataclasses.replace(Pace(step_size=1.0, change=0.0, moved=0.0, pending=-1.0, phase=2, calm=0), **changes)


def test_a_calm_step_grows_and_a_strained_one_shrinks() -> None:
    assert pace().learn(Strain(0.25, 1.0)).pace.step_size == pytest.approx(1.02)
    assert pace(calm=8).learn(Strain(0.25, 1.0)).pace.step_size == pytest.approx(1.06)
    assert pace(calm=99).learn(Strain(0.25, 1.0)).pace.step_size == pytest.approx(1.1)
    assert pace(calm=9).learn(Strain(1.0, 1.0)).pace.step_size == pytest.approx(0.85**2)
    assert pace(calm=9).learn(Strain(1.0, 1.0)).pace.calm == 0
    assert pace().learn(Strain(1e6, 1.0)).pace.step_size == 0.5


def test_a_search_jumps_to_half_of_the_target_and_ends_beyond_it() -> None:
    found = pace(step_size=1e-2, phase=0).learn(Strain(1.0, 1.0)).pace  # strain 0.01
    assert found.step_size == pytest.approx(0.425)
    assert found.phase == 1
    assert pace(step_size=1e-9, phase=1).learn(Strain(1.0, 1.0)).pace.step_size == pytest.approx(1e-7)
    assert pace(phase=1).learn(Strain(1.0, 1.0)).pace.phase == 2


def test_while_memories_fill_the_step_shrinks_slowly_unless_it_is_hopeless() -> None:
    assert pace(phase=0).learn(Strain(4.0, 1.0)).pace.step_size == 0.8
    assert pace(phase=0).learn(Strain(1e6, 1.0)).pace.step_size == pytest.approx(4e-3)


def test_an_early_displacement_waits_for_its_change() -> None:
    first = pace().learn(Strain(9.0, 4.0, early=True)).pace
    assert (first.step_size, first.pending, first.moved) == (1.0, 4.0, 0.0)
    second = pace(pending=4.0).learn(Strain(1.0, 100.0, early=True)).pace
    assert (second.moved, second.pending) == (4.0, 100.0)


@pytest.mark.parametrize("phase", range(3))
@pytest.mark.parametrize("strain", [None, Strain(0.0, 1.0), Strain(0.0, 0.0), Strain(1.0, 0.0)])
def test_what_shows_nothing_changes_nothing(strain: Strain | None, phase: int) -> None:
    lesson = pace(phase=phase).learn(strain)
    assert lesson.taken
    assert dataclasses.asdict(lesson.pace) == dataclasses.asdict(pace(phase=phase))


@pytest.mark.parametrize("strain", [Strain(math.inf, 1.0), Strain(1.0, math.nan), Strain(17.0, 1.0), Strain(1e30, 1.0)])
def test_a_step_beyond_hope_is_not_taken_and_the_next_is_smaller(strain: Strain) -> None:
    lesson = pace().learn(strain)
    assert not lesson.taken
    assert lesson.pace.step_size == 0.5
    assert pace().learn(Strain(15.0, 1.0)).taken


def test_a_jump_too_far_is_taken_back_at_once() -> None:
    lesson = pace(phase=1).learn(Strain(50.0**2, 1.0))
    assert (lesson.taken, lesson.pace.phase) == (False, 2)
    assert lesson.pace.step_size == pytest.approx(0.85 / 50)


def test_filling_memories_stand_still_until_their_news_are_small_twice_in_a_row() -> None:
    state, taken = pace(phase=0), []
    for news in (1.0, 0.1, 0.2, 0.1, 0.1):
        lesson = state.learn(Strain(1.0, 4.0, early=True, news=news), iteration=0)
        state = lesson.pace
        taken.append(lesson.taken)
    assert taken == [False, False, False, False, True]
    assert (state.step_size, state.phase, state.pending) == (1.0, 1, 4.0)
    assert not pace(phase=0).learn(Strain(0.0, 0.0, early=True, news=0.0), iteration=9).taken  # all has cancelled
    assert pace(phase=0).learn(Strain(1.0, 4.0, early=True, news=1.0), iteration=256).taken  # noise does not hold for ever


def test_steps_stay_positive_and_finite() -> None:
    assert pace(step_size=1.79e308).learn(Strain(1e-300, 1e300)).pace.step_size == 1.79e308
    assert pace(step_size=5e-324).learn(Strain(math.inf, 1.0)).pace.step_size == 5e-324


def test_squares_do_not_depend_on_blas() -> None:
    x_D = np.random.default_rng(0).standard_normal(1000)
    assert square(x_D) == float((x_D * x_D).sum())


# --- as a method -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_it_keeps_the_laws_of_a_method(name: str, game: BilinearGame, robust: RobustLogisticRegression) -> None:
    check_method(make(name, game, "auto"), game, wire=LoopbackWire())
    if name != "masha2":
        check_method(make(name, robust, "auto"), robust, wire=LoopbackWire())
    if name.startswith("masha"):
        check_method(make(name, game, "auto", rule="next"), game, wire=LoopbackWire())


def test_the_first_step_comes_from_known_constants_or_from_the_text(game: BilinearGame) -> None:
    method = make("ogda", game, "auto")
    assert isinstance(method, AutoStep)
    assert method.first_step == 0.1 / game.constants.lipschitz
    assert make("ogda", game, "auto from 1e-3").first_step == 1e-3
    assert method.init_replica(game.start()).pace.step_size == method.first_step


def test_idle_workers_are_brought_to_the_step_too(game: BilinearGame) -> None:
    method = make("masha1", game, "auto", up=RandK(fraction=0.25), down=FULL, participants=2)
    assert isinstance(method, SelectiveAutoStep)
    assert isinstance(method.method, Masha1)
    assert {"pace.step_size", "state.z_D"} <= set(method.drifting)
    replica, draws = method.init_replica(game.start()), Draws(0, 3)
    assert method.select(
        dataclasses.replace(replica, state=dataclasses.replace(replica.state, syncing=False)), Draws(0, 3), (0, 1, 2, 3)
    ) != (0, 1, 2, 3)
    later = Paced(
        dataclasses.replace(replica.state, z_D=replica.z_D + 1.0, iteration=9),
        dataclasses.replace(replica.pace, step_size=0.5, phase=2, calm=7),
    )
    assert digest(caught_up(method, replica, catch_up(method, later))) == digest(later)
    assert not draws.coin(method.method.probability)
    assert iterations(game, method, limit=8000) < math.inf
    assert not isinstance(make("ogda", game, "auto"), Selective)


@pytest.mark.parametrize("text", ["best", "auto from", "auto from -1", "auto from nan", "auto from 0", "auto at 1", ""])
def test_other_texts_are_refused(text: str, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match="step_size must be a positive number, 'auto' or 'auto from NUMBER', got"):
        make("ogda", game, text)


def test_methods_without_a_rule_say_so(game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=r"method 'qsgda' has no automatic step size; give method\.step_size a number"):
        make_method("qsgda", game, up=RandK(k=2), down=FULL, step_size="auto")


def test_tseng_method_is_steered_as_extragradient_whose_iterates_it_has(
    game: BilinearGame, robust: RobustLogisticRegression
) -> None:
    """Without a prox the two are one method in exact arithmetic; with one it keeps the laws and converges."""
    stop = Stop(max_iterations=60)
    found = [
        simulate(game, make_method(name, game, step_size="auto"), seed=0, stop=stop, wire=LoopbackWire()).replica
        for name in ("extragradient", "forward_backward_forward")
    ]
    assert np.allclose(found[0].z_D, found[1].z_D, rtol=1e-5, atol=1e-6)
    assert found[1].pace.step_size == pytest.approx(found[0].pace.step_size, rel=1e-4)
    method = make_method("forward_backward_forward", robust, step_size="auto")
    check_method(method, robust, wire=LoopbackWire())
    twin = make_method("extragradient", robust, step_size="auto")
    assert iterations(robust, method) < 1.5 * iterations(robust, twin) < math.inf


# --- its results -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SETTINGS))
@pytest.mark.parametrize("heterogeneity", [0.0, 1.5])
def test_it_is_nearly_as_good_as_the_best_constant_step(name: str, heterogeneity: float) -> None:
    game = BilinearGame(n=5, num_workers=3, regularisation=0.15, heterogeneity=heterogeneity)
    best = math.inf
    for value in GRID[name]:
        limit = 4000 if math.isinf(best) else int(best)
        best = min(best, iterations(game, make(name, game, value / game.constants.lipschitz), limit=limit))
    assert iterations(game, make(name, game, "auto"), limit=8000) <= 1.3 * best


@pytest.mark.parametrize("name", ["extragradient", "innovations", "masha1", "ogda"])
@pytest.mark.parametrize("first", [1e-9, 2.0])
def test_a_bad_first_step_costs_little(name: str, first: float, game: BilinearGame) -> None:
    good, bad = (iterations(game, make(name, game, text), limit=20000) for text in ("auto", f"auto from {first}"))
    assert bad <= 1.5 * good


@pytest.mark.parametrize("name", ["innovations", "masha1", "masha2"])
def test_no_seed_diverges(name: str) -> None:
    game = BilinearGame(n=3, num_workers=2, regularisation=0.3)
    counts = [iterations(game, make(name, game, "auto"), seed=seed, limit=3000) for seed in range(20)]
    assert max(counts) <= 2.0 * min(counts)


# --- it never throws an error back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [1e-3, 1e-5, 1e-9, 0.0])
@pytest.mark.parametrize("method", sorted(sound.METHODS))
def test_no_error_is_thrown_back(method: str, distance: float) -> None:
    """To more than ten times that of the start. The long form: `python benchmarks/bench_auto.py --sound`."""
    for workers, seed in ((1, 0), (2, 0), (2, 1), (3, 0)):
        cell = sound.Cell("bilinear", method, workers, distance, seed, hide=seed == 1)
        assert sound.thrown_back(cell, iterations=40) <= 1.0, cell


def test_nor_under_a_prox() -> None:
    """There F does not vanish at the solution, so news beside it look small too early."""
    for distance in (1e-5, 1e-9):
        cell = sound.Cell("robust_logistic", "innovations", 2, distance, 0, hide=False)
        assert sound.thrown_back(cell, iterations=40) <= 1.0, cell


def test_a_new_epoch_near_the_solution_does_not_throw_the_error_back() -> None:
    """Memories begin empty again; those of two workers cancel while they fill."""
    game = BilinearGame(n=6, num_workers=2, regularisation=0.2)
    method = make("innovations", game, "auto")
    replica = simulate(game, method, seed=3, stop=Stop(merit=1e-6, max_iterations=4000), wire=LoopbackWire()).replica
    again = restarted(method, replica)
    assert (again.pace.step_size, again.pace.phase) == (method.first_step, 0)
    started = sound.Started(game, again.z_D)
    begin, worst = started.merits(again.z_D)["distance"], []

    def watch(rounds: int, replica: Any, verdict: Any) -> None:
        worst.append(started.merits(replica.z_D)["distance"])

    simulate(started, method, seed=4, stop=Stop(max_iterations=200, every=200), wire=LoopbackWire(), watch=watch)
    assert max(worst) <= 10.0 * begin
    assert worst[-1] < 0.1 * begin
