"""One line in loops that others wrote: Accelerate's and Lightning's own, linked with a plain loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import saddlebag as sb
from saddlebag.errors import ConfigError
from tests.launch.link.test_link import AVERAGE, Hosted, together

if TYPE_CHECKING:
    from pathlib import Path

STEPS, EVERY, ROWS = 4, 2, 8


def network() -> nn.Linear:
    layer = nn.Linear(4, 1)
    nn.init.constant_(layer.weight, 0.1)
    nn.init.zeros_(layer.bias)
    return layer


def loader(seed: int, steps: int = STEPS) -> DataLoader[Any]:
    x = torch.randn(steps * ROWS, 4, generator=torch.Generator().manual_seed(seed))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=ROWS)


def loss_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ((model(x) - y) ** 2).mean()


def plain(address: str, model: nn.Module, *, rank: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with sb.join(address, model, optimizer, method=AVERAGE, every=EVERY, rank=rank) as link:
        for x, y in loader(rank):
            optimizer.zero_grad()
            loss_of(model, x, y).backward()
            optimizer.step()
            link.step()


@pytest.mark.filterwarnings("ignore")  # of its many libraries
def test_a_loop_of_accelerate_is_linked_by_one_line_and_accumulation_is_seen(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")

    def program(address: str) -> nn.Module:
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
        model, halves = network(), DataLoader(loader(0).dataset, batch_size=ROWS // 2)
        model, optimizer, data = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1), halves)
        with sb.join(address, model, optimizer, method=AVERAGE, every=EVERY, rank=0, hook=True):
            for x, y in data:
                with accelerator.accumulate(model):
                    accelerator.backward(loss_of(model, x, y))
                    optimizer.step()
                    optimizer.zero_grad()
        return accelerator.unwrap_model(model)

    ends = []
    for name in ("accelerate", "plain"):
        served, models = Hosted(tmp_path / name), [network(), network()]

        def zero(served: Hosted = served, models: list[nn.Linear] = models, name: str = name) -> None:
            if name == "plain":
                plain(served.address, models[0], rank=0)
            else:
                models[0].load_state_dict(program(served.address).state_dict())

        together([zero, lambda served=served, models=models: plain(served.address, models[1], rank=1)])  # type: ignore[misc]
        assert served.end()["rounds"] == STEPS // EVERY
        assert torch.equal(models[0].weight, models[1].weight)
        ends.append(models[0].weight.detach().clone())
    assert torch.allclose(*ends, rtol=0, atol=1e-6), "halves are added in another order"


@pytest.mark.filterwarnings("ignore")  # of its many libraries
def test_lightning_is_linked_by_one_line_and_resumes(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")

    class Module(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = network()

        def forward(self, x: torch.Tensor) -> Any:
            return self.layer(x)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return loss_of(self, *batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    def trainer(address: str, **given: Any) -> Any:
        callback = sb.LightningLink(address, method=AVERAGE, every=EVERY, rank=0)
        quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        return lightning.Trainer(
            accelerator="cpu", devices=1, callbacks=[callback], enable_checkpointing=False, **quiet, **given
        )

    class Stop(lightning.Callback):  # type: ignore[misc,name-defined]
        def on_train_batch_end(self, trainer: Any, module: Any, *others: Any) -> None:
            if trainer.global_step == 3:
                trainer.save_checkpoint(tmp_path / "kept.ckpt")
                raise KeyError("killed")

    def program(address: str) -> nn.Module:
        killed = trainer(address, max_steps=STEPS)
        killed.callbacks.append(Stop())
        with pytest.raises(KeyError, match="killed"):
            killed.fit(Module(), loader(0))
        module = Module()
        trainer(address, max_steps=STEPS).fit(module, loader(0), ckpt_path=tmp_path / "kept.ckpt")
        return module.layer

    served, models = Hosted(tmp_path / "run"), [network(), Module()]
    together(
        [
            lambda: models[0].load_state_dict(program(served.address).state_dict()),
            lambda: plain(served.address, models[1], rank=1),
        ]
    )
    assert served.end()["rounds"] == STEPS // EVERY
    assert torch.equal(models[0].weight, models[1].layer.weight)


def test_a_hook_needs_an_optimizer_of_torch() -> None:
    with pytest.raises(ConfigError, match=r"hook needs an optimizer of torch, got NoneType; call link.step after each step"):
        sb.join("localhost:1", network(), None, rank=0, hook=True)


def test_names_stand_without_the_libraries_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks through all names of the package, such as help, finds them; what is missing is said where one is made."""
    from saddlebag.launch.link import lightning, trainer

    monkeypatch.setattr(lightning, "Callback", object)
    monkeypatch.setattr(trainer, "TrainerCallback", object)
    with pytest.raises(ConfigError, match="install lightning"):
        sb.LightningLink("server:7070")
    with pytest.raises(ConfigError, match="install transformers"):
        sb.LinkCallback("server:7070")
