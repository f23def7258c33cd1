"""ALBERT on texts: masks as published, an operator that is a function and divides, attacks within their ball, training."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import saddlebag as sb
from saddlebag.algorithms import Stop, make_method
from saddlebag.algorithms.networks.chance import Chance, seed_of
from saddlebag.algorithms.networks.texts.albert import SHAPES, make_albert, shape_of
from saddlebag.algorithms.networks.texts.albert_mlm import albert_mlm, masked, masked_loss
from saddlebag.algorithms.networks.texts.albert_sst2 import albert_sst2
from saddlebag.algorithms.networks.texts.embeddings import EmbeddingAttack
from saddlebag.algorithms.networks.texts.text import Sentences, Text
from saddlebag.algorithms.networks.texts.vocabulary import CLS, MASK, PAD, SEP, SPECIAL
from saddlebag.compression import Draws, make_compressor
from saddlebag.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="transformers is not installed")

SMALL: dict[str, Any] = {"num_workers": 2, "vocabulary": 128, "length": 16, "batch_size": 4, "judged": 20}
SYLLABLES = ("ka", "lo", "mi", "nu", "pe", "ro", "su", "ti", "va", "zo")
WORDS = tuple(first + second for first in SYLLABLES for second in SYLLABLES if first < second)


def lines(count: int, seed: int) -> tuple[str, ...]:
    """One word again and again: whoever looks at the others knows it, whoever does not guesses among 45."""
    return tuple(" ".join([WORDS[word]] * 13) for word in np.random.default_rng(seed).integers(len(WORDS), size=count))


@pytest.fixture(scope="module", autouse=True)
def smaller() -> Any:
    """A size that a test can train."""
    patch = pytest.MonkeyPatch()
    tiny = dataclasses.replace(SHAPES["tiny"], hidden=32, intermediate=32, embedding=16, heads=2)
    patch.setitem(SHAPES, "tiny", tiny)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def text() -> Text:
    return Text("toy", lines(200, 0), lines(40, 1))


@pytest.fixture(scope="module")
def sentences() -> Sentences:
    """Class 1 where a word begins with "ka"."""
    rng = np.random.default_rng(2)
    drawn = tuple(" ".join(rng.choice(WORDS, size=rng.integers(1, 9))) for _ in range(240))
    labels = tuple(int(" ka" in f" {sentence}") for sentence in drawn)
    return Sentences("toy", drawn[:200], labels[:200], drawn[200:], labels[200:])


def test_masks_choose_and_show_what_was_published() -> None:
    rows, length, pieces = 400, 66, 1000
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(len(SPECIAL), pieces, (rows, length), generator=generator)
    ids[:, 0], ids[:, -1] = CLS, SEP
    hidden, places = masked(ids, torch.rand(rows, 3, length, generator=generator), pieces)
    assert places.shape == (rows, round(0.15 * 64))
    assert all(len(set(row.tolist())) == places.shape[1] for row in places)
    assert 1 <= int(places.min()) <= int(places.max()) <= length - 2  # never [CLS] or the last [SEP]
    untouched = torch.ones_like(ids, dtype=torch.bool).scatter(1, places, False)
    assert torch.equal(hidden[untouched], ids[untouched])
    shown, was = hidden.gather(1, places), ids.gather(1, places)
    mask, same = (shown == MASK).double().mean(), (shown == was).double().mean()
    spread = 6 * (0.16 / places.numel()) ** 0.5  # six standard deviations
    assert abs(float(mask) - 0.8) < spread
    assert abs(float(same) - 0.1 - 0.1 / pieces) < spread
    assert int(shown[shown != MASK].min()) >= len(SPECIAL)
    assert int(shown.max()) < pieces


def test_the_loss_is_that_of_the_library(text: Text) -> None:
    """Scores at chosen places only, against transformers' own loss with labels elsewhere ignored."""
    problem = albert_mlm(text, **SMALL, precision="float64")
    model: Any = problem.module(problem.start())["model"]
    ids = torch.from_numpy(problem.data[0][0][:5]).long()
    hidden, places = masked(ids, Chance(3, 5, slice(None)).uniform(3, 16), model.config.vocab_size)
    labels = torch.full_like(ids, -100).scatter(1, places, ids.gather(1, places))
    expected = model(input_ids=hidden, labels=labels).loss
    found = masked_loss(model, ids, Chance(3, 5, slice(None)), EmbeddingAttack())
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)


