"""Compressed gradient tracking: FedGDA-GT without compression, the proven inequalities at every iteration, z* with few bits."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlebag.algorithms import Stop, check_method, make_method, simulate
from saddlebag.algorithms.methods.local.compressed_fed_gda_gt import (
    CompressedFedGdaGt,
    compressed_fed_gda_gt,
    growth,
    proven_step,
)
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.compression import Draws, Grid, Identity, RandK, TopK
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

GAME = BilinearGame(n=6, num_workers=3, regularisation=0.5)
FULL = Identity()


def run_of(method: Any, game: Any, rounds: int, merit: float | None = None) -> Any:
    stop = Stop(max_rounds=rounds, every=rounds) if merit is None else Stop(max_rounds=rounds, merit=merit)
    return simulate(game, method, seed=0, stop=stop, wire=LoopbackWire())


def test_without_compression_it_is_fed_gda_gt() -> None:
    ours = compressed_fed_gda_gt(GAME, up=FULL, down=FULL, step_size=0.03, local_steps=3)
    theirs = make_method("fed_gda_gt", GAME, step_size=0.03, local_steps=3, wire="float64")
    ends = [run_of(method, GAME, 40).replica.z_D for method in (ours, theirs)]
    assert ends[0] == pytest.approx(ends[1], rel=0, abs=1e-5)  # ours travels in float32
    assert not np.array_equal(ends[0], GAME.start())


@dataclasses.dataclass(frozen=True)
class Sizes:
    """R, A and B after the first exchange of an iteration."""

    value_3: Any

    @classmethod
    def of(cls, game: Any, turn: Any) -> Sizes:
        """Of the states after that exchange: z has not moved, memories have."""
        z_D, key = turn.replica.z_D, Draws(0, 0)
        away = [game.operator(m)(z_D, key) - own.known_D for m, own in enumerate(turn.next_workers)]
        known = [own.known_D for own in turn.next_workers]
        behind = float(np.linalg.norm(np.mean(known, axis=0) - turn.next_replica.known_D))
        rms = float(np.sqrt(np.mean([float(np.sum(each**2)) for each in away])))
        return cls(np.array([np.linalg.norm(z_D - game.solution), rms, behind]))


def worst(game: Any, method: Any, play: Any, rounds: int) -> tuple[float, list[Any]]:
    """The largest share of its bound that one of the three takes, over all iterations; and the three."""
    alphas = method.up.alpha(game.dimension), method.down.alpha(game.dimension)
    matrix_33 = growth(method.step_size, method.local_steps, game.constants, *alphas)
    found = [Sizes.of(game, turn).value_3 for turn in play(game, method, seed=0, num_rounds=rounds) if not turn.replica.walks]
    shares = [(after / (matrix_33 @ before + 1e-6 * np.max(before))).max() for before, after in itertools.pairwise(found)]
    return float(max(shares)), found


@pytest.mark.parametrize("steps", [1, 4, 20])
@pytest.mark.parametrize("up", [FULL, TopK(k=2), TopK(fraction=0.5), Grid(step=0.5)], ids=["none", "top2", "half", "grid"])
@pytest.mark.parametrize("down", [FULL, TopK(fraction=0.5), Grid(step=0.5)], ids=["none", "half", "grid"])
@pytest.mark.parametrize("whole", [0.02, 0.3])
def test_the_three_sizes_grow_as_proven(up: Any, down: Any, steps: int, whole: float, play: Any) -> None:
    """Steps far above the proven one count too: the inequalities hold for any; float32 travels, hence a millionth."""
    for seed in range(2):
        game = BilinearGame(n=4, num_workers=3, regularisation=0.3, heterogeneity=1.0, seed=seed)
        eta = whole / max(game.constants.lipschitz_workers) / steps
        share, _ = worst(game, CompressedFedGdaGt(step_size=eta, local_steps=steps, up=up, down=down), play, 60)
        assert share <= 1.0 + 1e-6


class Forgets(CompressedFedGdaGt):
    """Walks along its own operator alone, as local_sgda does."""

    def worker_step(self, replica: Any, own: Any, operator: Any, draws: Any) -> Any:
        shown = dataclasses.replace(own, value_D=replica.known_D) if replica.walks else own
        after, up = super().worker_step(replica, shown, operator, draws)
        return (own if replica.walks else after), up


def test_the_inequalities_tell_right_from_wrong(play: Any) -> None:
    eta = 0.3 / max(GAME.constants.lipschitz_workers) / 4
    assert worst(GAME, Forgets(step_size=eta, local_steps=4, up=FULL, down=FULL), play, 400)[0] > 1.001


@given(
    regularisation=st.floats(0.05, 2.0), alpha=st.floats(0.05, 1.0), alpha_down=st.floats(0.05, 1.0), steps=st.integers(1, 30)
)
def test_the_proven_step_has_a_rate(regularisation: float, alpha: float, alpha_down: float, steps: int) -> None:
    game = BilinearGame(n=4, num_workers=3, regularisation=regularisation)
    eta = proven_step(steps, game.constants, alpha, alpha_down)
    rate = max(abs(np.linalg.eigvals(growth(eta, steps, game.constants, alpha, alpha_down))))
    assert rate < 1
    assert rate >= 1 - eta * steps * game.constants.strong_monotonicity - 1e-12  # none has a better one than the mean operator


def test_a_run_at_the_proven_step_keeps_the_proven_rate(play: Any) -> None:
    game = BilinearGame(n=4, num_workers=3, regularisation=1.0, heterogeneity=1.0)
    method: Any = compressed_fed_gda_gt(game, up=TopK(fraction=0.75), down=FULL, local_steps=3)
    _, found = worst(game, method, play, 400)
    matrix_33 = growth(method.step_size, 3, game.constants, method.up.alpha(8), 1.0)
    bound_3 = np.linalg.matrix_power(matrix_33, len(found) - 1) @ found[0]
    assert np.all(found[-1] <= bound_3 + 1e-6 * found[0].max())
    assert found[-1][0] < 0.9 * found[0][0]


@pytest.mark.parametrize("compressor", [Grid(step=0.5), TopK(fraction=0.3)], ids=["grid", "top"])
def test_it_reaches_the_solution_with_few_bits(compressor: Any) -> None:
    method = compressed_fed_gda_gt(GAME, up=compressor, down=compressor, step_size=0.01, local_steps=8)
    run = run_of(method, GAME, 6000, merit=1e-6)
    assert run.reason == "merit"
    full = make_method("fed_gda_gt", GAME, step_size=0.01, local_steps=8)
    assert run.up_bytes < 0.7 * run_of(full, GAME, 6000, merit=1e-6).up_bytes


def test_it_keeps_the_laws_of_a_method() -> None:
    method = compressed_fed_gda_gt(GAME, up=TopK(k=2), down=Grid(step=0.5), step_size=0.02)
    check_method(method, GAME, wire=LoopbackWire())


def test_what_does_not_fit_is_refused(tiny_robust: Any) -> None:
    with pytest.raises(ConfigError, match="local_steps must be at least 1, got 0"):
        CompressedFedGdaGt(step_size=0.1, local_steps=0, up=FULL, down=FULL)
    with pytest.raises(ConfigError, match=r"needs a contractive compressor down, got .*RandK"):
        CompressedFedGdaGt(step_size=0.1, up=FULL, down=RandK(k=2))
    with pytest.raises(ConfigError, match="has no prox"):
        compressed_fed_gda_gt(tiny_robust, up=FULL, down=FULL)
    flat: Any = dataclasses.replace(GAME.constants, strong_monotonicity=0.0)
    with pytest.raises(ConfigError, match="has no proven step for these constants"):
        proven_step(4, flat, 0.5, 0.5)
