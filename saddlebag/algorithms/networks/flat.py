"""The parameters of modules as one vector that they share memory with.

Shapes: D = parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.parameter import UninitializedParameter

from saddlebag.compression.combinators.per_tensor import Tensor
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from saddlebag.compression.payload import Vector

__all__ = ["FlatModules"]


class FlatModules:
    """Named modules whose parameters are views of one buffer, and whose gradients are views of another.

    So writing z is one cast, and backward leaves the flat gradient without gathering. Tied parameters count once, under
    their first name. The modules are changed: their parameters move into the buffer.

    Args:
        modules: by name; the order is that of the vector.
        dtype: torch.float32 or torch.float64.
        device: where they compute.

    Raises:
        ConfigError: there is no such device, no parameter to train, or one whose shape is not known yet.
    """

    def __init__(self, modules: Mapping[str, nn.Module], *, dtype: torch.dtype, device: str = "cpu") -> None:
        _require(device)
        self.modules = {name: module.to(device=device, dtype=dtype) for name, module in modules.items()}
        named: dict[nn.Parameter, str] = {}
        self._owned: dict[str, list[nn.Parameter]] = {name: [] for name in self.modules}
        for player, module in self.modules.items():
            for name, parameter in module.named_parameters():
                if isinstance(parameter, UninitializedParameter):
                    raise ConfigError(
                        f"modules must know their shapes, got the lazy {player}.{name}; call the module once in build"
                    )
                if parameter.requires_grad and parameter not in named:
                    named[parameter] = f"{player}.{name}"
                    self._owned[player].append(parameter)
        if not named:
            raise ConfigError("modules must have a parameter that requires a gradient, got none")
        self.tensors = tuple(Tensor(name, tuple(parameter.shape) or (1,)) for parameter, name in named.items())
        self._written = {name: (buffer, buffer._version) for name, buffer in self.buffers().items()}
        self._value_D = torch.empty(sum(tensor.size for tensor in self.tensors), dtype=dtype, device=device)
        self._gradient_D = torch.zeros_like(self._value_D)
        start = 0
        for parameter in named:
            here = slice(start, start := start + parameter.numel())
            self._value_D[here] = parameter.detach().reshape(-1)
            parameter.data = self._value_D[here].view(parameter.shape)
            parameter.grad = self._gradient_D[here].view(parameter.shape)

    @property
    def dimension(self) -> int:
        """D."""
        return len(self._value_D)

    def parameters_of(self, player: str) -> list[nn.Parameter]:
        """The parameters of one of the modules."""
        return self._owned[player]

    def buffers(self) -> dict[str, torch.Tensor]:
        """All buffers by player and name."""
        found = (
            (f"{player}.{name}", buffer) for player, module in self.modules.items() for name, buffer in module.named_buffers()
        )
        return dict(found)

    def require_unwritten(self) -> None:
        """Raise `ConfigError` when a buffer was written since the modules came here: they would be no function of z."""
        for name, buffer in self.buffers().items():
            if name not in self._written or self._written[name][0] is not buffer or self._written[name][1] != buffer._version:
                raise ConfigError(self.refusal(name))

    def refusal(self, name: str) -> str:
        """Why the modules are refused when a buffer is written by forward."""
        player, _, inside = name.partition(".")
        kind = type(self.modules[player].get_submodule(inside.rpartition(".")[0])).__name__
        return (
            f"modules must not keep running statistics or other buffers that forward writes, got {name} of {kind}; "
            "use LayerNorm or GroupNorm, track_running_stats=False, or weight_norm"
        )

    def point(self) -> torch.Tensor:
        """A copy of the parameters, (D,), where the modules are."""
        return self._value_D.clone()

    def sizes(self) -> dict[str, int]:
        """How many coordinates each module has, in the order of the vector."""
        return {player: sum(p.numel() for p in parameters) for player, parameters in self._owned.items()}

    def load(self, z_D: Vector | torch.Tensor) -> None:
        """Set the parameters, from the host or from any device: one casting write. The gradient becomes zero."""
        with torch.no_grad():
            self._value_D.copy_(torch.as_tensor(z_D))
            self._gradient_D.zero_()

    def value(self) -> Vector:
        """The parameters as they are, float64 (D,)."""
        return self._value_D.cpu().numpy().astype(np.float64)

    def gradient(self, parts: int = 1) -> torch.Tensor:
        """The mean over what so many backward passes have added up since `load`, (D,), where the modules are.

        A copy of their dtype where it is one, float64 otherwise.
        """
        if parts == 1:
            return self._gradient_D.clone()
        return self._gradient_D.to(torch.float64, copy=True).div_(parts)

    def train(self, mode: bool) -> None:
        """Put every module into training mode, or else evaluation mode."""
        for module in self.modules.values():
            module.train(mode)

    def signs(self, negative: frozenset[str]) -> torch.Tensor:
        """-1 at the parameters of some of the modules and 1 at the others, (D,), like the parameters."""
        signs = [np.full(size, -1.0 if player in negative else 1.0) for player, size in self.sizes().items()]
        return torch.from_numpy(np.concatenate(signs)).to(self._value_D)


def _require(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the second where torch was built without the kind
        raise ConfigError(f"device must be one that torch has here, such as cpu or cuda:0, got {device!r}") from error