def both(text: Text, sentences: Sentences, **keys: Any) -> list[Any]:
    return [factory(data, **{**SMALL, **keys}) for factory, data in ((albert_mlm, text), (albert_sst2, sentences))]


@pytest.mark.parametrize("attack", ["none", "pgd", "freelb"])
def test_the_operator_is_a_function_and_divides_among_ranks(text: Text, sentences: Sentences, attack: str) -> None:
    radius = 0.0 if attack == "none" else 0.05
    keys = {"attack": attack, "eps": radius, "attack_steps": 2, "precision": "float64", "batch_size": 8, "dropout": 0.0}
    for problem in both(text, sentences, **keys):
        z_D, draws = problem.start(), Draws(1, 5, 1)
        problem.operator(0)(z_D + 1.0, draws)
        whole_D = problem.operator(1)(z_D, draws)
        assert np.array_equal(whole_D, problem.operator(1)(z_D, draws))
        parts_D = np.mean([problem.part(1, rank, 4)(z_D, draws) for rank in range(4)], axis=0)
        assert np.linalg.norm(parts_D - whole_D) < 1e-10 * np.linalg.norm(whole_D)


def test_dropout_comes_from_the_key(sentences: Sentences) -> None:
    problem = albert_sst2(sentences, **SMALL, dropout=0.5)
    z_D, F = problem.start(), problem.operator(0)
    value_D = F(z_D, Draws(0, 1, 0))
    before = torch.random.get_rng_state()
    torch.rand(3)
    assert np.array_equal(F(z_D, Draws(0, 1, 0)), value_D)
    torch.random.set_rng_state(before)
    same_batch = albert_sst2(sentences, **SMALL, dropout=0.0).operator(0)(z_D, Draws(0, 1, 0))
    assert not np.allclose(same_batch, value_D)


def test_the_gradient_under_attack_moves_the_embeddings_too(text: Text) -> None:
    """Against differences of the loss at E_theta(x) + rho with the rho found at z: rho is held, E_theta is not."""
    problem = albert_mlm(text, **SMALL, attack="pgd", eps=0.1, attack_steps=3, precision="float64")
    attack = EmbeddingAttack(attack="pgd", eps=0.1, steps=3)
    z_D, draws = problem.start(), Draws(0, 0, 0)
    value_D = problem.operator(0)(z_D, draws)
    found: list[torch.Tensor] = []
    original = EmbeddingAttack.worst

    def keep(self: EmbeddingAttack, value: Callable[..., Any], e_BTE: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        if not found:
            found.append((original(self, value, e_BTE, start) - e_BTE).detach())
        return e_BTE + found[0]

    losses: list[float] = []

    def watched(players: Any, batch: Any, chance: Any) -> Any:
        loss = masked_loss(players["model"], batch[0], chance, attack)
        losses.append(float(loss.detach()))
        return loss

    watched_problem = dataclasses.replace(problem, loss=watched)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmbeddingAttack, "worst", keep)
        watched_problem.start()  # which asks the loss, too
        losses.clear()
        found.clear()
        watched_problem.operator(0)(z_D, draws)
        step_D = np.zeros_like(z_D)
        words = next(tensor.size for tensor in problem.tensors if "word_embeddings" in tensor.name)
        step_D[:words] = 1e-5 * np.random.default_rng(0).standard_normal(words)
        for sign in (1.0, -1.0):
            watched_problem.operator(0)(z_D + sign * step_D, draws)
    assert (losses[1] - losses[2]) / 2 == pytest.approx(float(value_D @ step_D), rel=1e-5)
    assert float(found[0].flatten(1).norm(dim=1).max()) <= 0.1 * (1 + 1e-12)


