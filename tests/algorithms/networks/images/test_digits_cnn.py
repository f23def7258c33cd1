"""The convolutional network against perturbations: a function in parts, judged by PGD, and its recipe on idx files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saddlebag.algorithms import simulate
from saddlebag.algorithms.networks.images.convolutional import SHAPES, convolutional
from saddlebag.algorithms.networks.images.digits_cnn import digits_cnn
from saddlebag.algorithms.networks.images.pictures import Images
from saddlebag.compression import Draws
from saddlebag.errors import ConfigError
from saddlebag.launch.build import build_method, build_problem
from saddlebag.launch.data.images import read_images
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.proto.codec import LoopbackWire

RECIPE = Path(__file__).parents[4] / "saddlebag" / "recipes" / "mnist_cnn.toml"


@pytest.fixture(scope="module")
def images() -> Images:
    """Three rows of pixels are lit, at a height that says the class: easy, so that few rounds learn it."""
    rng = np.random.default_rng(0)
    labels_N = np.arange(120) % 10
    pixels_NHW = 0.1 * rng.random((120, 12, 12))
    for picture_HW, label in zip(pixels_NHW, labels_N, strict=True):
        picture_HW[label : label + 3] += 0.9
    return Images("rows", np.clip(pixels_NHW, 0, 1), labels_N)


@pytest.mark.parametrize(("size", "count"), [("tiny", 13_494), ("small", 166_406), ("base", 1_644_650)])
def test_the_sizes_have_as_many_parameters_as_the_page_says(size: str, count: int) -> None:
    network = convolutional(28, 28, shape=SHAPES[size], seed=1)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    again = convolutional(28, 28, shape=SHAPES[size], seed=1)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    weight = next(parameter for parameter in network.parameters() if parameter.numel() >= 512)
    assert float(weight.detach().std()) == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=0.1)


@pytest.mark.parametrize("attack", ["none", "pgd", "free"])
def test_it_is_a_function_with_parts(attack: Any, images: Images) -> None:
    keys: dict[str, Any] = {"attack": attack, "attack_steps": 2, "batch_size": 8, "precision": "float64", "size": "tiny"}
    problem: Any = digits_cnn(images, num_workers=2, **keys)
    z_D, draws = problem.start(), Draws(0, 5, 1)
    if attack == "free":
        operator = problem.operator(1)
        _, block_E = operator.step(z_D, np.zeros(operator.block_size), draws)
        assert 0 < np.abs(block_E).max() <= 0.1 * (1 + 1e-9)
        return
    value_D = problem.operator(1)(z_D, draws)
    assert np.array_equal(problem.operator(1)(z_D, draws), value_D)
    parts = [problem.part(1, rank, 2)(z_D, draws) for rank in range(2)]
    assert np.allclose(np.mean(parts, axis=0), value_D, rtol=1e-8, atol=1e-12)


def test_more_steps_judge_harder_and_pictures_in_parts_judge_alike(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: dict[str, Any] = {"num_workers": 2, "size": "tiny", "batch_size": 8, "eps": 0.2, "precision": "float64"}
    one: Any = digits_cnn(images, judge_steps=1, **keys)
    many: Any = digits_cnn(images, judge_steps=40, **keys)
    z_D = one.start()
    losses = []
    for problem in (one, many):
        with problem.evaluation.at(z_D) as players:
            clean, attacked = problem.judge.attacked(players["model"], 24)
            assert np.abs(attacked - clean).max() <= 0.2 * (1 + 1e-12)
            y = torch.from_numpy(problem.judge.images.labels_N[:24])
            scores = players["model"](torch.from_numpy(attacked)).detach()
            losses.append(float(torch.nn.functional.cross_entropy(scores, y)))
    assert losses[0] < losses[1]
    whole = many.merits(z_D)
    monkeypatch.setattr("saddlebag.algorithms.networks.images.adversarial._AT_ONCE", 7)
    assert many.merits(z_D) == pytest.approx(whole, rel=1e-12)


def test_the_radius_of_training_grows_with_the_rounds(images: Images) -> None:
    """At a round before the end of the warm-up the operator is that of the smaller radius, and the judge's radius stays."""
    keys: dict[str, Any] = {"num_workers": 2, "size": "tiny", "batch_size": 8, "attack_steps": 2, "precision": "float64"}
    grown: Any = digits_cnn(images, eps=0.2, eps_warmup=10, **keys)
    z_D = grown.start()
    for round_, eps in ((0, 0.02), (4, 0.1), (9, 0.2), (30, 0.2)):
        for number in (round_, round_ + 3 * 2**48):  # a step of a worker's own within the round
            plain = digits_cnn(images, eps=eps, **keys).operator(1)(z_D, Draws(0, number, 1))
            assert np.allclose(grown.operator(1)(z_D, Draws(0, number, 1)), plain, rtol=1e-9, atol=1e-14)
    assert grown.judge.ball.eps == 0.2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": "huge"}, "size must be one of tiny, small, base, got 'huge'"),
        ({"judge_steps": 0}, "judge_steps must be at least 1, got 0"),
        ({"judged": 0}, "judged must be at least 1, got 0"),
        ({"attack_steps": 0}, "attack_steps must be at least 1, got 0"),
        ({"eps_warmup": -1}, "eps_warmup must be at least 0, .* got -1"),
        ({"eps_warmup": 5, "attack": "free"}, "is for attacks that begin anew in every round, got 5"),
        ({"eps": float("inf")}, "eps must be positive and finite, got inf"),
    ],
)
def test_what_does_not_fit_is_named(keys: dict[str, Any], message: str, images: Images) -> None:
    with pytest.raises(ConfigError, match=message):
        digits_cnn(images, num_workers=2, **keys)


