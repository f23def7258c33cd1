"""A model's parameters, and its buffers where asked, as one vector of what travels.

Shapes: D = all of it: parameters, then buffers.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from saddlebag.client.ddp.checks import unwrapped
from saddlebag.compression import Tensor
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression import Vector

__all__ = ["ModelVector"]


class ModelVector:
    """The tensors of a model that programs agree on.

    Frozen parameters stay out, tied ones count once, and so do all that `optimizer` does not move. Values keep their types: a
    bfloat16 parameter holds the nearest bfloat16 of what was agreed.

    Args:
        model: a module, compiled or not, in a `DistributedDataParallel` or not.
        optimizer: with `param_groups`; None for every parameter that requires a gradient.
        buffers: whether floating buffers (moving means and variances of normalisation) are part of it.

    Attributes:
        parameters, buffers: what the vector consists of, in order.

    Raises:
        ConfigError: nothing moves, the optimizer moves what the model does not have, a parameter is complex, or it is sharded.
    """

    def __init__(self, model: torch.nn.Module, optimizer: Any | None, *, buffers: bool) -> None:
        plain = _plain(model)
        named = {name: value for name, value in plain.named_parameters() if value.requires_grad}
        if optimizer is not None:
            moved = {id(value) for group in optimizer.param_groups for value in group["params"] if value.requires_grad}
            strange = len(moved - {id(value) for value in named.values()})
            if strange:
                raise ConfigError(
                    f"the optimizer moves {strange} parameters that the model does not have; link the whole model"
                )
            named = {name: value for name, value in named.items() if id(value) in moved}
        for name, value in named.items():
            _require_whole(name, value)
        if not named:
            raise ConfigError("there is nothing to link: no parameter of the model requires a gradient and is the optimizer's")
        kept = {name: value for name, value in plain.named_buffers() if value.is_floating_point()} if buffers else {}
        self._held = [*named.values(), *kept.values()]
        self.parameters = tuple(Tensor(name, tuple(value.shape)) for name, value in named.items())
        self.buffers = tuple(Tensor(name, tuple(value.shape)) for name, value in kept.items())

    @property
    def _values(self) -> list[torch.Tensor]:
        """The tensors as they are now: a program may have given a parameter other memory (`parameter.data = ...`)."""
        return [value.detach() for value in self._held]

    def read(self) -> Vector:
        """What is in the model now, float64 (D,)."""
        return np.concatenate([value.to("cpu", torch.float64).reshape(-1).numpy() for value in self._values])

    def write(self, z_D: Vector) -> None:
        """Put a vector into the model, each value in the type of its tensor."""
        at = 0
        for value in self._values:
            part = torch.from_numpy(np.ascontiguousarray(z_D[at : at + value.numel()]))
            value.copy_(part.reshape(value.shape))
            at += value.numel()

    def spread(self) -> None:
        """Give the tensors of rank 0 of this process group to all its ranks."""
        for value in self._values:
            torch.distributed.broadcast(value, 0)

    def spread_number(self, number: int) -> int:
        """Rank 0's number, on all ranks."""
        told = torch.tensor(number, device=self._values[0].device)
        torch.distributed.broadcast(told, 0)
        return int(told)


def _plain(model: torch.nn.Module) -> torch.nn.Module:
    """The network inside wrappers of torch.compile and DDP.

    Raises:
        ConfigError: it is no module, or FSDP shards it.
    """
    inner: Any = unwrapped(model)
    if isinstance(inner, torch.nn.parallel.DistributedDataParallel):
        inner = unwrapped(inner.module)
    if not isinstance(inner, torch.nn.Module):
        raise ConfigError(f"a link needs a torch.nn.Module, got {type(inner).__name__}")
    return inner


def _require_whole(name: str, value: torch.Tensor) -> None:
    """Refuse what a link cannot exchange: complex values, shards of FSDP."""
    if value.is_complex():
        raise ConfigError(f"a link exchanges real numbers, and parameter {name!r} is {value.dtype}: keep two real ones")
    sharded = sys.modules.get("torch.distributed.tensor")
    if type(value).__name__ == "FlatParameter" or (sharded is not None and isinstance(value, sharded.DTensor)):
        raise ConfigError(
            f"parameter {name!r} is a shard (FSDP): a link needs whole parameters on its leader; use DistributedDataParallel"
        )
