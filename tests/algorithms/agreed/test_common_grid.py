"""One grid for all workers: sums of levels say what sums of values say, and optimizers converge on it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import saddlebag as sb
from saddlebag.algorithms.agreed.common_grid import CommonGrid, SharesGrid, next_scale
from saddlebag.compression import Draws, Levels, NearestInt4, NearestInt8, feed_back
from saddlebag.errors import ConfigError

_DRAWS = Draws(0, 0)
_RANGES = st.floats(2.0**-90, 2.0**90)


@settings(deadline=None)
@given(range_=_RANGES, wide=st.booleans(), seed=st.integers(0, 2**32), workers=st.integers(1, 12))
def test_the_sum_of_the_levels_is_the_sum_of_the_values_in_any_order(range_, wide, seed, workers):
    grid = CommonGrid.reaching(range_, NearestInt8() if wide else NearestInt4())
    rng = np.random.default_rng(seed)
    payloads = [grid.encode(range_ * rng.normal(size=9), _DRAWS) for _ in range(workers)]
    total_D = sum(payload.level_D.astype(np.int64) for payload in payloads) * np.float64(grid.scale)
    for order in (payloads, payloads[::-1]):
        sum_D = np.zeros(9)
        for payload in order:
            payload.add_to(sum_D)
        assert np.array_equal(sum_D, total_D)


@given(range_=_RANGES)
def test_a_grid_reaches_its_range_and_not_twice_as_far(range_):
    for up in (NearestInt4(), NearestInt8()):
        grid = CommonGrid.reaching(range_, up)
        assert range_ <= grid.largest_level * grid.scale < 2.0 * range_ * (1 + 1e-15)
        assert np.log2(grid.scale) == np.rint(np.log2(grid.scale))


def test_what_the_grid_cuts_off_is_owed():
    grid = CommonGrid.reaching(1.0, NearestInt4())
    payload, owed_D = feed_back(grid, np.array([9.0, 0.1, 0.5]), np.zeros(3), _DRAWS)
    assert (payload.dense() + owed_D).tolist() == [9.0, 0.1, 0.5]
    assert payload.dense().tolist() == [1.75, 0.0, 0.5]


def test_the_grid_grows_where_anybody_lies_beyond_and_shrinks_where_everybody_lies_within():
    grid = CommonGrid(largest_level=7, scale=1.0)
    beyond, inside, within = (grid.fits(np.array([0.0, x])) for x in (-7.6, 7.4, 1.7))
    assert [said.dense().tolist() for said in (beyond, inside, within)] == [[1, 0], [0, 0], [0, 1]]
    for said, scale in (([beyond, within], 2.0), ([inside, within], 1.0), ([within, within], 0.5)):
        mean = sum(one.dense() for one in said) / 2
        assert next_scale(1.0, grid.move(mean)) == scale
    assert grid.fits(np.zeros(0)).dense().tolist() == [0, 1]


def test_a_scale_stays_a_normal_number_whatever_a_downlink_says():
    for move in (-128, 127):
        scale = 1.0
        for _ in range(300):
            scale = next_scale(scale, Levels(np.array([move], np.int8), np.ones(1, np.float32), 1))
        assert scale in (2.0**-100, 2.0**100)


@settings(deadline=None)
@given(clip=st.floats(0.5, 300.0), size=st.integers(1, 200), scale=st.floats(0.01, 100.0), seed=st.integers(0, 2**32))
def test_no_vector_is_sent_that_is_longer_than_the_clip(clip, size, scale, seed):
    """What a worker can change of a sum, whatever it owes: the promise of noise rests on it."""
    grid = CommonGrid(largest_level=127, scale=1.0, clip=clip)
    x_D = scale * np.random.default_rng(seed).normal(size=size)
    level_D = grid.encode(x_D, _DRAWS).level_D.astype(np.int64)
    assert (level_D**2).sum() <= clip**2
    short_D = grid.clipped(x_D)
    assert np.linalg.norm(short_D) <= clip * (1 + 1e-12)
    if np.linalg.norm(x_D) <= clip:
        assert np.array_equal(short_D, x_D)


def test_what_a_clip_cuts_off_is_not_owed_and_what_rounding_leaves_is():
    game = sb.make_problem("quadratic", n=6, workers=3, seed=3)
    keys = {"step_size": 0.05, "up": "nearest_int8", "down": "nearest_int8", "momentum": 0.0, "common_range": 2.0}
    method = sb.make_method("compressed_sgd", game, **keys, level_clip=20.0)
    replica = method.init_replica(game.start())
    own, grid = method.init_worker(replica), method.common_grid(replica)
    assert method.uplink_sizes(replica, _DRAWS) == method.downlink_sizes(replica, _DRAWS) == (game.dimension,)
    for round_ in range(50):
        own, up = method.worker_step(replica, own, lambda z_D, draws: np.full(len(z_D), 1e3), Draws(0, round_))
        assert len(up.parts) == 1
        assert np.abs(own.memory_D).max() <= 2 * grid.scale  # a thousand a round would be owed else


def test_a_clipped_grid_stays_where_it_is():
    game = sb.make_problem("quadratic", n=6, workers=3, seed=3)
    keys = {"step_size": 0.05, "up": "nearest_int8", "down": "nearest_int8", "common_range": 1e-3, "level_clip": 50.0}
    run = sb.simulate(game, sb.make_method("compressed_sgd", game, **keys), stop=sb.Stop(max_rounds=20))
    assert run.replica.scale == sb.make_method("compressed_sgd", game, **keys).init_replica(game.start()).scale


@pytest.mark.parametrize("up", ["nearest_int4", "nearest_int8"])
def test_an_optimizer_on_a_common_grid_is_as_good_as_with_scales_of_each_worker_whatever_the_first_range(up):
    """The workers' vectors do not vanish at the solution, and their mean does: a grid that followed it would cut them off."""
    game = sb.make_problem("quadratic", n=6, workers=5, seed=3)

    def error(start):
        keys = {"step_size": 0.05, "up": up, "down": up, "momentum": 0.0, "common_range": start}
        return sb.simulate(game, sb.make_method("compressed_sgd", game, **keys), stop=sb.Stop(max_rounds=120)).merits

    own = error(0.0)["relative_error"]
    for start in (1e-3, 1e3):
        assert error(start)["relative_error"] == pytest.approx(own, rel=0.02)