def test_it_needs_pictures_of_some_size() -> None:
    with pytest.raises(ConfigError, match="digits_cnn needs pictures; add a data section"):
        digits_cnn(None, num_workers=2)
    with pytest.raises(ConfigError, match="at least 4 x 4 pixels, got 3 x 8"):
        digits_cnn(Images("thin", np.zeros((20, 3, 8)), np.arange(20) % 10), num_workers=2)


def test_the_judges_are_as_many_as_asked(images: Images) -> None:
    problem: Any = digits_cnn(images, num_workers=2, batch_size=8, judged=7)
    assert len(problem.judge.images.labels_N) == 7
    assert [len(rows) for rows in images.divide(5)] == [5, 96]


def write_idx(folder: Path, images: Images, held_out: int) -> None:
    """MNIST's four files, of these pictures."""
    pixels = np.round(255 * images.images_NHW).astype(np.uint8)
    for word, part in (("t10k", slice(held_out)), ("train", slice(held_out, None))):
        for kind, array in (("images-idx3", pixels[part]), ("labels-idx1", images.labels_N[part].astype(np.uint8))):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{word}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))


def test_the_recipe_learns_to_resist_from_files_by_path(images: Images, tmp_path: Path) -> None:
    """Compressed both ways: after 100 rounds four of five pictures are right under PGD, of which a start has a tenth."""
    write_idx(tmp_path, images, 20)
    small = ("problem.size=tiny", "problem.batch_size=12", "problem.attack_steps=2", "problem.eps_warmup=20", "workers=2")
    short = ("method.warmup=10", "method.total=100", "stop.max_iterations=100", "stop.every=100", "problem.eps=0.2")
    recipe = load_recipe(RECIPE, [f"data.source={tmp_path}", *small, *short])
    problem: Any = build_problem(recipe)
    assert len(problem.judge.images.labels_N) == len(read_images(str(tmp_path)).labels_N) - 100 == 20
    assert problem.judge.steps == 40
    run = simulate(problem, build_method(recipe, problem), seed=0, stop=recipe.stop, wire=LoopbackWire())
    errors = [problem.merits(z_D)["robust_error"] for z_D in (problem.start(), run.replica.z_D)]
    assert errors[0] >= 0.5
    assert errors[-1] <= 0.2
    assert run.up_bytes < run.rounds * 2 * problem.dimension * 4 / 8