def test_freelb_averages_the_gradients_along_the_ascent() -> None:
    """On a loss whose gradient is known: value(e) = sum of w e, so every point's gradient in e is w."""
    e = torch.zeros(2, 3, 4, dtype=torch.float64, requires_grad=True)
    w = torch.arange(24, dtype=torch.float64).view(2, 3, 4) - 11.5
    attack = EmbeddingAttack(attack="freelb", eps=0.6, norm="linf", steps=3)
    loss = attack.loss(lambda point: (w * point).sum(), e, lambda: torch.full((2, 3, 4), 0.5))
    loss.backward()
    assert e.grad is not None
    assert torch.allclose(e.grad, w, rtol=1e-15)
    assert float(loss.detach()) == pytest.approx(float(w.abs().sum()) * (0.0 + 0.3 + 0.6) / 3)


def test_free_keeps_a_perturbation_for_each_place_of_the_batch(text: Text, sentences: Sentences) -> None:
    """At a kept block of zeros the value is that without attack; a step raises the loss on the same batch within the ball."""
    for problem, plain in zip(
        both(text, sentences, attack="free", eps=0.1, replays=3, dropout=0.0, precision="float64"),
        both(text, sentences, replays=3, dropout=0.0, precision="float64"),
        strict=True,
    ):
        z_D, keeper = problem.start(), problem.operator(0)
        block_E = np.zeros(keeper.block_size)
        assert block_E.size == 4 * 16 * 16
        value_D, moved_E = keeper.step(z_D, block_E, Draws(0, 0, 0))
        assert np.array_equal(value_D, plain.operator(0)(z_D, Draws(0, 0, 0)))
        sizes = np.linalg.norm(moved_E.reshape(4, -1), axis=1)
        assert sizes == pytest.approx(0.1)
        handed_E = keeper.step(z_D, np.ones(keeper.block_size), Draws(0, 0, 0))[1].reshape(4, 16, 16)
        padding = problem.data[0][0][problem.evaluation.rows(0, Draws(0, 0, 0))] == PAD
        assert not handed_E[padding].any()
        assert np.linalg.norm(handed_E.reshape(4, -1), axis=1) == pytest.approx(0.1)
        before, after = (float(problem.loss(*arguments).detach()) for arguments in loss_at(problem, block_E, moved_E))
        assert after > before
        full = make_compressor("identity")
        method = make_method("compressed_adamw", problem, step_size=0.001, up=full, down=full)
        assert sb.simulate(problem, method, stop=Stop(max_rounds=4, every=4)).rounds == 4


def loss_at(problem: Any, *blocks: np.ndarray) -> Any:
    """The arguments of the loss on the first batch, at each of the blocks."""
    draws = Draws(0, 0, 0)
    model = problem.module(problem.start())
    batch = tuple(torch.from_numpy(array[problem.evaluation.rows(0, draws)]) for array in problem.data[0])
    for block_E in blocks:
        leaf = torch.from_numpy(block_E.reshape(4, 16, 16))
        yield model, (*batch, leaf), Chance(seed_of(draws), 4, slice(None))


def test_training_with_compression_learns_to_look_at_other_words(text: Text) -> None:
    problem = albert_mlm(text, **{**SMALL, "batch_size": 16})
    grid = make_compressor("grid", step=0.25, block=128)
    method = make_method("compressed_adamw", problem, step_size=0.01, up=grid, down=grid)
    run = sb.simulate(problem, method, stop=Stop(max_iterations=150, every=150))
    after = run.history[-1].merits
    assert problem.merits(problem.start())["loss"] == pytest.approx(np.log(problem.vocabulary.size), rel=0.05)
    assert after is not None
    assert after["loss"] < np.log(len(WORDS)) / 2
    assert after["perplexity"] == pytest.approx(np.exp(after["loss"]))


