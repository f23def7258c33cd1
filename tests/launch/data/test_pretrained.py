"""Weights by path: training begins at them, heads are new, what does not fit is named, and no pickle is read."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import saddlebag as sb
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.build import build_problem
from saddlebag.launch.data.pretrained import read_pretrained
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.launch.results.table import Board
from saddlebag.launch.running import run

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="transformers is not installed")

RECIPE = Path(__file__).parents[3] / "saddlebag" / "recipes" / "albert_pretrained_sst2.toml"
SHORT = ("problem.length=16", "problem.batch_size=4", "stop.max_iterations=2", "stop.every=2", "driver=simulate")
LINES = tuple(f"a {'good' if n % 2 else 'bad'} house by the sea number {n}" for n in range(60))
SIZE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as transformers writes them: an ALBERT with the head of its pre-training, a bare BERT; and sentences."""
    import transformers

    from saddlebag.algorithms.networks.texts.vocabulary import Vocabulary

    folder = tmp_path_factory.mktemp("weights")
    vocabulary = Vocabulary.learn(LINES, 80)
    ids = {
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "vocab_size": vocabulary.size,
        "max_position_embeddings": 32,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        albert = transformers.AlbertForMaskedLM(transformers.AlbertConfig(embedding_size=16, **SIZE, **ids))
        bert = transformers.BertModel(transformers.BertConfig(**SIZE, **ids))
    for name, model in (("albert", albert), ("bert", bert)):
        model.save_pretrained(folder / name)
        vocabulary.pretrained(32).save_pretrained(folder / name)
    rows = ["sentence\tlabel", *(f"{line}\t{n % 2}" for n, line in enumerate(LINES))]
    (folder / "corpus.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def copy_of(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / folder.name))


def rewrite(folder: Path, **changes: Any) -> None:
    """Change tensors of a folder: a tensor, or None to take it out."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors") | changes
    save_file({name: value for name, value in tensors.items() if value is not None}, folder / "model.safetensors")


def problem_of(made: Path, name: str, *sets: str) -> Any:
    return build_problem(
        load_recipe(RECIPE, [f"data.source={made / 'corpus.tsv'}", f"problem.init={made / name}", *SHORT, *sets])
    )


@pytest.mark.parametrize(("name", "new"), [("albert", 4), ("bert", 2)])
def test_training_begins_at_the_weights(made: Path, name: str, new: int) -> None:
    from safetensors.torch import load_file

    problem = problem_of(made, name)
    model = problem.module(problem.start())["model"]
    kept = load_file(made / name / "model.safetensors")
    own = {key: value for key, value in model.state_dict().items() if not key.startswith("classifier") and "pooler" not in key}
    for key, value in own.items():
        if value.is_floating_point():
            assert torch.equal(value, kept[key if key in kept else key.removeprefix(f"{name}.")]), key
    assert len(problem.notes[0].partition("new are ")[2].split(", ")) == new
    assert np.array_equal(problem.start(), problem_of(made, name).start())  # the new head, too
    assert not np.array_equal(problem.start(), problem_of(made, name, "problem.seed=1").start())


def test_rows_are_those_of_the_folders_own_tokenizer(made: Path) -> None:
    import transformers

    problem = problem_of(made, "albert")
    tokenizer = transformers.AutoTokenizer.from_pretrained(made / "albert", local_files_only=True)
    wanted = tokenizer(list(LINES[:5]), padding="max_length", truncation=True, max_length=16)["input_ids"]
    assert problem.vocabulary.rows(LINES[:5], 16).tolist() == wanted
    assert problem.vocabulary.shown(np.array(wanted[0], np.int32)).startswith("a bad house by the sea number")


@pytest.mark.parametrize("attack", ["freelb", "free"])
def test_a_run_ends_with_a_folder_that_the_next_one_begins_at(made: Path, tmp_path: Path, attack: str) -> None:
    sets = [f"data.source={made / 'corpus.tsv'}", f"problem.init={made / 'bert'}", *SHORT, f"problem.attack={attack}"]
    recipe = load_recipe(RECIPE, [*sets, "problem.replays=2", "method.step_size=1e-3"])
    run(recipe, tmp_path / "out", Board(["compressed_adamw"], stop=recipe.stop, workers=recipe.workers, title="", quiet=True))
    folder = tmp_path / "out" / "compressed_adamw" / "model"
    again = problem_of(made, "bert", f"problem.init={folder}")
    assert again.notes == ("weights of 'model', all of them",)
    first = problem_of(made, "bert")
    assert again.dimension == first.dimension
    assert 0 < np.abs(again.start() - first.start()).max() < 0.1


def test_the_digest_is_of_the_weights_not_of_the_path(made: Path, tmp_path: Path) -> None:
    def digest(folder: Path) -> str:
        return load_recipe(RECIPE, [f"data.source={made / 'corpus.tsv'}", f"problem.init={folder}"]).digest()

    copy = copy_of(made / "albert", tmp_path)
    (copy / "README.md").write_text("what a hub adds")
    assert digest(copy) == digest(made / "albert")
    other = copy_of(made / "albert", tmp_path / "other")
    rewrite(other, **{"albert.pooler.bias": torch.zeros(32)})
    assert digest(other) != digest(made / "albert")


def test_from_python_a_path_does_too(made: Path) -> None:
    keys: dict[str, Any] = {"data": str(made / "corpus.tsv"), "workers": 2, "batch_size": 4, "length": 16}
    problem: Any = sb.make_problem("albert_sst2", init=str(made / "bert"), **keys)
    assert np.array_equal(problem.start(), problem_of(made, "bert").start())


def test_shards_by_an_index_are_one(made: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy_of(made / "bert", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"model-{1 + n % 2}.safetensors" for n, name in enumerate(names)}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    found = read_pretrained(folder).tensors
    assert sorted(found) == names
    assert all(torch.equal(found[name], tensors[name]) for name in names)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../corpus.safetensors"}}))
    with pytest.raises(DataError, match=r"must give names of \.safetensors files in the same folder"):
        read_pretrained(folder)


def test_no_folder_and_no_weights_say_the_command(made: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"problem: init must be a folder .* got '.*nowhere'; one is downloaded by: hf download"
    ):
        problem_of(made, "nowhere")
    folder = copy_of(made / "albert", tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model.bin: weights are read from safetensors only.*save_pretrained"):
        read_pretrained(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(DataError, match=r"there is no model.safetensors; it is downloaded by: hf download"):
        read_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(DataError, match="is no safetensors file"):
        read_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"albert.embeddings.word_embeddings.weight": torch.zeros(9, 16)},
            r"albert.embeddings.word_embeddings.weight has shape \(9, 16\), by config.json it must be \(\d+, 16\)",
        ),
        ({"albert.embeddings.word_embeddings.weight": None}, "the weights lack albert.embeddings.word_embeddings.weight"),
        ({"albert.encoder.extra.weight": torch.zeros(2)}, "the weights have albert.encoder.extra.weight, which the model of"),
        ({"albert.pooler.bias": torch.full((32,), float("nan"))}, "albert.pooler.bias has values that are not finite"),
        ({"predictions.bias": torch.zeros(3).to(torch.float8_e4m3fn)}, "is of type torch.float8_e4m3fn; weights must have 16"),
    ],
)
def test_tensors_that_do_not_fit_are_named(made: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = copy_of(made / "albert", tmp_path)
    rewrite(folder, **changes)
    with pytest.raises(DataError, match=message):
        problem_of(made, str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "nonsense"}, "transformers knows no model of model_type 'nonsense'"),
        ({"model_type": None}, "transformers knows no model of model_type None"),
        ({"pad_token_id": None}, "must name the padding of texts, a pad_token_id, got None"),
        ({"vocab_size": 5}, "tokenizer.json has .* pieces, config.json a vocab_size of 5"),
        ({"num_hidden_layers": 10**9}, "announces 1000000000 layers, allowed are 1000"),
        ({"quantization_config": {}}, "its weights are quantised"),
    ],
)
def test_configurations_that_do_not_fit_are_named(made: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = copy_of(made / "albert", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises((ConfigError, DataError), match=message):
        problem_of(made, str(folder))


def test_the_folders_own_code_is_not_run(made: Path, tmp_path: Path) -> None:
    folder = copy_of(made / "albert", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil.Model", "AutoConfig": "evil.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    assert np.array_equal(problem_of(made, str(folder)).start(), problem_of(made, "albert").start())


def test_keys_that_the_weights_decide_are_refused(made: Path) -> None:
    with pytest.raises(ConfigError, match="size and vocabulary do not apply"):
        problem_of(made, "albert", "problem.vocabulary=100")
    with pytest.raises(ConfigError, match=r"length must lie in 4..32 tokens, which the weights of 'albert' are for, got 33"):
        problem_of(made, "albert", "problem.length=33")
