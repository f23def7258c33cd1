"""Torch modules as learners: one module for each group, trained by a step of an optimiser in each of its rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.groupwise import ObjectLearner
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.groupwise.base import Array


def module_learner(
    make: Callable[[], Any],
    *,
    loss: Callable[[Any, Any], Any] | None = None,
    optimizer: Callable[[Any], Any] | None = None,
    steps: int = 1,
) -> ObjectLearner:
    """A learner from torch modules that map (1, D) to one number.

    Modules predict in evaluation mode and learn in training mode. Torch is imported when a learner is made.

    Args:
        make: a new module; seed its initial values inside if runs are to repeat.
        loss: (prediction, label) -> scalar tensor; squared error by default.
        optimizer: parameters -> `torch.optim.Optimizer`; SGD with step 0.05 by default.
        steps: of the optimiser in each round.

    Raises:
        ConfigError: `steps` is less than 1.
    """
    import torch

    if steps < 1:
        raise ConfigError(f"steps must be at least 1, got {steps}")
    criterion = loss or torch.nn.functional.mse_loss
    new_optimizer = optimizer or (lambda parameters: torch.optim.SGD(parameters, lr=0.05))

    def build() -> tuple[Any, Any]:
        module = make()
        return module, new_optimizer(module.parameters())

    def step(model: tuple[Any, Any], x: Array, y: Any) -> None:
        module, descent = model
        module.train()
        inputs = _row(module, x)
        for _ in range(steps):
            descent.zero_grad()
            prediction = module(inputs).reshape(())
            criterion(prediction, torch.as_tensor(float(y), dtype=prediction.dtype)).backward()
            descent.step()

    return ObjectLearner(make=build, answer=_answer, step=step)


def _row(module: Any, x: Array) -> Any:
    """The features as a batch of one, in the module's type."""
    import torch

    return torch.as_tensor(x[None, :], dtype=next(module.parameters()).dtype)


def _answer(model: tuple[Any, Any], x: Array) -> float:
    """What the module says in evaluation mode."""
    import torch

    module, _ = model
    was_training = module.training
    module.eval()
    with torch.no_grad():
        value = float(module(_row(module, x)))
    module.train(was_training)
    return value
