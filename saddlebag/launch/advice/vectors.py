"""Vectors to try compressors on: synthetic ones, and tensors of a safetensors file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

from saddlebag.errors import ConfigError, DataError, check_choice, reason_of

if TYPE_CHECKING:
    from pathlib import Path

    from saddlebag.compression import Vector

__all__ = ["Law", "read_vector", "synthetic", "vector_of"]

Law = Literal["gaussian", "heavy", "uniform"]
_NAMES = {"gaussian": "a gaussian vector", "heavy": "a heavy-tailed vector", "uniform": "a uniform vector"}
MOST = 2**31
"""Coordinates: 16 GiB in float64."""


def synthetic(law: Law, d: int, seed: int = 0) -> Vector:
    """Independent entries, float32, shape (d,): normal numbers, their cubes (heavy tails), or uniform in (-1, 1).

    Raises:
        ConfigError: the law is unknown, or `d` out of range.
    """
    if not 1 <= d <= MOST:
        raise ConfigError(f"d must lie in [1, {MOST}], got {d}")
    check_choice("vector", law, get_args(Law))
    rng = np.random.default_rng(seed)
    if law == "uniform":
        return 2 * rng.random(d, np.float32) - 1
    x_D = rng.standard_normal(d, np.float32)
    return x_D if law == "gaussian" else x_D**3


def read_vector(path: Path, tensor: str | None = None) -> Vector:
    """A tensor of a safetensors file as a flat vector, or all its float tensors, in the order of their names.

    Raises:
        DataError: the file cannot be read, has no such tensor, or no floats.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            names = sorted(file.keys())
            if tensor is not None and tensor not in names:
                raise DataError(f"{path} has no tensor {tensor!r}; it holds {_some(names)}")
            parts = [_flat(file, path, name) for name in ([tensor] if tensor is not None else names)]
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read: {reason_of(error)}") from error
    floats = [part for part in parts if part is not None and len(part)]
    if not floats:
        raise DataError(f"{path}: {tensor or 'every tensor'} is empty or holds no floats")
    return floats[0] if len(floats) == 1 else np.concatenate(floats)


def vector_of(source: Path | None, tensor: str | None, law: str | None, d: int | None) -> tuple[Vector, str]:
    """The vector that options of a command line describe, and its name for people.

    Raises:
        ConfigError: the options contradict each other.
        DataError: the file cannot be read.
    """
    if source is None:
        if tensor is not None:
            raise ConfigError("--tensor names a tensor of the file in --from, which is not given")
        return synthetic(cast("Law", law or "gaussian"), d or 1_000_000), _NAMES[law or "gaussian"]
    if law is not None or d is not None:
        raise ConfigError("--from takes the vector from a file; --vector and --d describe a synthetic one")
    return read_vector(source, tensor), f"{source.name}{f', {tensor}' if tensor else ''}"


def _flat(file: Any, path: Path, name: str) -> Vector | None:
    view = file.get_slice(name)
    if view.get_dtype() == "BF16":  # numpy has no such type
        return _bfloat16(path, name)
    if view.get_dtype().startswith(("F8_", "F6_", "F4")):
        raise DataError(
            f"{path}: tensor {name!r} holds {view.get_dtype()}: floats of 8 bits or fewer mean nothing without their scales; "
            "save it as bfloat16 or float32, or name another with --tensor"
        )
    if view.get_dtype() not in ("F16", "F32", "F64"):
        return None
    flat: Vector = file.get_tensor(name).reshape(-1)
    return flat if math.prod(view.get_shape()) else None


def _bfloat16(path: Path, name: str) -> Vector:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        flat: Vector = file.get_tensor(name).float().reshape(-1).numpy()
        return flat


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
