"""The parameters of modules as one vector that they share memory with.

Shapes: D = parameters.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.parameter import UninitializedParameter

from saddlebag.compression.combinators.per_tensor import Tensor
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

    from saddlebag.compression.payload import Vector


class FlatModules:
    """Named modules whose parameters are views of one buffer.

    So writing z is one cast. Tied parameters count once, under their first name. The modules are changed: their parameters
    move into the buffer, or become views of z itself where it is held on the host in their type. Gradients are autograd's own
    until `gradient` gathers them: a buffer that they were added to would be there beside those of layers that share weights.

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
        self._parameters = tuple(named)
        self._value_D = torch.empty(self.dimension, dtype=dtype, device=device)
        self._shared: Vector | None = None  # whose memory the parameters are, where it is not ours
        for parameter, here in self._places():
            self._value_D[here] = parameter.detach().reshape(-1)
        self._bind(self._value_D)

    @property
    def dimension(self) -> int:
        """D."""
        return sum(tensor.size for tensor in self.tensors)

    def _places(self) -> Iterator[tuple[nn.Parameter, slice]]:
        start = 0
        for parameter in self._parameters:
            yield parameter, slice(start, start := start + parameter.numel())

    def _bind(self, value_D: torch.Tensor) -> None:
        """Make the parameters views of this vector."""
        self._value_D = value_D
        for parameter, here in self._places():
            parameter.data = value_D[here].view(parameter.shape)

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

    @property
    def point(self) -> torch.Tensor:
        """The parameters as they are, (D,), where the modules are: their own memory."""
        return self._value_D

    @contextlib.contextmanager
    def disturbed(self) -> Iterator[None]:
        """Around what is to see other parameters: those with one bit flipped, which takes no memory and leaves no trace."""
        kind, bit = (torch.int64, 51) if self._value_D.dtype == torch.float64 else (torch.int32, 22)
        bits_D, flipped = self._value_D.view(kind), 1 << bit  # the highest of the fraction: no number becomes infinite
        bits_D ^= flipped
        try:
            yield
        finally:
            bits_D ^= flipped

    def sizes(self) -> dict[str, int]:
        """How many coordinates each module has, in the order of the vector."""
        return {player: sum(p.numel() for p in parameters) for player, parameters in self._owned.items()}

    def load(self, z_D: Vector | torch.Tensor) -> None:
        """Set the parameters, from the host or from any device: one casting write, or none where they can be z itself.

        Until the next call z must not be changed while modules compute.
        """
        if z_D is self._value_D:
            return
        if isinstance(z_D, np.ndarray) and self._holds(z_D):
            if z_D is not self._shared:
                self._shared = z_D
                self._bind(torch.from_numpy(z_D))
            return
        if self._shared is not None:
            self._shared = None
            self._bind(torch.empty_like(self._value_D))
        with torch.no_grad():
            self._value_D.copy_(torch.as_tensor(z_D))

    def _holds(self, z_D: Vector) -> bool:
        """Whether the parameters can be views of z."""
        plain = z_D.dtype == np.float32 and z_D.flags.c_contiguous and z_D.flags.writeable
        return (
            plain and len(z_D) == self.dimension and self._value_D.dtype == torch.float32 and self._value_D.device.type == "cpu"
        )

    def clear(self) -> None:
        """Forget gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def give(self) -> Vector:
        """The parameters as they are, in their type, (D,): their own memory, for one who has no more use for the modules."""
        given_D: Vector = self._value_D.cpu().numpy()
        return given_D

    def value(self) -> Vector:
        """The parameters as they are, float64 (D,)."""
        return self._value_D.cpu().numpy().astype(np.float64)

    def gradient(self, parts: int = 1) -> torch.Tensor:
        """The mean over what so many backward passes have added up since `clear`, (D,), where the modules are.

        Of their dtype where it is one pass, float64 otherwise. It is given away: the modules have no gradient after it.
        Tensor by tensor moves into it, and is freed: the memory of both is never there at once.
        """
        gradient_D = torch.empty_like(self._value_D)
        with torch.no_grad():
            for parameter, here in self._places():
                part, found = gradient_D[here].view(parameter.shape), parameter.grad
                parameter.grad = None
                if found is None:
                    part.zero_()
                else:  # as if added to zeros: -0 becomes 0
                    torch.add(found.to_dense() if found.is_sparse else found, 0.0, out=part)
                del found
        return gradient_D if parts == 1 else gradient_D.to(torch.float64).div_(parts)

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