def test_classification_learns_and_the_attack_hurts(sentences: Sentences) -> None:
    problem = albert_sst2(sentences, **{**SMALL, "batch_size": 16}, eps=0.5, attack_steps=3, dropout=0.0)
    full = make_compressor("identity")
    method = make_method("compressed_adamw", problem, step_size=0.01, up=full, down=full)
    run = sb.simulate(problem, method, stop=Stop(max_iterations=100, every=100))
    merits = run.history[-1].merits
    assert merits is not None
    assert list(merits) == ["robust_error", "clean_error", "loss"]
    assert merits["clean_error"] <= 0.15
    assert merits["robust_error"] >= merits["clean_error"]
    model: Any = problem.module(run.replica.z_D)["model"]
    rows = torch.from_numpy(problem.vocabulary.rows(sentences.dev[:20], 16)).long()
    scores = model(input_ids=rows, attention_mask=(rows != 0).long()).logits
    wrong = (scores.argmax(1).numpy() != np.array(sentences.dev_labels[:20])).mean()
    assert wrong <= 0.3
    assert functional.cross_entropy(scores, torch.tensor(sentences.dev_labels[:20])) < 0.6


def test_sizes_are_those_published() -> None:
    for size, published in (("base", 11_683_584), ("large", 17_683_968)):
        shape = SHAPES[size]
        assert (shape.vocabulary, shape.length, shape.embedding) == (30000, 512, 128)
        with torch.device("meta"):
            model = make_albert("AlbertModel", shape, pieces=30000, dropout=0.0, seed=0)
        assert sum(parameter.numel() for parameter in model.parameters()) == published


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": "huge"}, "size must be one of tiny, small, base, large, got 'huge'"),
        ({"length": 2}, "length must be at least 4 tokens, got 2"),
        ({"vocabulary": 5}, "vocabulary must have at least 64 pieces, got 5"),
        ({"attack": "fgsm"}, "attack must be one of none, pgd, freelb, free, got 'fgsm'"),
        ({"attack": "pgd"}, "attack 'pgd' needs a radius; set eps above 0"),
        ({"attack": "free", "eps": 0.1}, "set replays to 2 or more, got 1"),
        ({"eps": -1.0}, "eps must be 0 or more"),
        ({"norm": "l1"}, "norm must be one of"),
        ({"dropout": 1.0}, "dropout must lie in"),
        ({"judged": 0}, "judged be at least 1"),
        ({"batch_size": 10**6}, "batch_size must lie in"),
        ({"precision": "float16"}, "precision must be one of"),
    ],
)
def test_bad_parameters_are_named(text: Text, sentences: Sentences, keys: dict[str, Any], message: str) -> None:
    for factory, data in ((albert_mlm, text), (albert_sst2, sentences)):
        with pytest.raises(ConfigError, match=message):
            factory(data, **{**SMALL, **keys})


def test_missing_and_short_texts() -> None:
    with pytest.raises(ConfigError, match="albert_mlm needs a text"):
        albert_mlm(None, num_workers=1)
    with pytest.raises(ConfigError, match="albert_sst2 needs sentences"):
        albert_sst2(None, num_workers=1)
    with pytest.raises(DataError, match="short: the text fills 0 rows of 16 tokens"):
        albert_mlm(Text("short", ("kalo",), ("mi",)), **SMALL)


def test_a_size_by_its_numbers() -> None:
    shape = shape_of({"hidden": 64, "heads": 2, "layers": 1, "vocabulary": 300}, 0, 16)
    assert (shape.hidden, shape.heads, shape.layers, shape.vocabulary, shape.length) == (64, 2, 1, 300, 16)
    assert shape.intermediate == SHAPES["tiny"].intermediate


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ({"hiden": 64}, "a key of size must be one of .*hidden.*, got 'hiden'"),
        ({"hidden": 6.5}, r"size\.hidden must be a whole number of at least 1, got 6\.5"),
        ({"layers": 0}, r"size\.layers must be a whole number of at least 1, got 0"),
        ({"hidden": 100, "heads": 3}, "size.hidden must be a multiple of size.heads, got 100 and 3"),
        ("huge", "size must be one of tiny"),
    ],
)
def test_a_size_that_is_none_is_refused(size: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        shape_of(size, 0, 0)
