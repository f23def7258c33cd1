"""Rules in place of the mean: their definitions, their symmetry, what bad workers can do to them, and who may use them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize, stats

import saddlebag as sb
from saddlebag.algorithms.averages.means import MEANS, make_mean, require_robust
from saddlebag.algorithms.averages.robust import (
    CentredClipping,
    ContributionMean,
    CoordinateMedian,
    GeometricMedian,
    NormBound,
    TrimmedMean,
    require_scores,
)
from saddlebag.algorithms.simulate import simulate
from saddlebag.errors import ConfigError
from saddlebag.launch.recipe.server_section import ServerSection
from saddlebag.proto.codec import LoopbackWire
from saddlebag.server.effects import ServerSettings

UPLINKS = st.integers(1, 9).flatmap(
    lambda m: st.integers(1, 5).flatmap(
        lambda d: arrays(np.float64, (m, d), elements=st.floats(-100, 100, allow_subnormal=False))
    )
)
SUSPICIOUS = [CoordinateMedian(), TrimmedMean(fraction=0.3), GeometricMedian(), CentredClipping()]
"""Rules that three of ten bad workers cannot move far, whatever they send."""


@settings(deadline=None)
@given(UPLINKS)
def test_median_and_trimmed_mean_are_those_of_numpy_and_scipy(value_MD: np.ndarray) -> None:
    np.testing.assert_array_equal(CoordinateMedian().combine(value_MD), np.median(value_MD, axis=0))
    for fraction in (0.0, 0.1, 0.25, 0.4):
        expected_D = stats.trim_mean(value_MD, fraction, axis=0)
        np.testing.assert_allclose(TrimmedMean(fraction=fraction).combine(value_MD), expected_D, rtol=1e-12, atol=1e-11)


def test_a_fraction_of_the_workers_is_not_short_by_rounding() -> None:
    value_MD = np.arange(100.0)[:, None] ** 3
    assert 0.29 * 100 < 29
    assert TrimmedMean(fraction=0.29).combine(value_MD)[0] == value_MD[29:71].sum() / 42


@pytest.mark.parametrize("seed", range(5))
def test_the_geometric_median_has_the_least_sum_of_distances(seed: int) -> None:
    rng = np.random.default_rng(seed)
    value_MD = rng.standard_normal((8, 3)) * 10.0 ** rng.integers(-3, 4)
    value_MD[0] *= 50.0

    def total(z_D: np.ndarray) -> float:
        return float(np.linalg.norm(value_MD - z_D, axis=1).sum())

    best = optimize.minimize(total, value_MD.mean(axis=0), method="Nelder-Mead", options={"xatol": 1e-12, "fatol": 1e-12})
    assert total(GeometricMedian(iterations=2000).combine(value_MD)) <= best.fun * (1 + 1e-8)
    assert total(GeometricMedian().combine(value_MD)) <= best.fun * (1 + 1e-3)  # as many steps as by default


@settings(deadline=None)
@given(UPLINKS)
def test_centred_clipping_and_norm_bounds_as_defined(value_MD: np.ndarray) -> None:
    centre_D = np.median(value_MD, axis=0)
    for _ in range(2):
        away_MD = value_MD - centre_D
        norm_M = np.linalg.norm(away_MD, axis=1)
        shorter_M = np.where(norm_M > 3.0, 3.0 / np.maximum(norm_M, 1e-300), 1.0)
        centre_D = centre_D + (away_MD * shorter_M[:, None]).mean(axis=0)
    np.testing.assert_allclose(CentredClipping(radius=3.0, iterations=2).combine(value_MD), centre_D, rtol=1e-9, atol=1e-9)
    bounded_D = NormBound(bound=3.0).combine(value_MD)
    assert np.linalg.norm(bounded_D) <= 3.0 * (1 + 1e-12)
    np.testing.assert_allclose(NormBound(bound=1e6).combine(value_MD), value_MD.mean(axis=0), rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(TrimmedMean(fraction=0.0).combine(value_MD), value_MD.mean(axis=0), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("name", sorted(MEANS))
@settings(deadline=None)
@given(UPLINKS, st.randoms(use_true_random=False))
def test_workers_are_alike_and_the_uplinks_are_kept(name: str, value_MD: np.ndarray, rng) -> None:
    rule, order = make_mean(name), list(range(len(value_MD)))
    assert rule is not None
    before_MD = value_MD.copy()
    expected_D = rule.combine(value_MD)
    np.testing.assert_array_equal(value_MD, before_MD)
    rng.shuffle(order)
    scale = 1.0 + np.abs(value_MD).max()
    np.testing.assert_allclose(rule.combine(value_MD[order]), expected_D, rtol=1e-7, atol=1e-7 * scale)
    assert np.all(expected_D >= value_MD.min(axis=0) - 1e-9 * scale) or name == "norm_bound"
    assert np.all(expected_D <= value_MD.max(axis=0) + 1e-9 * scale) or name == "norm_bound"


@pytest.mark.parametrize("rule", SUSPICIOUS, ids=repr)
@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    arrays(np.float64, (3, 4), elements=st.floats(-1e150, 1e150, allow_subnormal=False)),
)
def test_three_bad_of_ten_cannot_move_it_far(rule, seed: int, bad_BD: np.ndarray) -> None:
    good_GD = np.random.default_rng(seed).standard_normal((7, 4))
    centre_D = good_GD.mean(axis=0)
    spread = np.linalg.norm(good_GD - centre_D, axis=1).max()
    moved_D = rule.combine(np.concatenate([bad_BD, good_GD])) - centre_D
    # of a coordinate: within the good ones' range; of a vector: 2 G / (G - B) = 3.5 spreads (Minsker 2015, lemma 2.1);
    # three clippings at most at 2 spreads each, of 3 in 10, and back towards the good ones
    assert np.linalg.norm(moved_D) <= 3.5 * spread


def test_weights_by_contribution_are_shares_of_what_was_helped_and_never_negative() -> None:
    rule, value_MD = ContributionMean(), np.arange(8.0).reshape(4, 2)
    for score_M, weight_M in (
        (np.array([1.0, 3.0, 0.0, 4.0]), [0.125, 0.375, 0.0, 0.5]),
        (np.array([2.0, -9.0, 2.0, 0.0]), [0.5, 0.0, 0.5, 0.0]),
        (np.zeros(4), [0.25] * 4),
        (-np.ones(4), [0.25] * 4),
    ):
        np.testing.assert_allclose(rule.weighed(score_M).combine(value_MD), weight_M @ value_MD)


def test_a_worker_whose_uplinks_go_the_other_way_loses_its_weight() -> None:
    """One of five flips its signs: what the others want is reached nearer than by the plain mean."""

    class Flipped:
        name, num_workers, dimension, unconstrained, constants = "flipped", 5, 3, True, None

        def start(self):
            return np.zeros(3)

        def operator(self, worker):
            return lambda z_D, draws: (z_D - 1.0) * (-1.0 if worker == 2 else 1.0) + 0.01 * worker

        def prox(self, v_D, step_size):
            return v_D

        def merits(self, z_D):
            return {"distance": float(np.abs(z_D - 1.0).max())}

    method = sb.make_method("qsgda", Flipped(), step_size=0.1, up="identity", down="identity")
    ways = {"seed": 0, "stop": sb.Stop(max_rounds=12), "wire": LoopbackWire(), "scored": True}
    run = simulate(Flipped(), method, rule=ContributionMean(), **ways)
    assert run.contributions[2] < 0 < min(run.contributions[:2] + run.contributions[3:])
    plain = simulate(Flipped(), method, **ways)
    assert Flipped().merits(run.replica.z_D)["distance"] < 0.75 * Flipped().merits(plain.replica.z_D)["distance"]


def test_weights_by_contribution_need_contributions() -> None:
    with pytest.raises(ConfigError, match=r"server.mean = 'contribution' weighs workers by what server.contributions keeps"):
        require_scores(ContributionMean(), False)
    require_scores(ContributionMean(), True)
    require_scores(CoordinateMedian(), False)
    with pytest.raises(ConfigError, match=r"weighs workers by what server.contributions keeps; set that to true"):
        ServerSection(mean="contribution")
    assert ServerSection(mean="contribution", contributions=True).rule == ContributionMean()
    with pytest.raises(ConfigError, match=r"weighs workers by what server.contributions keeps"):
        ServerSettings(num_workers=3, seed=1, mean=ContributionMean())


def test_the_plain_mean_is_moved_by_one() -> None:
    value_MD = np.zeros((10, 2))
    value_MD[3] = 1e9
    assert np.abs(NormBound(bound=1.0).combine(value_MD)).max() < 0.1
    assert np.abs(value_MD.mean(axis=0)).max() == 1e8


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("median", "name must be one of 'mean', 'centred_clipping', .*, got 'median'"),
        ({"fraction": 0.1}, "name must be one of .*, got None"),
        ({"name": "mean", "fraction": 0.1}, "fraction is no parameter of 'mean'; it has none"),
        ({"name": "trimmed_mean", "share": 0.1}, "share is no parameter of 'trimmed_mean'; it has fraction"),
        ({"name": "trimmed_mean", "fraction": 0.5}, r"fraction must lie in \[0, 0.5\), got 0.5"),
        ({"name": "trimmed_mean", "fraction": "0.1"}, "fraction must be a number, got '0.1'"),
        ({"name": "trimmed_mean", "fraction": float("nan")}, "fraction must lie in"),
        ({"name": "geometric_median", "iterations": 2.5}, "iterations must be a whole number, got 2.5"),
        ({"name": "geometric_median", "iterations": 0}, r"iterations must lie in \[1, 10000\], got 0"),
        ({"name": "geometric_median", "smoothing": 0}, r"smoothing must lie in \(0, 1\], got 0"),
        ({"name": "centred_clipping", "radius": -1.0}, "radius must be a positive number, got -1.0"),
        ({"name": "norm_bound", "bound": True}, "bound must be a number, got True"),
        ({"name": "norm_bound", "bound": float("inf")}, "bound must be a positive number, got inf"),
    ],
)
def test_what_is_no_rule_is_refused_by_name(said, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_mean(said)


@pytest.fixture(scope="module")
def problem():
    return sb.make_problem("bilinear", n=4, workers=4, regularisation=0.5)


@pytest.mark.parametrize("name", ["innovations", "diana_sgda", "masha1", "masha2", "extragradient", "optimistic_masha", "ogda"])
def test_methods_whose_server_adds_up_the_workers_memories_are_refused(problem, name: str) -> None:
    method = sb.make_method(name, problem)
    with pytest.raises(ConfigError, match=r"server.mean: \w+ takes the plain mean only, for its server adds up"):
        require_robust(method, CoordinateMedian())
    require_robust(method, None)


def test_innovations_of_an_optimizer_are_refused_and_its_feedback_is_not(problem) -> None:
    given_ = {"step_size": 0.1, "up": "sign", "down": "sign"} if "sign" in sb.list_compressors() else {"step_size": 0.1}
    require_robust(sb.make_method("compressed_sgd", problem, **given_), CoordinateMedian())
    method = sb.make_method("compressed_sgd", problem, memory="innovations", **given_)
    with pytest.raises(ConfigError, match="memory = 'innovations' its server knows the mean of all"):
        require_robust(method, CoordinateMedian())


def test_coordinates_that_most_workers_leave_out_have_no_median(problem) -> None:
    own, common = (
        sb.make_method("qsgda", problem, step_size=0.1, up=sb.make_compressor("rand_k", k=2, support=support), down="identity")
        for support in ("own", "common")
    )
    with pytest.raises(ConfigError, match="most workers send nothing of most coordinates, and CoordinateMedian"):
        require_robust(own, CoordinateMedian())
    require_robust(own, GeometricMedian())
    require_robust(common, CoordinateMedian())


def test_equal_workers_make_every_rule_the_mean(problem) -> None:
    alike = sb.make_problem("bilinear", n=4, workers=3, regularisation=0.5, heterogeneity=0.0)
    method, stop = sb.make_method("qsgda", alike, step_size=0.1), sb.Stop(max_rounds=30)
    plain = sb.simulate(alike, method, stop=stop)
    for name in MEANS:
        np.testing.assert_allclose(sb.simulate(alike, method, stop=stop, mean=name).z, plain.z, rtol=1e-9, atol=1e-9)
    with pytest.raises(ConfigError, match=r"^mean: name must be one of"):
        sb.simulate(alike, method, stop=stop, mean="average")
