"""What `attach` makes sure of before the first step: gradients that the hook can average, and ranks that mean the same.

A wrong argument on one rank would else drift the replicas silently, or leave the others waiting for messages of another form.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping

    from torch.nn.parallel import DistributedDataParallel

    from saddlebag.client.ddp.exchange import Ranks

__all__ = ["agree", "check_parameters", "described", "named_parameters", "timeout_of", "unwrapped"]

_DIGEST = 16  # bytes for each fact
_TEXT = 240  # bytes of a refusal that travel
_DEEPEST = 8  # values within values; bounds the recursion


def unwrapped(model: Any) -> Any:
    """The model inside `torch.compile`'s wrapper, or the model itself."""
    return getattr(model, "_orig_mod", model)


def named_parameters(model: DistributedDataParallel) -> dict[str, torch.nn.Parameter]:
    """The parameters that DDP averages, by their names in the network, whether it was compiled or not."""
    return {
        name.replace("_orig_mod.", ""): value
        for name, value in model.module.named_parameters()
        if value.requires_grad and name not in model.parameters_to_ignore
    }


def check_parameters(model: DistributedDataParallel) -> None:
    """Refuse parameters whose gradients the hook cannot average.

    Raises:
        ConfigError: one is complex, or an embedding gives sparse gradients.
    """
    names = {id(value): name for name, value in named_parameters(model).items()}
    for name, value in named_parameters(model).items():
        if value.is_complex():
            raise ConfigError(
                f"the hook compresses real gradients, and parameter {name!r} is {value.dtype}: keep two real ones"
            )
    for module in model.module.modules():  # as DDP itself looks for them
        if isinstance(module, torch.nn.Embedding | torch.nn.EmbeddingBag) and module.sparse and id(module.weight) in names:
            raise ConfigError(
                f"the hook compresses dense gradients, and those of parameter {names[id(module.weight)]!r} are sparse: "
                f"make its {type(module).__name__} with sparse=False"
            )


def timeout_of(group: dist.ProcessGroup) -> datetime.timedelta | None:
    """What the user gave `init_process_group` or `new_group`, for whatever backend; the shortest where there are several.

    None, which is torch's default, where no backend of the group tells its own.
    """
    found = []
    for device in group._device_types:
        with contextlib.suppress(RuntimeError):  # a backend without options, such as MPI
            found.append(group._get_backend(device).options._timeout)
    return min(found, default=None)


def described(value: object, depth: int = _DEEPEST) -> str:
    """A text that is equal on two machines where the values are: of types and fields, never of addresses.

    Example:
        >>> from saddlebag.compression import TopK
        >>> described(TopK(k=3))
        'TopK(k=3, fraction=None)'
    """
    if depth == 0 or value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value) if depth else type(value).__qualname__
    deeper = depth - 1
    if isinstance(value, np.generic):
        return described(value.item(), depth)
    if isinstance(value, np.ndarray | torch.Tensor):
        array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value)
        return f"{array.dtype}{array.shape}:{hashlib.sha256(array.tobytes()).hexdigest()}"
    if isinstance(value, dict):
        items = (f"{described(key, deeper)}: {described(item, deeper)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(described(item, deeper) for item in value)}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(described(item, deeper) for item in value))}}}"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    else:
        fields = dict(vars(value)) if hasattr(value, "__dict__") else {}
    return f"{type(value).__qualname__}({', '.join(f'{name}={described(item, deeper)}' for name, item in fields.items())})"


def agree(ranks: Ranks, facts: Mapping[str, object], refusal: Exception | None) -> None:
    """Compare what every rank was given, by one gather; a rank's refusal is a refusal of all.

    Args:
        ranks: all of them call this.
        facts: what must be alike, by the name of each; the names themselves are alike.
        refusal: why this rank will not take part, or None.

    Raises:
        ConfigError: the facts differ, or another rank refuses; the first fact that does is named, with the value here.
        Exception: `refusal` itself.
    """
    digests = b"".join(hashlib.blake2b(described(value).encode(), digest_size=_DIGEST).digest() for value in facts.values())
    text = f"{type(refusal).__name__}: {refusal}" if refusal else ""
    said = text.encode()[:_TEXT].decode(errors="ignore").encode().ljust(_TEXT, b"\0")
    rows = ranks.rows(digests + said)
    if refusal is not None:
        raise refusal
    for rank, row in enumerate(rows):
        if other := row[len(digests) :].rstrip(b"\0").decode(errors="replace"):
            raise ConfigError(f"rank {rank} refuses to attach: {other}")
    for number, (name, value) in enumerate(facts.items()):
        own = [row[number * _DIGEST : (number + 1) * _DIGEST] for row in rows]
        for rank, digest in enumerate(own):
            if digest != own[0]:
                here = described(value)
                raise ConfigError(
                    f"all ranks must attach alike, and {name} of rank {rank} differs from that of rank 0; "
                    f"on rank {ranks.rank} it is {here if len(here) <= _TEXT else here[:_TEXT] + '...'}"
                )
