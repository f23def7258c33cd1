"""Losses of the generator and the critic: closed forms, who gets which gradient, and the penalty's second derivatives."""

from __future__ import annotations

import math

import pytest
import torch

from saddlebag.algorithms.networks.images.gan import GanShape, critic_loss, generator_loss, gradient_norms, players

PIXELS, LATENT, COUNT = 6, 3, 5


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def _nets() -> tuple[torch.nn.Module, torch.nn.Module]:
    made = players(GanShape(LATENT, 7, 2), PIXELS, seed=0)
    return made["generator"].double(), made["critic"].double()


def _data(rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    real = torch.rand(COUNT, PIXELS, generator=rng, dtype=torch.float64)
    noise = torch.randn(COUNT, LATENT, generator=rng, dtype=torch.float64)
    return real, noise, torch.rand(COUNT, 1, generator=rng, dtype=torch.float64)


def test_a_linear_critic_has_closed_forms(rng: torch.Generator) -> None:
    real, fake, mix = (
        torch.rand(COUNT, 2, generator=rng),
        torch.rand(COUNT, 2, generator=rng),
        torch.rand(COUNT, 1, generator=rng),
    )
    slope = torch.tensor([3.0, 4.0])

    def judge(x: torch.Tensor) -> torch.Tensor:
        return (x @ slope)[:, None]

    gap = float((fake @ slope).mean() - (real @ slope).mean())
    assert float(critic_loss(judge, real, fake, mix, loss="wgan_gp", penalty=0.5)) == pytest.approx(gap + 0.5 * 16, rel=1e-5)
    hinge = float((1 - real @ slope).clamp(min=0).mean() + (1 + fake @ slope).clamp(min=0).mean())
    assert float(critic_loss(judge, real, fake, mix, loss="hinge", penalty=0.5)) == pytest.approx(hinge + 0.25 * 25, rel=1e-5)
    assert float(generator_loss(judge, fake)) == pytest.approx(-float((fake @ slope).mean()), rel=1e-6)


def test_the_penalty_lies_between_pictures_and_samples(rng: torch.Generator) -> None:
    real, fake = torch.zeros(COUNT, 1), torch.ones(COUNT, 1)

    def judge(x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x.square()  # |D'(u)| = u

    mix = torch.linspace(0, 1, COUNT)[:, None]
    value = float(critic_loss(judge, real, fake, mix, loss="wgan_gp", penalty=2.0).detach())
    assert value == pytest.approx(0.5 + 2 * float((mix - 1).square().mean()), rel=1e-5)


def test_gradient_norms_are_finite_where_the_critic_is_flat() -> None:
    weight = torch.zeros(2, requires_grad=True)
    norms = gradient_norms(lambda x: (x @ weight)[:, None], torch.rand(3, 2))
    (norms - 1).square().mean().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert all(math.isfinite(value) for value in weight.grad)


@pytest.mark.parametrize(("loss", "penalty"), [("hinge", 0.0), ("hinge", 2.0), ("wgan_gp", 0.0), ("wgan_gp", 10.0)])
def test_gradients_are_finite_differences(loss: str, penalty: float, rng: torch.Generator) -> None:
    """The penalty's gradient needs second derivatives of the critic; central differences in float64 know nothing of them."""
    made, judged = _nets()
    real, noise, mix = _data(rng)

    def value() -> torch.Tensor:
        return critic_loss(judged, real, made(noise), mix, loss=loss, penalty=penalty)  # type: ignore[arg-type]

    parameters = list(judged.parameters())
    gradients = torch.autograd.grad(value(), parameters)
    directions = [torch.randn(p.shape, generator=rng, dtype=torch.float64) for p in parameters]
    step, values = 1e-5, []
    for sign in (1, -2):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p += sign * step * d
        values.append(float(value().detach()))
    expected = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_the_critics_loss_moves_the_critic_alone(rng: torch.Generator) -> None:
    made, judged = _nets()
    real, noise, mix = _data(rng)
    loss = critic_loss(judged, real, made(noise), mix, loss="wgan_gp", penalty=1.0)
    assert torch.autograd.grad(loss, list(made.parameters()), allow_unused=True) == (None,) * 6


def test_samples_are_pictures(rng: torch.Generator) -> None:
    made, judged = _nets()
    samples = made(10 * _data(rng)[1])
    assert samples.shape == (COUNT, PIXELS)
    assert samples.min() >= 0
    assert samples.max() <= 1
    assert judged(samples).shape == (COUNT, 1)