def test_optimizers_share_a_grid_only_where_they_are_told_to():
    game = sb.make_problem("quadratic", n=3, workers=2)
    method = sb.make_method("compressed_adamw", game, step_size=0.1, up="nearest_int8", down="nearest_int8")
    assert isinstance(method, SharesGrid)
    assert method.common_grid(method.init_replica(game.start())) is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"up": "top_k"}, "needs up = 'nearest_int4' or 'nearest_int8'"),
        ({"memory": "innovations"}, "needs memory = 'feedback'"),
        ({"common_range": -1.0}, r"must lie in \[2\^-100, 2\^100\]"),
        ({"common_range": float("nan")}, r"must lie in \[2\^-100, 2\^100\]"),
    ],
)
def test_what_cannot_share_a_grid_is_refused(keys, words):
    game = sb.make_problem("quadratic", n=3, workers=2)
    given_keys = {"step_size": 0.1, "up": "nearest_int8", "down": "nearest_int8", "common_range": 1.0, **keys}
    if keys.get("up") == "top_k":
        given_keys["up"] = {"name": "top_k", "k": 1}
    with pytest.raises(ConfigError, match=words):
        sb.make_method("compressed_sgd", game, **given_keys)


SPARSE = {"up": "nearest_int8", "down": "nearest_int8", "momentum": 0.0, "common_range": 1.0, "common_fraction": 0.25}


def test_all_workers_send_the_same_coordinates_and_owe_the_rest():
    game = sb.make_problem("quadratic", n=21, workers=3, seed=3)
    method = sb.make_method("compressed_sgd", game, step_size=0.05, **SPARSE)
    replica = method.init_replica(game.start())
    supports = []
    for round_ in range(3):
        sent, owed = [], []
        for rank in range(3):
            draws = Draws(7, round_, rank)
            own, message = method.worker_step(replica, method.init_worker(replica), game.operator(rank), draws)
            value_D = game.operator(rank)(replica.z_D, draws)
            assert [part.dense().shape for part in message.parts] == [(11,), (2,)]
            assert method.uplink_sizes(replica, draws) == (11, 2)
            sent.append(np.flatnonzero(own.memory_D != value_D))
            owed.append(value_D - own.memory_D)
            assert np.allclose(np.sort(owed[-1][sent[-1]]), np.sort(message.parts[0].dense()[message.parts[0].dense() != 0]))
        supports.append(frozenset(np.concatenate(sent).tolist()))
        assert len(supports[-1]) <= 11
    assert len(set(supports)) == 3


def test_a_shared_support_goes_as_far_as_all_coordinates_do_for_fewer_bytes():
    """What is owed comes round: 0.89 of the way is left after 300 rounds either way; a support that is mixed up stays at 1."""
    game, stop = sb.make_problem("quadratic", n=20, workers=3, seed=3), sb.Stop(max_rounds=300, every=300)
    runs = [
        sb.simulate(
            game, sb.make_method("compressed_sgd", game, step_size=0.02, **{**SPARSE, "common_fraction": f}), seed=7, stop=stop
        )
        for f in (0.25, 1.0)
    ]
    left = [run.merits["relative_error"] for run in runs]
    assert left[1] < 0.9
    assert abs(left[0] - left[1]) < 0.01
    assert runs[0].up_bytes < 0.45 * runs[1].up_bytes


@pytest.mark.parametrize(
    ("keys", "text"), [({"common_fraction": 0.0}, "lie in"), ({"common_range": 0.0}, "needs common_range")]
)
def test_a_fraction_that_cannot_be_kept_is_refused(keys, text):
    game = sb.make_problem("quadratic", n=6, workers=3, seed=3)
    with pytest.raises(ConfigError, match=text):
        sb.make_method("compressed_sgd", game, step_size=0.05, **{**SPARSE, **keys})


def test_a_clip_bounds_what_is_sent_of_a_support():
    game = sb.make_problem("quadratic", n=40, workers=3, seed=3)
    method = sb.make_method("compressed_sgd", game, step_size=0.05, **SPARSE, level_clip=5.0)
    replica = method.init_replica(100 + game.start())
    own, message = method.worker_step(replica, method.init_worker(replica), game.operator(0), Draws(7, 0, 0))
    assert len(message.parts) == 1
    assert (message.parts[0].level_D.astype(np.int64) ** 2).sum() <= 25
    value_D = game.operator(0)(replica.z_D, Draws(7, 0, 0))
    assert np.linalg.norm(own.memory_D) < np.linalg.norm(value_D)  # what the clip cuts off is not owed
