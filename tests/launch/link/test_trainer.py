"""Hugging Face's own Trainer, linked with a plain loop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import saddlebag as sb
from tests.launch.link.test_link import AVERAGE, Hosted, together

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate, which is not installed")

STEPS, EVERY = 6, 2


class Regression(nn.Module):
    """As models of transformers: a loss comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        nn.init.constant_(self.layer.weight, 0.1)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        guess = self.layer(x).squeeze(1)
        return {"loss": ((guess - labels) ** 2).mean(), "logits": guess}


def rows(seed: int) -> list[dict[str, Any]]:
    x_ND = np.random.default_rng(seed).standard_normal((64, 4)).astype(np.float32)
    return [{"x": x_D, "labels": x_D.sum()} for x_D in x_ND]


@pytest.mark.filterwarnings("ignore")  # of its many libraries
def test_a_trainer_is_linked_by_one_line_and_resumes(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    served = Hosted(tmp_path / "run")
    models = [Regression(), Regression()]
    half = threading.Event()

    def plain() -> None:
        optimizer = torch.optim.SGD(models[1].parameters(), 0.1)
        with sb.join(served.address, models[1], optimizer, method=AVERAGE, every=EVERY, rank=1) as link:
            data = rows(1)
            for step in range(STEPS):
                part = data[8 * step : 8 * step + 8]
                x, y = (torch.from_numpy(np.stack([row[key] for row in part])) for key in ("x", "labels"))
                optimizer.zero_grad()
                models[1](x, y)["loss"].backward()
                optimizer.step()
                link.step()

    def trained() -> None:
        given: dict[str, Any] = {"output_dir": str(tmp_path / "trainer"), "per_device_train_batch_size": 8, "max_steps": STEPS}
        given |= {"save_steps": 3, "report_to": [], "disable_tqdm": True, "use_cpu": True, "learning_rate": 0.05}
        callback = sb.LinkCallback(served.address, method=AVERAGE, every=EVERY, rank=0)
        first = Trainer(model=models[0], args=TrainingArguments(**given), train_dataset=rows(0), callbacks=[callback, _Stop()])
        with pytest.raises(InterruptedError):
            first.train()
        assert callback.link is not None
        callback.link.drop()
        again = sb.LinkCallback(served.address, method=AVERAGE, every=EVERY, rank=0)
        models[0] = Regression()
        second = Trainer(model=models[0], args=TrainingArguments(**given), train_dataset=rows(0), callbacks=[again])
        second.train(resume_from_checkpoint=True)
        half.set()

    class _Stop(sb.LinkCallback.__mro__[1]):  # type: ignore[misc]  # transformers' TrainerCallback
        def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            if state.global_step == 4:
                raise InterruptedError

    together([plain, trained])
    assert half.is_set()
    assert served.end()["rounds"] == STEPS // EVERY
    assert torch.equal(models[0].layer.weight, models[1].layer.weight)
