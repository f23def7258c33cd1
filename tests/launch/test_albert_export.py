"""The recipes for ALBERT, run over a small text: the model comes back through transformers' own from_pretrained, offline."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saddlebag.algorithms.networks.texts.albert import SHAPES, make_albert
from saddlebag.launch.build import build_problem
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.launch.results.table import Board
from saddlebag.launch.running import run

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="transformers is not installed")

RECIPES = Path(__file__).parents[2] / "launch" / "recipes"
SMALL = (
    "driver=simulate",
    "problem.vocabulary=80",
    "problem.length=16",
    "problem.batch_size=4",
    "stop.max_iterations=2",
    "stop.every=2",
)
WORDS = np.array(["red", "green", "blue", "house", "tree", "sea", "good", "bad", "ugly"])
HEADS = {"albert_wikitext2": "AlbertForMaskedLM", "albert_sst2": "AlbertForSequenceClassification"}


def source(folder: Path, name: str) -> str:
    rng = np.random.default_rng(0)
    drawn = [" ".join(rng.choice(WORDS, size=12)) for _ in range(120)]
    path = folder / ("corpus.txt" if name == "albert_wikitext2" else "corpus.tsv")
    rows = drawn if path.suffix == ".txt" else ["sentence\tlabel", *(f"{line}\t{n % 2}" for n, line in enumerate(drawn))]
    path.write_text("\n".join(rows) + "\n")
    return f"data.source={path}"


@pytest.mark.parametrize("name", HEADS)
def test_a_run_of_the_recipe_ends_with_a_model_for_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import transformers

    recipe = load_recipe(RECIPES / f"{name}.toml", (*SMALL, source(tmp_path, name)))
    run(recipe, tmp_path / "out", Board(["compressed_adamw"], stop=recipe.stop, workers=recipe.workers, title="", quiet=True))
    folder = tmp_path / "out" / "compressed_adamw" / "model"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    model = getattr(transformers, HEADS[name]).from_pretrained(folder, local_files_only=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    inputs = tokenizer(["Red house by the sea", "ugly [MASK]"], padding=True, return_tensors="pt")
    assert int((inputs["input_ids"] == tokenizer.mask_token_id).sum()) == 1
    problem: Any = build_problem(recipe)
    rows_NT = problem.vocabulary.rows(["red HOUSE by the sea", "ugly [MASK]"], 16)
    assert inputs["input_ids"].tolist() == rows_NT[:, : inputs["input_ids"].shape[1]].tolist()
    z_D = np.concatenate([parameter.detach().double().numpy().ravel() for parameter in model.parameters()])
    assert problem.dimension == len(z_D)
    assert 0 < np.abs(z_D - problem.start()).max() < 0.1  # two steps from the start of this seed
    keys = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    with torch.no_grad():
        assert torch.equal(model(**keys).logits, problem.module(z_D)["model"](**keys).logits)
    table = (tmp_path / "out" / "compressed_adamw" / "texts" / "samples.md").read_text().splitlines()
    assert len(table) > 3
    assert all(line.startswith("| ") and line.endswith(" |") for line in (table[0], *table[2:]))


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("name", HEADS)
def test_the_recipe_is_of_any_size_by_one_key(tmp_path: Path, name: str, size: str) -> None:
    """Over a small text, whose vocabulary has few pieces; the network with all pieces is made without memory."""
    corpus = source(tmp_path, name)
    with Path(corpus.removeprefix("data.source=")).open("a") as file:  # enough rows of 512 tokens for every worker
        file.writelines(
            "a good house by the sea\t1\n" if name == "albert_sst2" else "a good house by the sea\n" for _ in range(4000)
        )
    recipe = load_recipe(RECIPES / f"{name}.toml", (f"problem.size={size}", "problem.batch_size=4", corpus))
    problem: Any = build_problem(recipe)
    shape = SHAPES[size]
    with torch.device("meta"):
        few, all_ = (
            make_albert(HEADS[name], shape, pieces=pieces, dropout=0.0, seed=0)
            for pieces in (problem.vocabulary.size, shape.vocabulary)
        )
    fewer = sum(parameter.numel() for parameter in all_.parameters()) - sum(parameter.numel() for parameter in few.parameters())
    per_piece = shape.embedding + (name == "albert_wikitext2")  # the tied output has a bias
    assert fewer == (shape.vocabulary - problem.vocabulary.size) * per_piece
    config = few.config
    assert (config.num_hidden_layers, config.hidden_size) == (shape.layers, shape.hidden)
    assert problem.data[0][0].shape[1] == problem.length
    assert problem.build()["model"].config.num_hidden_layers == shape.layers
