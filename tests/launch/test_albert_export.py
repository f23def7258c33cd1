"""An ALBERT trained over a recipe comes back through transformers' own from_pretrained, with its tokenizer, offline."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from saddlebag.launch.build import build_problem
from saddlebag.launch.modules import write_modules
from saddlebag.launch.recipe import recipe_from_dict

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="transformers is not installed")

WORDS = np.array(["red", "green", "blue", "house", "tree", "sea", "good", "bad", "ugly"])


def source(folder: Path, kind: str) -> str:
    rng = np.random.default_rng(0)
    drawn = [" ".join(rng.choice(WORDS, size=12)) for _ in range(60)]
    path = folder / ("corpus.txt" if kind == "albert_mlm" else "corpus.tsv")
    rows = drawn if kind == "albert_mlm" else ["sentence\tlabel", *(f"{line}\t{n % 2}" for n, line in enumerate(drawn))]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("kind", "head"), [("albert_mlm", "AlbertForMaskedLM"), ("albert_sst2", "AlbertForSequenceClassification")]
)
def test_the_model_comes_back_by_from_pretrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, head: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import transformers

    recipe = recipe_from_dict(
        {
            "workers": 2,
            "problem": {"name": kind, "vocabulary": 80, "length": 16, "batch_size": 4},
            "data": {"source": source(tmp_path, kind)},
            "method": {"name": "compressed_sgd", "step_size": 0.1},
            "stop": {"max_rounds": 1},
        }
    )
    problem: Any = build_problem(recipe)
    z_D = problem.start() + 0.01 * np.random.default_rng(1).standard_normal(problem.dimension)
    (folder,) = write_modules(problem, z_D, tmp_path / "out")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    model = getattr(transformers, head).from_pretrained(folder, local_files_only=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    inputs = tokenizer(["Red house by the sea", "ugly [MASK]"], padding=True, return_tensors="pt")
    mask = inputs["input_ids"] == tokenizer.mask_token_id
    assert int(mask.sum()) == 1
    rows_NT = problem.vocabulary.rows(["red HOUSE by the sea", "ugly [MASK]"], 16)
    width = inputs["input_ids"].shape[1]
    assert inputs["input_ids"].tolist() == rows_NT[:, :width].tolist()
    keys = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    with torch.no_grad():
        assert torch.equal(model(**keys).logits, problem.module(z_D)["model"](**keys).logits)
    assert sum(parameter.numel() for parameter in model.parameters()) == problem.dimension
