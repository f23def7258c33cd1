"""Networks as files: every name of the plain model's state_dict, loaded strictly, with the same outputs bit for bit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from torch import nn

from saddlebag.algorithms import Verdict
from saddlebag.algorithms.networks.game import ModuleGame
from saddlebag.algorithms.networks.images.digits import digits_transformer
from saddlebag.algorithms.networks.images.pictures import Images
from saddlebag.algorithms.networks.images.vision import SHAPES, VisionTransformer
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.launch.results.outputs import Outputs
from saddlebag.launch.results.shown import write_modules

if TYPE_CHECKING:
    from pathlib import Path


class Tied(nn.Module):
    """Two layers with one matrix, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("count", torch.arange(3))


class Pretrained(nn.Linear):
    """Saves itself, as the models of transformers do."""

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")


@dataclasses.dataclass(frozen=True)
class Replica:
    z_D: np.ndarray
    iteration: int = 9


def test_a_transformer_comes_back_at_the_end_of_a_run(tmp_path: Path) -> None:
    images = Images("noise", np.random.default_rng(0).random((50, 8, 8)), np.arange(50) % 10)
    problem: Any = digits_transformer(images, num_workers=2, batch_size=4)
    recipe = recipe_from_dict(
        {
            "workers": 2,
            "problem": {"name": "digits_transformer"},
            "method": {"name": "compressed_sgd", "step_size": 0.1},
            "stop": {"max_rounds": 9},
        }
    )
    z_D = problem.start() + 0.01
    with Outputs(recipe, problem, tmp_path) as outputs:
        outputs.watch(8, Replica(z_D - 1.0), Verdict({"robust_error": 1.0}, None))
        assert not (tmp_path / "model.safetensors").exists()
        outputs.watch(9, Replica(z_D), Verdict({"robust_error": 1.0}, "max_rounds"))
    plain = VisionTransformer(8, patch=2, shape=SHAPES["tiny"], seed=5)
    plain.load_state_dict(load_file(tmp_path / "model.safetensors"))
    x = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.eval()(x), problem.module(z_D)["model"](x))
    assert (tmp_path / "pictures" / "attacked.png").is_file()


def test_tied_weights_buffers_and_models_that_save_themselves(tmp_path: Path) -> None:
    game = ModuleGame(
        build=lambda: {"a": Tied(), "b": Pretrained(2, 1)},
        loss=lambda players, batch, chance: sum(p.square().sum() for player in players.values() for p in player.parameters()),
        data=((np.ones(2),),),
    )
    paths = write_modules(game, game.start(), tmp_path)
    assert [path.name for path in paths] == ["a.safetensors", "b"]
    found = load_file(paths[0])
    assert sorted(found) == ["count", "first.bias", "first.weight", "second.weight"]
    assert torch.equal(found["second.weight"], found["first.weight"])
    Tied().load_state_dict(found)
    assert (paths[1] / "config.json").is_file()


def test_modules_are_written_where_they_are_and_as_the_library_writes_them(tmp_path: Path) -> None:
    game = ModuleGame(
        build=lambda: {"a": Tied()},
        loss=lambda players, batch, chance: sum(p.square().sum() for p in players["a"].parameters()),
        data=((np.ones(2),),),
    )
    z_D = game.start_narrow()
    copied: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModuleGame, "module", lambda self, z_D: copied.append(z_D))
        (path,) = write_modules(game, z_D, tmp_path)
    assert not copied
    tensors = {name: tensor.clone() for name, tensor in game.module(z_D)["a"].state_dict().items()}
    assert path.read_bytes() == save(tensors)
