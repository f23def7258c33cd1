"""Adversarial training on pictures: the attack stays in its ball and hurts, and the recipe's problem trains."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from saddlebag.algorithms import METHODS, Stop, simulate
from saddlebag.algorithms.networks.adversary import ascend, climb
from saddlebag.algorithms.networks.images.digits import digits_transformer
from saddlebag.algorithms.networks.images.pictures import Images
from saddlebag.compression import Draws, Identity
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire


@pytest.fixture(scope="module")
def images() -> Images:
    rng = np.random.default_rng(0)
    labels_N = np.arange(100) % 10
    return Images("noise", np.clip(rng.random((100, 8, 8)) * 0.3 + labels_N[:, None, None] / 15, 0, 1), labels_N)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_attack_stays_in_the_ball_and_raises_the_loss_to_its_edge(norm: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.rand(5, 3, 2, generator=generator, dtype=torch.float64) for _ in range(2))

    def loss(point: torch.Tensor) -> torch.Tensor:
        return (point * (w - 0.5)).sum()

    found = ascend(loss, x, eps=0.2, steps=10, step_size=0.1, norm=norm, start=torch.rand(x.shape, generator=generator))
    size = (found - x).abs().amax((1, 2)) if norm == "linf" else (found - x).flatten(1).norm(dim=1)
    assert torch.allclose(size, torch.full_like(size, 0.2), rtol=1e-6)
    best = 0.2 * (w - 0.5).abs().sum() if norm == "linf" else 0.2 * (w - 0.5).flatten(1).norm(dim=1).sum()
    assert float(loss(found) - loss(x)) == pytest.approx(float(best), rel=1e-3 if norm == "linf" else 0.1)
    boxed = ascend(loss, x, eps=0.2, steps=3, step_size=0.2, norm=norm, low=0.0, high=1.0)
    assert float(boxed.min()) >= 0.0
    assert float(boxed.max()) <= 1.0
    way = list(climb(loss, x, eps=0.2, steps=3, step_size=0.1, norm=norm))
    points = [x, *(point for _, point in way)]
    assert [value.item() for value, _ in way] == [float(loss(point)) for point in points[:-1]]
    assert all(float(loss(a)) < float(loss(b)) for a, b in itertools.pairwise(points[:3]))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_nothing_moves_where_nothing_may_or_nothing_helps(norm: Any) -> None:
    x = torch.rand(5, 3, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ascend(lambda point: point.sum(), x, eps=0.0, steps=2, step_size=0.1, norm=norm), x)
    assert torch.equal(ascend(lambda point: (0 * point).sum(), x, eps=0.3, steps=2, step_size=0.1, norm=norm), x)


def test_freelb_averages_the_gradients_along_the_ascent(images: Images) -> None:
    keys: dict[str, Any] = {"num_workers": 2, "attack_steps": 3, "precision": "float64", "batch_size": 8, "eps": 0.2}
    problem: Any = digits_transformer(images, attack="freelb", **keys)
    z_D, draws = problem.start(), Draws(0, 5, 1)
    seen: list[torch.Tensor] = []

    def watched(players: Any, batch: Any, chance: Any) -> torch.Tensor:
        x, y = batch
        seen.clear()

        def loss(point: torch.Tensor) -> torch.Tensor:
            seen.append(point.detach().clone())
            return torch.nn.functional.cross_entropy(players["model"](point), y)

        ball = {"eps": 0.2, "steps": 3, "step_size": 0.5 / 3, "low": 0.0, "high": 1.0}
        for _ in climb(loss, x, start=chance.uniform(8, 8), **ball):
            pass
        return sum(torch.nn.functional.cross_entropy(players["model"](point), y) for point in seen) / 3

    by_hand_D = dataclasses.replace(problem, loss=watched).operator(1)(z_D, draws)
    assert len(seen) == 3
    assert np.allclose(problem.operator(1)(z_D, draws), by_hand_D, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("attack", ["none", "fgsm", "pgd", "freelb"])
def test_every_attack_gives_a_function_with_parts(attack: Any, images: Images) -> None:
    problem = digits_transformer(images, num_workers=2, attack=attack, attack_steps=2, batch_size=8, precision="float64")
    z_D, draws = problem.start(), Draws(0, 5, 1)
    value_D = problem.operator(1)(z_D, draws)
    assert np.array_equal(problem.operator(1)(z_D, draws), value_D)
    parts = [problem.part(1, rank, 2)(z_D, draws) for rank in range(2)]
    assert np.allclose(np.mean(parts, axis=0), value_D, rtol=1e-8, atol=1e-12)


def test_free_training_keeps_each_pictures_perturbation_in_the_ball(images: Images) -> None:
    problem: Any = digits_transformer(images, num_workers=2, attack="free", batch_size=8, precision="float64", eps=0.2)
    operator, z_D = problem.operator(1), problem.start()
    block_E, seen = np.zeros(operator.block_size), np.zeros(40, bool)
    x_NP = problem.data[1][0].reshape(40, -1)
    for round_ in range(12):
        _, block_E = operator.step(z_D, block_E, Draws(0, round_, 1))
        seen |= np.abs(block_E.reshape(40, -1)).max(1) > 0
    assert 8 < seen.sum() <= 40
    assert np.abs(block_E).max() == pytest.approx(0.2, rel=1e-9)
    assert (x_NP + block_E.reshape(40, -1)).min() >= -1e-12
    assert (x_NP + block_E.reshape(40, -1)).max() <= 1 + 1e-12
    model, y_N = problem.module(z_D)["model"], torch.from_numpy(problem.data[1][1])
    losses = [
        float(torch.nn.functional.cross_entropy(model(torch.from_numpy(points).reshape(40, 8, 8)), y_N).detach())
        for points in (x_NP, x_NP + block_E.reshape(40, -1))
    ]
    assert losses[1] > losses[0]


def test_merits_pictures_and_the_plain_module(images: Images) -> None:
    problem: Any = digits_transformer(images, num_workers=2, batch_size=8, eps=0.2)
    z_D = problem.start()
    merits = problem.merits(z_D)
    assert list(merits) == ["robust_error", "clean_error", "loss"]
    assert merits == problem.merits(z_D)
    assert merits["robust_error"] >= merits["clean_error"]
    pictures = problem.pictures(z_D)
    assert np.abs(pictures["attacked"] - pictures["clean"]).max() == pytest.approx(0.2, rel=1e-6)
    assert 0.0 <= pictures["attacked"].min() <= pictures["attacked"].max() <= 1.0
    model = problem.module(z_D)["model"]
    assert sum(parameter.numel() for parameter in model.parameters()) == problem.dimension
    assert model(torch.zeros(2, 8, 8)).shape == (2, 10)


def test_the_attack_raises_the_loss_of_a_network_within_its_ball(images: Images) -> None:
    problem: Any = digits_transformer(images, num_workers=2, batch_size=8, precision="float64")
    model = problem.module(problem.start())["model"]
    x, y = (torch.from_numpy(array) for array in problem.data[0])

    def loss(point: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(point), y)

    losses = [float(loss(x).detach())]
    for steps, stride in ((1, 1.25), (20, 0.125)):
        start = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
        worst = ascend(loss, x, eps=0.1, steps=steps, step_size=0.1 * stride, start=start, low=0.0, high=1.0)
        assert float((worst - x).abs().max()) <= 0.1 * (1 + 1e-12)
        losses.append(float(loss(worst).detach()))
    assert losses[0] < losses[1] < losses[2]


def test_three_rounds_are_the_same_every_time(images: Images) -> None:
    found = []
    for _ in range(2):
        problem: Any = digits_transformer(images, num_workers=2, batch_size=8, precision="float64", dropout=0.1)
        method = METHODS["innovations"](problem, up=Identity(), down=Identity(), step_size=0.05)
        found.append(simulate(problem, method, seed=0, stop=Stop(max_iterations=3, every=3), wire=LoopbackWire()))
    assert np.array_equal(found[0].replica.z_D, found[1].replica.z_D)
    assert found[0].history == found[1].history
    assert not np.array_equal(found[0].replica.z_D, problem.start())


def test_workers_hold_different_pictures_and_none_that_judges(images: Images) -> None:
    problem: Any = digits_transformer(images, num_workers=2, batch_size=8, split="label_skew")
    rows = [x.tobytes() for arrays in problem.data for x in arrays[0]]
    assert len(set(rows)) == len(rows) == 80
    assert not set(rows) & {x.tobytes() for x in problem.judge.images.images_NHW}
    assert set(problem.data[0][1]) != set(problem.data[1][1])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": "huge"}, "size must be one of tiny, small, base, got 'huge'"),
        ({"attack": "cw"}, "attack must be one of none, fgsm, pgd, freelb, free, got 'cw'"),
        ({"eps": 0.0}, "eps must be positive and finite, got 0.0"),
        ({"norm": "l1"}, "norm must be one of linf, l2, got 'l1'"),
        ({"patch": 3}, r"patch must divide the side of square pictures, got 3 for \(8, 8\)"),
        ({"batch_size": 41}, r"batch_size must lie in 1..40"),
    ],
)
def test_what_does_not_fit_is_named(keys: dict[str, Any], message: str, images: Images) -> None:
    with pytest.raises(ConfigError, match=message):
        digits_transformer(images, num_workers=2, **keys)


def test_it_needs_pictures() -> None:
    with pytest.raises(ConfigError, match="digits_transformer needs pictures"):
        digits_transformer(None, num_workers=2)
