"""The networks of a run as files that load into the plain models: safetensors under the names of their own `state_dict`.

A problem made of modules offers them by a method beside those of `Problem`:

    def module(self, z_D: Vector) -> Mapping[str, nn.Module]:     players by name, at z

and, where models of transformers want one beside them, an attribute `tokenizer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saddlebag.proto.checkpoint import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from saddlebag.algorithms.base import Problem
    from saddlebag.compression.payload import Vector

__all__ = ["offers_modules", "write_modules"]


def offers_modules(problem: Problem) -> bool:
    """Whether the problem has plain modules to give away."""
    return callable(getattr(problem, "module", None))


def write_modules(problem: Problem, z_D: Vector, folder: Path) -> list[Path]:
    """Write each module at z: folder/name.safetensors, or the folder that its own `save_pretrained` writes.

    The file holds every name of the module's `state_dict`, tied ones too, so it loads by

        module.load_state_dict(safetensors.torch.load_file(path))

    Returns:
        What was written.
    """
    modules: Mapping[str, Any] = getattr(problem, "module")(z_D)  # noqa: B009 (no part of the protocol)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, module in modules.items():
        if callable(getattr(module, "save_pretrained", None)):  # of the library transformers: with its configuration
            path = folder / name
            module.save_pretrained(path)
            tokenizer = getattr(problem, "tokenizer", None)
            if tokenizer is not None:
                tokenizer.save_pretrained(path)
        else:
            path = folder / f"{name}.safetensors"
            write_atomically(path, _pack(module))
        written.append(path)
    return written


def _pack(module: Any) -> bytes:
    import safetensors.torch  # here, for torch

    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
    packed: bytes = safetensors.torch.save(tensors)
    return packed
