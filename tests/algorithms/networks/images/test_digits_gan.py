"""The GAN as a problem: each player's gradient of its own loss, a function of the key, merits that see a better generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from saddlebag.algorithms import Stop, make_method, simulate
from saddlebag.algorithms.networks.chance import Chance
from saddlebag.algorithms.networks.images.digits_gan import digits_gan
from saddlebag.algorithms.networks.images.pictures import Images
from saddlebag.compression import Draws, Identity
from saddlebag.compression.draws import uniform_subset
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire


@pytest.fixture(scope="module")
def images() -> Images:
    """Stripes, 10 kinds of them, with noise."""
    rng = np.random.default_rng(0)
    labels_N = np.arange(200) % 10
    stripes_NHW = np.sin(0.7 * labels_N[:, None, None] + np.arange(6.0)[None, :, None]) * np.ones((200, 6, 6))
    return Images("stripes", np.clip(0.5 + 0.4 * stripes_NHW + 0.05 * rng.standard_normal((200, 6, 6)), 0, 1), labels_N)


def problem_of(images: Images, **keys: Any) -> Any:
    return digits_gan(images, **{"num_workers": 2, "batch_size": 16, "precision": "float64", **keys})


@pytest.mark.parametrize("loss", ["hinge", "wgan_gp"])
def test_the_operator_is_the_gradient_of_each_players_own_loss(images: Images, loss: Any) -> None:
    """Against losses written once more, on parameters that autograd sees as one vector each."""
    problem = problem_of(images, loss=loss, penalty=3.0)
    z_D, draws = problem.start() + 0.05 * np.random.default_rng(1).standard_normal(problem.dimension), Draws(0, 4, 1)
    modules = problem.module(z_D)
    rows_NP = problem.data[1][0]
    real = torch.from_numpy(rows_NP[uniform_subset(draws.own(Purpose.BATCH), len(rows_NP), 16)])
    chance = Chance(int(draws.own(Purpose.PERTURBATION).words(1)[0]) >> 1, 16, slice(None))
    noise, mix = chance.normal(16), chance.uniform(1)
    fake = modules["generator"](noise)
    made = torch.autograd.grad(-modules["critic"](fake).mean(), list(modules["generator"].parameters()))
    fake = fake.detach()
    points = (real if loss == "hinge" else (1 - mix) * real + mix * fake).requires_grad_()
    slopes = torch.autograd.grad(modules["critic"](points).sum(), points, create_graph=True)[0].norm(dim=1)
    on_real, on_fake = modules["critic"](real), modules["critic"](fake)
    if loss == "hinge":
        value = (1 - on_real).clamp(min=0).mean() + (1 + on_fake).clamp(min=0).mean() + 1.5 * (slopes**2).mean()
    else:
        value = (on_fake - on_real).mean() + 3 * ((slopes - 1) ** 2).mean()
    judged = torch.autograd.grad(value, list(modules["critic"].parameters()))
    expected_D = torch.cat([gradient.reshape(-1) for gradient in (*made, *judged)]).numpy()
    np.testing.assert_allclose(problem.operator(1)(z_D, draws), expected_D, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("loss", ["hinge", "wgan_gp"])
def test_it_is_a_function_of_the_key_with_parts(images: Images, loss: Any) -> None:
    problem = problem_of(images, loss=loss, accumulate=2)
    z_D, draws = problem.start(), Draws(0, 4, 1)
    value_D = problem.operator(1)(z_D, draws)
    problem.operator(1)(z_D + 1, draws)
    torch.rand(3)
    assert np.array_equal(problem.operator(1)(z_D, draws), value_D)
    assert not np.array_equal(problem.operator(1)(z_D, Draws(0, 5, 1)), value_D)
    parts = [problem.part(1, rank, 2)(z_D, draws) for rank in range(2)]
    np.testing.assert_allclose(np.mean(parts, axis=0), value_D, rtol=1e-9, atol=1e-13)


def test_training_brings_samples_nearer_to_held_out_pictures(images: Images) -> None:
    problem = problem_of(images, precision="float32")
    method = make_method("compressed_optimistic_adam", problem, up=Identity(), down=Identity(), step_size=2e-3)
    found = simulate(problem, method, seed=0, stop=Stop(max_rounds=150, every=150), wire=LoopbackWire())
    before, after = problem.merits(problem.start()), problem.merits(found.replica.z_D)
    assert list(after) == ["frechet", "critic_gap", "natural_residual"]
    assert after == problem.merits(found.replica.z_D)
    assert after["frechet"] < 0.3 * before["frechet"]
    floor = problem.judge.frechet(np.concatenate([rows for (rows,) in problem.data]))
    assert floor < after["frechet"], "real pictures are nearer still"


def test_pictures_are_samples_beside_held_out_ones(images: Images) -> None:
    problem = problem_of(images)
    shown = problem.pictures(problem.start())
    assert shown["samples"].shape == (64, 6, 6)
    held = {picture.tobytes() for picture in shown["real"]}
    trained = {row.tobytes() for (rows,) in problem.data for row in rows.reshape(-1, 6, 6)}
    assert len(trained) == 160
    assert not held & trained
    players = problem.module(problem.start())
    np.testing.assert_array_equal(problem.judge.samples(players, 64), problem.judge.samples(players, 2000)[:64])


def test_a_point_that_is_not_finite_has_merits_that_say_so(images: Images) -> None:
    problem = problem_of(images)
    assert np.isnan(list(problem.merits(np.full(problem.dimension, np.nan)).values())).all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": "huge"}, "size must be one of tiny, small, large, got 'huge'"),
        ({"loss": "lsgan"}, "loss must be one of hinge, wgan_gp, got 'lsgan'"),
        ({"penalty": -1.0}, "penalty must be finite and at least 0, got -1"),
        ({"batch_size": 81}, r"batch_size must lie in 1\.\.80"),
    ],
)
def test_what_does_not_fit_is_named(keys: dict[str, Any], message: str, images: Images) -> None:
    with pytest.raises(ConfigError, match=message):
        problem_of(images, **keys)


def test_it_needs_pictures() -> None:
    with pytest.raises(ConfigError, match=r"digits_gan needs pictures; add a data section"):
        digits_gan(None, num_workers=2)
